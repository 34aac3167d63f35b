"""A plain folder of images and labels without any description: `images/` beside `labels/`, or `<id>` beside `<id>_label`.

Images of several channels are `<id>_0000`, `<id>_0001`, …, or files of several volumes or bands. What the labels are is
found in their files: every value is a label of its own.
"""

from collections import Counter
from collections.abc import Container, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from tumorseg.errors import InputError
from tumorseg.schema.dataset import Dataset, ImageFile
from tumorseg.sources.folders import (
    Listing,
    Problems,
    build_case,
    build_dataset,
    discover_labels,
    folder_name,
    image_files,
    image_id,
    note_or_warn,
    split_channel,
    visible,
)
from tumorseg.storage.images import read_geometry

NEEDS = "images/ and labels/ with files of like names, or <id> (or <id>_image) beside <id>_label, _seg or _mask"
IMAGE_FOLDERS = ("images", "image", "imgs", "img", "scans", "volumes")
LABEL_FOLDERS = ("labels", "label", "masks", "mask", "segmentations", "segmentation", "segs", "seg", "annotations")
"""What the two folders may be called, whatever the case of letters."""
LABEL_SUFFIXES = ("_label", "_labels", "_seg", "_segmentation", "_mask", "-label", "-seg", "-mask")
"""What follows the id of an image in the name of its label, where both lie in one folder."""
IMAGE_SUFFIXES = ("_image", "_img", "-image", "-img")
"""What may follow the id in the name of the image itself."""
LABEL_STEMS = ("label", "labels", "seg", "segmentation", "mask")
"""Names of the label of a folder's only case."""


class _Pair(NamedTuple):
    """One case's files."""

    case_id: str
    images: tuple[Path, ...]
    label: Path
    numbers: tuple[int, ...] = (0,)
    """Of the channels."""
    rivals: tuple[str, ...] = ()
    """Names of files of which only one can be meant."""


def is_pairs(folder: Path) -> bool:
    """Tell whether a folder holds images and labels in one of these ways."""
    return next(_pairs(folder), None) is not None


def read_pairs(folder: Path, labels: Mapping[str, int] | None = None) -> Dataset:
    """Read every image that has a label; labels are looked into for their values, unless those are known.

    Raises:
        InputError: cases differ in their number of channels; all are listed.
    """
    problems = Problems(folder)
    pairs = list(_pairs(folder))
    _note_partnerless(folder, pairs)
    images = {pair.case_id: _channels_of(pair.images) for pair in pairs}
    numbers = {pair.case_id: _numbers_of(pair, images[pair.case_id]) for pair in pairs}
    expected = max(Counter(numbers.values()).items(), key=lambda item: (len(item[0]), item[1]), default=((0,), 0))[0]
    for pair in pairs:
        if pair.rivals:
            problems.add(f"case {pair.case_id}: found {' and '.join(pair.rivals)}, expected one; move the others away")
        if (found := numbers[pair.case_id]) != expected:
            problems.add(
                f"case {pair.case_id}: found channels {_listed(found)}, expected {_listed(expected)} as in other cases"
            )
    count = len(expected)
    cases = [
        build_case(folder, case_id=pair.case_id, images=images[pair.case_id], label=str(pair.label)) for pair in pairs
    ]
    problems.check()
    return build_dataset(
        folder,
        cases,
        name=folder_name(folder),
        channels=["image"] if count == 1 else [f"channel_{number}" for number in range(count)],
        labels=discover_labels(cases) if labels is None else labels,
    )


def list_pairs(folder: Path) -> Listing:
    """List the cases; their channels have no names of their own.

    Raises:
        InputError: as from `read_pairs`.
    """
    dataset = read_pairs(folder, {"background": 0})
    return Listing(tuple(channel.name for channel in dataset.channels), dataset.cases, is_named=False)


