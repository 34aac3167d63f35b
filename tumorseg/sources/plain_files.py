"""Image files without any layout: `<id>`, of as many volumes as there are channels, or `<id>_0000`, `<id>_0001`, …."""

import logging
from collections.abc import Iterable
from pathlib import Path

from tumorseg.errors import InputError
from tumorseg.schema.dataset import Case, ImageFile
from tumorseg.sources.channel_matching import Matched, Wanted, wrong_channels
from tumorseg.sources.folders import build_case, image_files, image_id, split_channel
from tumorseg.sources.layouts import unknown_layout
from tumorseg.sources.pair_names import is_label_by_nature
from tumorseg.storage.images import ENDINGS, read_geometry, strip_ending
from tumorseg.workers.outcomes import Failure

logger = logging.getLogger(__name__)


def plain_files(path: Path) -> list[Path]:
    """Return the image files of a folder, or the file that a path is; one that is not there fails with its case.

    Raises:
        InputError: the folder holds none, or the file is no image by its name.
    """
    if path.is_dir() and (files := image_files(path)):
        return files
    if strip_ending(path.name) is not None:
        return [path]
    if path.is_dir():
        raise unknown_layout(path)
    raise InputError(
        f"unsupported file; expected DICOM, {', '.join(ENDINGS)}, a folder, or a .csv or .json manifest", file=path
    )


def without_labels(files: Iterable[Path]) -> list[Path]:
    """Return files, each once, without those that hold labels by their format; these are reported."""
    images = []
    for file in dict.fromkeys(files):
        if is_label_by_nature(file):
            logger.warning("%s: holds a segmentation, no image, and is left out", file)
        else:
            images.append(file)
    return images


def plain_cases(folder: Path, files: list[Path], wanted: Wanted) -> Matched:
    """Return the cases of plain files that lie in one folder."""
    cases: list[Case] = []
    refused: list[Failure] = []
    parts: list[Path] = []
    count = len(wanted.names)
    first_parts: set[str] = set()
    for file in files:
        named = split_channel(image_id(file))
        if named is not None and named[1] == 0:
            first_parts.add(named[0])
    for file in files:
        num_volumes = _count_volumes(file, count)
        named = split_channel(image_id(file))
        # An id may end in four digits; among files of one channel each, only <id>_0000 makes others parts.
        is_part = num_volumes == 1 and named is not None and (count > 1 or named[0] in first_parts)
        if is_part:
            parts.append(file)
        elif num_volumes == count:
            cases.append(_whole_case(file, count))
        else:
            refused.append(wrong_channels(image_id(file), f"{num_volumes} channel(s)", wanted))
    joined = _joined_cases(folder, parts, wanted)
    return Matched([*cases, *joined.cases], [*refused, *joined.refused])


def _count_volumes(file: Path, num_channels: int) -> int:
    """Return a file's number of volumes by its header; what is unreadable is taken for what its name says."""
    try:
        return read_geometry(str(file)).num_volumes
    except InputError:
        return 1 if split_channel(image_id(file)) else num_channels


def _whole_case(file: Path, num_channels: int) -> Case:
    # A file of one channel has no axis of channels to index.
    indices = range(num_channels) if num_channels > 1 else [None]
    images = [ImageFile(path=str(file), index=index) for index in indices]
    return build_case(file.parent, case_id=image_id(file), images=images)


def _joined_cases(folder: Path, files: list[Path], wanted: Wanted) -> Matched:
    """Return a case per `<id>` of files `<id>_<number>`, which must be numbered 0000 to the last channel, each once."""
    numbered: dict[str, dict[int, list[Path]]] = {}
    for file in files:
        if named := split_channel(image_id(file)):
            numbered.setdefault(named[0], {}).setdefault(named[1], []).append(file)
    cases, refused = [], []
    for case_id, found in numbered.items():
        rivals: list[str] = []
        for paths in found.values():
            if len(paths) > 1:
                rivals += map(str, paths)
        if rivals:
            message = f"found {' and '.join(rivals)}, expected one file for each channel; move the others away"
            refused.append(Failure(case_id, message))
        elif sorted(found) == list(range(len(wanted.names))):
            images = [ImageFile(path=str(found[number][0])) for number in sorted(found)]
            cases.append(build_case(folder, case_id=case_id, images=images))
        else:
            names = ", ".join(f"_{number:04d}" for number in sorted(found))
            refused.append(wrong_channels(case_id, f"the files {names}", wanted))
    return Matched(cases, refused)
