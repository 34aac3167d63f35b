"""A plain folder of images and labels without any description.

These are `images/` beside `labels/`, `<id>` beside `<id>_label`, or a folder per case, as `pair_folders` finds them; which files belong
together, `pair_names` says. Images of several channels are `<id>_0000`, `<id>_0001`, …, or files of several volumes or bands. What
the labels are is found in their files: every value is a label of its own.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from pathlib import Path

from tumorseg.errors import InputError
from tumorseg.schema.dataset import Case, Dataset, ImageFile
from tumorseg.sources.discovery import Discovered, discover_labels
from tumorseg.sources.folders import (
    Listing,
    Part,
    Problems,
    build_case,
    build_dataset,
    folder_name,
    image_id,
    is_there,
    note_or_warn,
)
from tumorseg.sources.leaving_out import used
from tumorseg.sources.pair_folders import Pair, files_of, find_pairs, images_in, is_flat_file
from tumorseg.storage.dicom.files import holds_dicom
from tumorseg.storage.images import ENDINGS, read_geometry

NEEDS = (
    "images/ and labels/ with files of like names, <id> (or <id>_image) beside <id>_label, _seg or _mask, or a folder per case with "
    "an image and a label"
)
NO_PARTNER = "found no partner, an image or label of like name; it is left out"


def is_pairs(folder: Path) -> bool:
    """Tell whether a folder holds images and labels in one of these ways; pictures beside DICOM are none."""
    pairs = find_pairs(folder).pairs
    files = chain.from_iterable(files_of(pair) for pair in pairs)
    has_only_pictures = all(is_flat_file(path) for path in files)
    return bool(pairs) and not (has_only_pictures and holds_dicom(folder, ENDINGS))


def read_pairs(folder: Path, labels: Mapping[str, int] | None = None) -> Dataset:
    """Read every image that has a label; labels are looked into for their values, unless those are known.

    Raises:
        InputError: no name of an image is like that of a label, or cases differ in their number of channels; all are listed.
    """
    found = find_pairs(folder)
    if found.faults:
        raise InputError(found.faults[0].reason, file=folder)
    for path in (*images_in(found.alone), *found.left):
        note_or_warn(f"{path}: {NO_PARTNER}")
    channels, cases = _cases(folder, used(folder, found.pairs, lambda pair: pair.case_id))
    discovered = discover_labels(cases) if labels is None else Discovered(dict(labels))
    return build_dataset(
        folder,
        cases,
        name=folder_name(folder),
        channels=channels,
        labels=discovered.labels,
        doubts=discovered.doubts,
    )


def list_pairs(folder: Path) -> Listing:
    """List the cases, those without a label too; channels have no names, and the cases need not have the same number.

    Raises:
        InputError: images or labels may belong together in several ways, or none is like another though there are both; where there is
            no label at all, images are listed.
    """
    found = find_pairs(folder)
    problems = Problems(folder)
    for fault in found.faults:
        if fault.part != "pairing" or found.lone_labels:
            problems.add(fault.reason, part=fault.part)
    for path in found.left:
        note_or_warn(f"{path}: {NO_PARTNER}")
    # A label without an image is listed apart: there is nothing to predict on.
    lone = set(found.lone_labels)
    pairs = [pair for pair in (*found.pairs, *found.alone) if pair.label not in lone]
    images = [_channels_of(pair.images) for pair in pairs]
    numbers = [_numbers_of(*one) for one in zip(pairs, images, strict=True)]
    # For each count of channels their usual numbers: the rare come first here, so that the commonest replace them.
    usual = {len(given): given for given, _ in reversed(Counter(numbers).most_common())}
    masks: list[str] = []
    for pair, given in zip(pairs, numbers, strict=True):
        _note_rivals(pair, problems, named=str)
        _check_numbers(pair, given, usual[len(given)], problems=problems)
        masks += map(str, _masks(pair))
    cases = [_listed_case(folder, *one) for one in zip(pairs, images, strict=True)]
    problems.check()
    return Listing(
        tuple(_channel_names(max(map(len, numbers), default=1))),
        tuple(sorted(cases, key=lambda case: case.case_id)),
        is_named=False,
        lone_labels=tuple((image_id(path), str(path)) for path in found.lone_labels),
        masks=tuple(masks),
    )


def _listed_case(folder: Path, pair: Pair, images: list[ImageFile]) -> Case:
    label = str(pair.label) if pair.label is not None and is_there(pair.label) else None
    return build_case(folder, case_id=pair.case_id, images=images, label=label)


def _masks(pair: Pair) -> Sequence[Path]:
    """Return a case's labels that lie among its images."""
    labels = pair.rival_labels or ([pair.label] if pair.label is not None else [])
    return [label for label in labels if label.parent == pair.images[0].parent]


def _cases(folder: Path, pairs: list[Pair]) -> tuple[list[str], list[Case]]:
    """Return the names of the channels that pairs have, and the pairs as cases."""
    problems = Problems(folder)
    images = {pair.case_id: _channels_of(pair.images) for pair in pairs}
    numbers = {pair.case_id: _numbers_of(pair, images[pair.case_id]) for pair in pairs}
    counts = Counter(numbers.values())
    # The most channels that a case has, in their usual numbers: cases that lack one are told, rather than all cut down.
    expected = max(counts, key=lambda given: (len(given), counts[given]), default=(0,))
    for pair in pairs:
        _note_rivals(pair, problems, named=lambda path: path.name)
        _check_numbers(pair, numbers[pair.case_id], expected, problems=problems)
    cases = []
    for pair in pairs:
        case_id = pair.case_id
        cases.append(build_case(folder, case_id=case_id, images=images[case_id], label=str(pair.label)))
    problems.check()
    return _channel_names(len(expected)), cases


def _channel_names(count: int) -> list[str]:
    return ["image"] if count == 1 else [f"channel_{number}" for number in range(count)]


def _note_rivals(pair: Pair, problems: Problems, *, named: Callable[[Path], str]) -> None:
    rivals: dict[Part, Sequence[Path]] = {"image": pair.rivals, "label": pair.rival_labels}
    for part, paths in rivals.items():
        if paths:
            reason = f"found {' and '.join(map(named, paths))}, expected one; move the others away"
            problems.add(reason, case_id=pair.case_id, part=part)


def _check_numbers(pair: Pair, found: tuple[int, ...], expected: tuple[int, ...], *, problems: Problems) -> None:
    """Note a case whose channels are not numbered as those of most others are."""
    if found != expected:
        problems.add(
            f"found channels {_listed(found)}, expected {_listed(expected)} as in other cases",
            case_id=pair.case_id,
            part="image",
        )


def _numbers_of(pair: Pair, images: list[ImageFile]) -> tuple[int, ...]:
    return tuple(range(len(images))) if len(pair.images) == 1 else pair.numbers


def _listed(numbers: tuple[int, ...]) -> str:
    return ", ".join(map(str, numbers))


def _channels_of(paths: tuple[Path, ...]) -> list[ImageFile]:
    if len(paths) > 1:
        return [ImageFile(path=str(path)) for path in paths]
    try:
        count = read_geometry(str(paths[0])).num_volumes
    except InputError:  # fails with its case
        count = 1
    if count == 1:
        return [ImageFile(path=str(paths[0]))]
    return [ImageFile(path=str(paths[0]), index=index, num_volumes=count) for index in range(count)]
