"""From what `-i` and `-r` say to cases to predict on and label files to score."""

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from tumorseg.errors import InputError
from tumorseg.schema.dataset import Case, ChannelKind, ImageFile, repeated_values
from tumorseg.sources.brats import find_brats_label, is_brats_case, list_brats
from tumorseg.sources.dicom import list_dicom, list_dicom_labels
from tumorseg.sources.folders import Listing, build_case, folder_name, image_files, image_id, split_channel
from tumorseg.sources.layouts import LAYOUTS, find_layout, unknown_layout
from tumorseg.sources.nnunet import has_images
from tumorseg.sources.pair_names import is_label_by_nature
from tumorseg.storage.dicom_files import is_dicom_file
from tumorseg.storage.images import ENDINGS, read_geometry, strip_ending
from tumorseg.workers.outcomes import Failure

logger = logging.getLogger(__name__)


class Inputs(NamedTuple):
    """What `-i` holds."""

    cases: tuple[Case, ...]
    """Sorted by id."""
    refused: tuple[Failure, ...]
    """Cases of another number of channels than the model's."""


def open_inputs(
    paths: Sequence[Path],
    channels: Sequence[str],
    kinds: Sequence[ChannelKind | None] = (),
    *,
    allow_outside: bool = False,
) -> Inputs:
    """Find the cases to predict on.

    A layout that names its channels is matched by name, whatever the case of letters; DICOM also by kind. A plain file of as many volumes
    as there are channels is a case; so are files `<id>_0000`, `<id>_0001`, … of one volume each. A file that cannot be
    read passes here and fails when its own case is predicted, so that it does not stop the others.

    Args:
        paths: image files, dataset folders of any layout, BraTS case folders, plain folders of images, manifests.
        channels: what the model takes, in its order.
        kinds: what made their intensities, as far as known.
        allow_outside: whether a dataset.json may name files outside its folder, itself or by links.

    Raises:
        InputError: a path is missing or holds no image, a layout lacks a channel, or two cases have one id.
    """
    cases: list[Case] = []
    refused: list[Failure] = []
    loose: dict[Path, list[Path]] = {}
    for path in paths:
        if (listing := _list_path(path, allow_outside=allow_outside)) is not None:
            cases += _match_channels(path, listing, channels, kinds=kinds)
        else:
            for file in _plain_files(path):
                loose.setdefault(file.parent, []).append(file)
    for folder, files in loose.items():
        found = _plain_cases(folder, _without_labels(files), channels)
        cases += found.cases
        refused += found.refused
    if loose and not cases and not refused:
        raise InputError(f"{', '.join(map(str, paths))}: found only segmentations, expected images; give the images")
    _check_ids([*(case.case_id for case in cases), *(failure.case_id for failure in refused)])
    return Inputs(tuple(sorted(cases, key=lambda case: case.case_id)), tuple(refused))


def open_labels(paths: Sequence[Path], *, allow_outside: bool = False) -> dict[str, tuple[str, ...]]:
    """Find segmentations to score, or to score against.

    Args:
        paths: as for `open_inputs`; plain files are `<case_id>.nii.gz`.
        allow_outside: as for `open_inputs`.

    Returns:
        Case id to its file, or files where it is DICOM, sorted by id.

    Raises:
        InputError: a path is missing or holds no label, or two labels are of one case.
    """
    found: list[tuple[str, tuple[str, ...]]] = []
    for path in paths:
        if not (labels := list(_labels_of(path, allow_outside=allow_outside))):
            raise InputError(f"{path}: found cases, but no label among them; expected reference segmentations")
        found += labels
    _check_ids(case_id for case_id, _ in found)
    return dict(sorted(found))


def _labels_of(path: Path, *, allow_outside: bool) -> Iterable[tuple[str, tuple[str, ...]]]:
    if is_brats_case(path):
        label = find_brats_label(path)
        return [(folder_name(path), (str(label),))] if label else []
    if _is_dicom_file(path) or find_layout(path) is LAYOUTS["DICOM"]:
        return list_dicom_labels(path)
    if (listing := _list_path(path, allow_outside=allow_outside)) is not None:
        return [(case.case_id, case.label_files) for case in listing.cases if case.label is not None]
    return [(image_id(file), (str(file),)) for file in _plain_files(path)]


def _is_dicom_file(path: Path) -> bool:
    return path.is_file() and strip_ending(path.name) is None and is_dicom_file(path)


def _list_path(path: Path, *, allow_outside: bool) -> Listing | None:
    """Return the cases of a dataset folder, case folder or manifest; None for plain images."""
    if not path.exists():
        raise InputError(f"{path}: no such file or folder; expected images; check the path")
    if is_brats_case(path):
        return list_brats(path)
    if _is_dicom_file(path):
        return list_dicom(path)
    layout = find_layout(path)
    if layout is LAYOUTS["nnU-Net"] and not has_images(path):
        return None
    return layout.list_cases(path, allow_outside=allow_outside) if layout else None


def _plain_files(path: Path) -> list[Path]:
    if path.is_dir():
        if files := image_files(path):
            return files
        raise unknown_layout(path)
    if strip_ending(path.name) is None:
        raise InputError(
            f"{path}: unsupported file; expected DICOM, {', '.join(ENDINGS)}, a folder, or a .csv or .json manifest"
        )
    return [path]


