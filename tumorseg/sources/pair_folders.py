"""Arrangements of images and labels: in two folders, beside each other, or in a folder per case."""

from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from tumorseg.sources.folders import Part, Problem, folder_name, image_files, image_id, visible
from tumorseg.sources.pair_names import (
    Group,
    is_label_by_nature,
    is_label_word,
    match_names,
    names_beside,
    says_label,
)
from tumorseg.storage.images import FLAT_ENDINGS

REMEDY = "give the image and the label of a case one name, perhaps with _image and _label after it, or write a manifest"
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


class Pair(NamedTuple):
    """One case's files."""

    case_id: str
    images: tuple[Path, ...]
    label: Path | None
    numbers: tuple[int, ...] = (0,)
    """Of the channels."""
    rivals: tuple[Path, ...] = ()
    """Images of which only one can be meant."""
    rival_labels: tuple[Path, ...] = ()
    """Labels of which only one can be meant."""


class Found(NamedTuple):
    """Pairs and leftover files of a folder."""

    pairs: list[Pair]
    alone: list[Pair]
    """Images without a label, where others have one."""
    left: list[Path]
    """What is in no case."""
    lone_labels: tuple[Path, ...] = ()
    """Those of no image, in a folder of labels."""
    faults: tuple[Problem, ...] = ()
    """Why it cannot be read."""


NOTHING = Found([], [], [])


def find_pairs(folder: Path) -> Found:
    """Return the cases of a folder, however they lie."""
    if not folder.is_dir():
        return NOTHING
    below = [entry for entry in visible(folder.iterdir()) if entry.is_dir()]
    images, labels = (_folders_called(names, below) for names in (IMAGE_FOLDERS, LABEL_FOLDERS))
    if images and labels and any(image_files(entry) for entry in (*images, *labels)):
        return _with_loose(_across(folder, images, labels), folder)
    found = _beside(folder)
    return found if found.pairs else _nested(folder, below)


def _folders_called(names: Sequence[str], folders: list[Path]) -> list[Path]:
    """Return those folders of some names that hold image files; where none does, the first one."""
    called = [entry for name in names for entry in folders if entry.name.casefold() == name]
    return [entry for entry in called if image_files(entry)] or called[:1]


def _across(folder: Path, images: list[Path], labels: list[Path]) -> Found:
    """Pair the files of two folders; what has no partner gets the path where it should be, so that the case fails when it is read."""
    strays = [path for path in image_files(images[0]) if is_label_by_nature(path)]
    files = [path for path in image_files(images[0]) if path not in strays]
    label_files = image_files(labels[0])
    groups, lone_labels = match_names(files, label_files)
    masks = {path for pair in _beside(images[0]).pairs for path in (pair.label, *pair.rival_labels)}
    for case_id, group in list(groups.items()):
        if not group.labels and masks.issuperset(
            _images_of(group)
        ):  # of an image, and no image that has a label itself
            strays += _images_of(groups.pop(case_id))
    for path in lone_labels:
        groups.setdefault(image_id(path), Group({}, [])).labels.append(path)
    pairs = [
        _pair(case_id or folder_name(folder), group, images=images[0], labels=labels[0])
        for case_id, group in sorted(groups.items())
    ]
    several: dict[Part, list[Path]] = {"image": images, "label": labels}
    faults = [_crowded(part, entries) for part, entries in several.items() if len(entries) > 1]
    if not faults and not any(group.channels and group.labels for group in groups.values()):
        text = f"{_holding(images[0], files)} and {_holding(labels[0], label_files)}, and no name is like another; {REMEDY}"
        faults = [Problem(text, part="pairing")]
    return Found(pairs, [], strays, tuple(lone_labels), tuple(faults))


def _crowded(part: Part, entries: Sequence[Path]) -> Problem:
    names = " and ".join(f"{entry.name}/" for entry in entries)
    return Problem(f"found {names}, expected one folder of them; move the others away, or write a manifest", part=part)


def _holding(folder: Path, files: Sequence[Path]) -> str:
    return f"{folder.name}/ holds {f'{len(files)} files such as {files[0].name}' if files else 'no image file'}"


