"""A plain folder of images and labels without any description.

These are `images/` beside `labels/`, `<id>` beside `<id>_label`, or a folder per case; which files belong together, `pair_names`
says. Images of several channels are `<id>_0000`, `<id>_0001`, …, or files of several volumes or bands. What the labels are is
found in their files: every value is a label of its own.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from tumorseg.errors import InputError
from tumorseg.schema.dataset import Case, Dataset, ImageFile
from tumorseg.sources.discovery import Discovered, discover_labels
from tumorseg.sources.folders import (
    Listing,
    Problems,
    build_case,
    build_dataset,
    folder_name,
    image_files,
    image_id,
    note_or_warn,
    visible,
)
from tumorseg.sources.pair_names import (
    Group,
    is_label_by_nature,
    is_label_word,
    match_names,
    names_beside,
    says_label,
)
from tumorseg.storage.dicom_files import holds_dicom
from tumorseg.storage.images import ENDINGS, FLAT_ENDINGS, read_geometry

REMEDY = "give the image and the label of a case one name, perhaps with _image and _label after it, or write a manifest"
NEEDS = (
    "images/ and labels/ with files of like names, <id> (or <id>_image) beside <id>_label, _seg or _mask, or a folder per case with "
    "an image and a label"
)
NO_PARTNER = "found no partner, an image or label of like name; it is left out"
IMAGE_FOLDERS = ("images", "image", "imgs", "img", "scans", "volumes", "imaging")
LABEL_FOLDERS = (
    "labels",
    "label",
    "masks",
    "mask",
    "segmentations",
    "segmentation",
    "segs",
    "seg",
    "annotations",
    "gt",
)
"""What the two folders may be called, whatever the case of letters."""
LEAST_NESTED = 0.5
"""Share of a folder's folders that must hold a case for all to be taken for cases."""


class _Pair(NamedTuple):
    """One case's files."""

    case_id: str
    images: tuple[Path, ...]
    label: Path | None
    numbers: tuple[int, ...] = (0,)
    """Of the channels."""
    rivals: tuple[str, ...] = ()
    """Names of files of which only one can be meant."""


class _Found(NamedTuple):
    """What a folder holds."""

    pairs: list[_Pair]
    alone: list[_Pair]
    """Images without a label, in folders where labels lie beside them."""
    left: list[Path]
    """Labels of no image, and what else is in no case."""
    fault: str | None = None
    """Why none of it can be read."""


NOTHING = _Found([], [], [])


def is_pairs(folder: Path) -> bool:
    """Tell whether a folder holds images and labels in one of these ways; pictures beside DICOM are none."""
    pairs = _find(folder).pairs
    files = (path for pair in pairs for path in (*pair.images, *([pair.label] if pair.label else [])))
    has_only_pictures = all(path.name.lower().endswith(FLAT_ENDINGS) for path in files)
    return bool(pairs) and not (has_only_pictures and holds_dicom(folder, ENDINGS))


def read_pairs(folder: Path, labels: Mapping[str, int] | None = None) -> Dataset:
    """Read every image that has a label; labels are looked into for their values, unless those are known.

    Raises:
        InputError: no name of an image is like that of a label, or cases differ in their number of channels; all are listed.
    """
    found = _find(folder)
    if found.fault is not None:
        raise InputError(f"{folder}: {found.fault}")
    for path in (*(path for one in found.alone for path in one.images), *found.left):
        note_or_warn(f"{path}: {NO_PARTNER}")
    channels, cases = _cases(folder, found.pairs)
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
    """List the cases, those without a label too; their channels have no names of their own.

    Raises:
        InputError: as from `read_pairs`; where there is no label at all, its images are listed.
    """
    found = _find(folder)
    has_labels = any(pair.label is not None and pair.label.exists() for pair in found.pairs)
    if found.fault is not None and has_labels:
        raise InputError(f"{folder}: {found.fault}")
    for path in found.left:
        note_or_warn(f"{path}: {NO_PARTNER}")
    channels, cases = _cases(folder, found.pairs)
    others = [build_case(folder, case_id=one.case_id, images=_channels_of(one.images)) for one in found.alone]
    fitting = [case for case in others if len(case.images) == len(channels)]
    for case in others:
        if len(case.images) != len(channels):
            note_or_warn(
                f"{case.images[0].path}: found {len(case.images)} channels, expected {len(channels)}; it is left out"
            )
    return Listing(tuple(channels), tuple(sorted([*cases, *fitting], key=lambda case: case.case_id)), is_named=False)


def _cases(folder: Path, pairs: list[_Pair]) -> tuple[list[str], list[Case]]:
    """Return the names of the channels that most pairs have, and the pairs as cases."""
    problems = Problems(folder)
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
    cases = [
        build_case(folder, case_id=pair.case_id, images=images[pair.case_id], label=str(pair.label)) for pair in pairs
    ]
    problems.check()
    count = len(expected)
    return ["image"] if count == 1 else [f"channel_{number}" for number in range(count)], cases


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