def _without_labels(files: Iterable[Path]) -> list[Path]:
    """Return files, each once, without those that hold labels by their format; these are told."""
    images = []
    for file in dict.fromkeys(files):
        if is_label_by_nature(file):
            logger.warning("%s: holds a segmentation, no image, and is left out", file)
        else:
            images.append(file)
    return images


def _match_channels(
    path: Path, listing: Listing, channels: Sequence[str], *, kinds: Sequence[ChannelKind | None]
) -> list[Case]:
    """Return cases whose images are the wanted channels."""
    if not listing.is_named and len(listing.channels) == len(channels):
        return list(listing.cases)
    exact = {name: position for position, name in enumerate(listing.channels)}
    alike = {name.casefold(): position for name, position in exact.items()}
    order = [exact.get(name, alike.get(name.casefold())) for name in channels]
    if None in order:
        order = _match_kinds(listing.kinds, kinds or [None] * len(channels)) or order
    if missing := [name for name, position in zip(channels, order, strict=True) if position is None]:
        raise InputError(
            f"{path}: found the channels {_with_kinds(listing.channels, listing.kinds)}, expected {_with_kinds(channels, kinds)}; "
            f"missing: {', '.join(missing)}; if they only bear other names, write a manifest"
        )
    chosen = [position for position in order if position is not None]
    return [case.model_copy(update={"images": tuple(case.images[i] for i in chosen)}) for case in listing.cases]


def _match_kinds(found: Sequence[ChannelKind | None], wanted: Sequence[ChannelKind | None]) -> list[int | None] | None:
    """Return the positions of channels by their kinds, if these leave no doubt; a single one may be of unknown kind."""
    if len(found) == len(wanted) == 1 and wanted[0] in (None, "other"):
        return [0]
    if None in wanted or None in found or repeated_values([*wanted]) or not set(wanted) <= set(found):
        return None
    return [found.index(kind) for kind in wanted] if all(found.count(kind) == 1 for kind in wanted) else None


def _with_kinds(names: Sequence[str], kinds: Sequence[ChannelKind | None]) -> str:
    known = kinds or [None] * len(names)
    return ", ".join(f"{name} ({kind})" if kind else name for name, kind in zip(names, known, strict=True))


def _plain_cases(folder: Path, files: list[Path], channels: Sequence[str]) -> Inputs:
    """Return the cases of plain files that lie in one folder."""
    refused: list[Failure] = []
    whole, parts = [], []
    first_parts = {named[0] for file in files if (named := split_channel(image_id(file))) and named[1] == 0}
    for file in files:
        num_volumes = _count_volumes(file, len(channels))
        named = split_channel(image_id(file))
        # An id may end in four digits; among files of one channel each, only <id>_0000 makes others parts.
        is_part = num_volumes == 1 and named is not None and (len(channels) > 1 or named[0] in first_parts)
        if num_volumes == len(channels) > 1:
            whole.append(file)
        elif is_part:
            parts.append(file)
        elif len(channels) == num_volumes == 1:
            whole.append(file)
        else:
            refused.append(_wrong_channels(image_id(file), f"{num_volumes} channel(s)", channels))
    joined = _joined_cases(folder, parts, channels)
    return Inputs((*_whole_cases(whole, len(channels)), *joined.cases), (*refused, *joined.refused))


def _wrong_channels(case_id: str, found: str, channels: Sequence[str]) -> Failure:
    return Failure(case_id, f"found {found}, expected {_expected(channels)}")


def _expected(channels: Sequence[str]) -> str:
    count = len(channels)
    if count == 1:
        return (
            f"1 ({channels[0]}); give that channel's file, <id>.nii.gz or <id>_0000.nii.gz; a manifest takes any names"
        )
    return f"{count} ({', '.join(channels)}); give one 4D file, or <id>_0000 to <id>_{count - 1:04d}"


def _count_volumes(file: Path, num_channels: int) -> int:
    """Return a file's number of volumes by its header; what is unreadable is taken for what its name says."""
    try:
        return read_geometry(str(file)).num_volumes
    except InputError:
        return 1 if split_channel(image_id(file)) else num_channels


def _whole_cases(files: list[Path], num_channels: int) -> list[Case]:
    """Return a case per file."""
    indices = range(num_channels) if num_channels > 1 else [None]
    return [
        build_case(file, case_id=image_id(file), images=[ImageFile(path=str(file), index=index) for index in indices])
        for file in files
    ]


def _joined_cases(folder: Path, files: list[Path], channels: Sequence[str]) -> Inputs:
    """Return a case per `<id>` of files `<id>_<number>`, which must be numbered 0000 to the last channel."""
    numbered: dict[str, dict[int, Path]] = {}
    for file in files:
        if named := split_channel(image_id(file)):
            numbered.setdefault(named[0], {})[named[1]] = file
    cases, refused = [], []
    for case_id, found in numbered.items():
        if sorted(found) == list(range(len(channels))):
            images = [ImageFile(path=str(found[number])) for number in sorted(found)]
            cases.append(build_case(folder, case_id=case_id, images=images))
        else:
            names = ", ".join(f"_{number:04d}" for number in sorted(found))
            refused.append(_wrong_channels(case_id, f"the files {names}", channels))
    return Inputs(tuple(cases), tuple(refused))


def _check_ids(case_ids: Iterable[str]) -> None:
    if repeated := repeated_values(case_ids):
        raise InputError(
            f"found two cases called {', '.join(repeated[:5])}, expected different ids; rename or leave one out"
        )