def _pair(case_id: str, group: Group, *, images: Path, labels: Path) -> Pair:
    numbers = tuple(sorted(group.channels)) or (0,)
    parts = tuple(group.channels[number][0] for number in numbers if number in group.channels)
    parts = parts or (images / group.labels[0].name,)
    label = group.labels[0] if group.labels else labels / parts[0].name
    rivals = tuple(path for paths in group.channels.values() if len(paths) > 1 for path in paths)
    return Pair(case_id, parts, label, numbers, rivals, tuple(group.labels) if len(group.labels) > 1 else ())


def _beside(folder: Path) -> Found:
    """Pair the files of one folder: `<id>` and `<id>_label`, or the only two."""
    files = image_files(folder)
    labels = {path for path in files if says_label(path)}
    if len(files) == 2 and len(words := [path for path in files if is_label_word(path)]) == 1:
        (image,) = (path for path in files if path not in words)
        return Found([Pair(folder_name(folder), (image,), words[0])], [], [])
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
        _pair(name or folder_name(folder), group, images=folder, labels=folder)._replace(label=None)
        for name, group in groups.items()
        if not group.labels
    ]
    return Found(pairs, alone, [path for path in first.lone_labels if path not in taken])


def _images_of(group: Group) -> list[Path]:
    return [path for paths in group.channels.values() for path in paths]


def _nested(folder: Path, below: list[Path]) -> Found:
    """Pair the files of folders of a case each; ids begin with the folder's name, so that not any folder of pairs is such a case."""
    found = [(entry, _beside(entry)) for entry in below]
    labelled = {
        entry: held for entry, held in found if held.pairs and all(_is_called(pair, entry) for pair in held.pairs)
    }
    roles = {_role(path) for held in labelled.values() for pair in held.pairs for path in pair.images}
    bare = [held for _, held in found if not held.pairs and _has_roles(held, roles)]
    if not labelled or len(labelled) + len(bare) < LEAST_NESTED * len(below):
        return NOTHING
    alone: list[Pair] = []
    left: list[Path] = []
    for entry, held in found:
        cases = [one for one in held.alone if _is_called(one, entry)]
        if not held.pairs and held.alone and (len(held.alone) == 1 or not cases):
            cases = [_only_case(entry, held.alone)]
        taken = {path for one in cases for path in (*one.images, *one.rivals)}
        foreign = [] if entry in labelled else [path for pair in held.pairs for path in files_of(pair)]
        alone += cases
        left += [*held.left, *foreign, *(path for one in held.alone for path in one.images if path not in taken)]
    return _with_loose(Found([pair for held in labelled.values() for pair in held.pairs], alone, left), folder)


def _role(path: Path) -> str:
    """Return what the name of a file in a case's folder says beside the folder's own."""
    return path.name.replace(path.parent.name, "")


def _has_roles(held: Found, roles: Collection[str]) -> bool:
    images = [path for one in held.alone for path in one.images]
    return bool(images) and all(_role(path) in roles for path in images)


def _only_case(folder: Path, alone: Sequence[Pair]) -> Pair:
    """Return the case of a folder without a label; of several images only one can be meant."""
    rivals = tuple(path for one in alone for path in one.images) if len(alone) > 1 else alone[0].rivals
    return alone[0]._replace(case_id=folder_name(folder), rivals=rivals)


def files_of(pair: Pair) -> Iterable[Path]:
    """Return a case's images and its label."""
    return (*pair.images, *(() if pair.label is None else (pair.label,)))


def _with_loose(found: Found, folder: Path) -> Found:
    """Return what folders in a folder hold, with the images that lie in it itself; pictures beside volumes are left."""
    beside = _beside(folder)
    alone = [*found.alone, *beside.alone, *(pair._replace(label=None) for pair in beside.pairs)]
    has_volumes = not all(is_flat_file(path) for pair in found.pairs for path in pair.images)
    fitting: list[Pair] = []
    left = [*found.left, *beside.left]
    for one in alone:
        if has_volumes and all(is_flat_file(path) for path in one.images):
            left += one.images
        else:
            fitting.append(one)
    return found._replace(alone=fitting, left=left)


def is_flat_file(path: Path) -> bool:
    """Tell whether a file is a picture by its name."""
    return path.name.lower().endswith(FLAT_ENDINGS)


def _is_called(pair: Pair, folder: Path) -> bool:
    return pair.case_id.casefold().startswith(folder.name.casefold())