def _note_partnerless(folder: Path, pairs: list[_Pair]) -> None:
    """Tell of files in the folder of the pairs itself that are in none of them."""
    paired = {path.name for pair in pairs for path in (*pair.images, pair.label)}
    paired |= {name for pair in pairs for name in pair.rivals}
    if not pairs or pairs[0].label.parent != folder:
        return
    for path in image_files(folder):
        if path.name not in paired:
            note_or_warn(f"{path}: found no partner, an image or label of like name; it is left out")


def _numbers_of(pair: _Pair, images: list[ImageFile]) -> tuple[int, ...]:
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


def _pairs(folder: Path) -> Iterator[_Pair]:
    """Yield the cases of a folder."""
    if not folder.is_dir():
        return
    below = {entry.name.casefold(): entry for entry in visible(folder.iterdir()) if entry.is_dir()}
    images = next((below[name] for name in IMAGE_FOLDERS if name in below), None)
    labels = next((below[name] for name in LABEL_FOLDERS if name in below), None)
    if images is not None and labels is not None:
        yield from _across(images, labels)
    else:
        yield from _beside(folder)


def _across(images: Path, labels: Path) -> Iterator[_Pair]:
    """Pair the files of two folders by id; `<id>_0000` is a channel, unless a label is called so."""
    label_files = image_files(labels)
    whole = {stem for path in label_files for stem in _bare_stems(image_id(path))}
    grouped: dict[str, dict[int, list[Path]]] = {}
    for path in image_files(images):
        stem = image_id(path)
        split = None if stem in whole else split_channel(stem)
        case_id, number = split or (stem, 0)
        grouped.setdefault(case_id, {}).setdefault(number, []).append(path)
    found: dict[str, list[Path]] = {}
    for path in label_files:
        found.setdefault(_bare_id(image_id(path), grouped), []).append(path)
    for case_id in sorted({*grouped, *found}):
        yield _pair(case_id, grouped.get(case_id, {}), found.get(case_id, []), images=images, labels=labels)


def _pair(case_id: str, channels: dict[int, list[Path]], found: list[Path], *, images: Path, labels: Path) -> _Pair:
    """Return a case; what has no partner gets the path where it should be, so that the case fails when it is read."""
    numbers = tuple(sorted(channels)) or (0,)
    parts = tuple(channels[number][0] for number in numbers if number in channels) or (images / found[0].name,)
    label = found[0] if found else labels / parts[0].name
    crowded = [paths for paths in (*channels.values(), found) if len(paths) > 1]
    return _Pair(case_id, parts, label, numbers, tuple(path.name for paths in crowded for path in paths))


def _bare_stems(stem: str) -> list[str]:
    """Return a label's name, and what is left of it without a suffix that says label."""
    return [stem, *(stem.removesuffix(suffix) for suffix in LABEL_SUFFIXES if stem.endswith(suffix))]


def _bare_id(stem: str, known: Container[str]) -> str:
    """Return a label's id, without a suffix that says label, where an image is called so."""
    return next((name for name in _bare_stems(stem) if name in known), stem)


def _beside(folder: Path) -> Iterator[_Pair]:
    """Pair the files of one folder: `<id>` and `<id>_label`, or the only two."""
    files = {image_id(path): path for path in image_files(folder)}
    if len(files) == 2 and (label := next((files[stem] for stem in LABEL_STEMS if stem in files), None)):
        (image,) = (path for path in files.values() if path != label)
        yield _Pair(folder_name(folder), (image,), label)
        return
    for stem, path in files.items():
        case_id = next((stem.removesuffix(suffix) for suffix in IMAGE_SUFFIXES if stem.endswith(suffix)), stem)
        labels = [files[case_id + suffix] for suffix in LABEL_SUFFIXES if case_id + suffix in files]
        if labels and path not in labels:
            rivals = tuple(label.name for label in labels) if len(labels) > 1 else ()
            yield _Pair(case_id, (path,), labels[0], rivals=rivals)