def _find(folder: Path) -> _Found:
    """Return the cases of a folder, however they lie."""
    if not folder.is_dir():
        return NOTHING
    below = [entry for entry in visible(folder.iterdir()) if entry.is_dir()]
    images, labels = (_folders_called(names, below) for names in (IMAGE_FOLDERS, LABEL_FOLDERS))
    if images and labels and any(image_files(entry) for entry in (*images, *labels)):
        return _across(folder, images, labels)
    found = _beside(folder)
    return found if found.pairs else _nested(below)


def _folders_called(names: Sequence[str], folders: list[Path]) -> list[Path]:
    """Return those folders of some names that hold image files; where none does, the first one."""
    called = [entry for name in names for entry in folders if entry.name.casefold() == name]
    return [entry for entry in called if image_files(entry)] or called[:1]


def _across(folder: Path, images: list[Path], labels: list[Path]) -> _Found:
    """Pair the files of two folders; what has no partner gets the path where it should be, so that the case fails when it is read."""
    strays = [path for path in image_files(images[0]) if is_label_by_nature(path)]
    files = [path for path in image_files(images[0]) if path not in strays]
    label_files = image_files(labels[0])
    groups, lone_labels = match_names(files, label_files)
    for path in lone_labels:
        groups.setdefault(image_id(path), Group({}, [])).labels.append(path)
    pairs = [
        _pair(case_id or folder_name(folder), group, images=images[0], labels=labels[0])
        for case_id, group in sorted(groups.items())
    ]
    fault = None
    for several in (images, labels):
        if len(several) > 1:
            names = " and ".join(f"{entry.name}/" for entry in several)
            fault = f"found {names}, expected one folder of them; move the others away, or write a manifest"
    if fault is None and not any(group.channels and group.labels for group in groups.values()):
        fault = f"{_holding(images[0], files)} and {_holding(labels[0], label_files)}, and no name is like another; {REMEDY}"
    return _Found(pairs, [], strays, fault)


def _holding(folder: Path, files: Sequence[Path]) -> str:
    return f"{folder.name}/ holds {f'{len(files)} files such as {files[0].name}' if files else 'no image file'}"


def _pair(case_id: str, group: Group, *, images: Path, labels: Path) -> _Pair:
    numbers = tuple(sorted(group.channels)) or (0,)
    parts = tuple(group.channels[number][0] for number in numbers if number in group.channels)
    parts = parts or (images / group.labels[0].name,)
    label = group.labels[0] if group.labels else labels / parts[0].name
    crowded = [paths for paths in (*group.channels.values(), group.labels) if len(paths) > 1]
    return _Pair(case_id, parts, label, numbers, tuple(path.name for paths in crowded for path in paths))


def _beside(folder: Path) -> _Found:
    """Pair the files of one folder: `<id>` and `<id>_label`, or the only two."""
    files = image_files(folder)
    labels = {path for path in files if says_label(path)}
    if len(files) == 2 and len(words := [path for path in files if is_label_word(path)]) == 1:
        (image,) = (path for path in files if path not in words)
        return _Found([_Pair(folder_name(folder), (image,), words[0])], [], [])
    first = match_names([path for path in files if path not in labels], sorted(labels), names_of=names_beside)
    # The id of an image may hold a word for a label itself: `mask_03`, whose label is `mask_03_seg`.
    maybe_images = [path for path in first.lone_labels if not is_label_by_nature(path)]
    second = match_names(maybe_images, first.lone_labels, names_of=names_beside)
    paired = {name: group for name, group in second.groups.items() if group.labels}
    taken = {path for group in paired.values() for path in (*_images_of(group), *group.labels)}
    groups = dict(sorted({**first.groups, **paired}.items()))
    pairs = [
        _pair(name or folder_name(folder), group, images=folder, labels=folder)
        for name, group in groups.items()
        if group.labels
    ]
    alone = [
        _Pair(name, tuple(_images_of(group)), None, tuple(group.channels))
        for name, group in groups.items()
        if not group.labels
    ]
    return _Found(pairs, alone, [path for path in first.lone_labels if path not in taken])


def _images_of(group: Group) -> list[Path]:
    return [path for paths in group.channels.values() for path in paths]


def _nested(folders: list[Path]) -> _Found:
    """Pair the files of folders of a case each; ids begin with the folder's name, so that not any folder of pairs is such a case."""
    found = [(folder, _beside(folder)) for folder in folders]
    cases = [held for folder, held in found if held.pairs and all(_is_called(pair, folder) for pair in held.pairs)]
    if not cases or len(cases) < LEAST_NESTED * len(folders):
        return NOTHING
    bare = [
        _Pair(folder_name(folder), held.alone[0].images, None)
        for folder, held in found
        if not held.pairs and len(held.alone) == 1
    ]
    left = [path for held in cases for path in (*held.left, *(path for one in held.alone for path in one.images))]
    return _Found([pair for held in cases for pair in held.pairs], bare, left)


def _is_called(pair: _Pair, folder: Path) -> bool:
    return pair.case_id.casefold().startswith(folder.name.casefold())
