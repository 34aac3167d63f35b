"""Arrangements of images and labels: in two folders, beside each other, or in a folder per case."""

from collections.abc import Collection, Iterable, Sequence
from itertools import chain
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
    images = _folders_called(IMAGE_FOLDERS, below)
    labels = _folders_called(LABEL_FOLDERS, below)
    if images and labels and any(image_files(entry) for entry in (*images, *labels)):
        return _with_loose(_across(folder, images, labels), folder)
    found = _beside(folder)
    return found if found.pairs else _nested(folder, below)


def _folders_called(names: Sequence[str], folders: list[Path]) -> list[Path]:
    """Return those folders of some names that hold image files; where none does, the first one."""
    called: list[Path] = []
    # Name by name, so that the likeliest comes first.
    for name in names:
        called += [entry for entry in folders if entry.name.casefold() == name]
    return [entry for entry in called if image_files(entry)] or called[:1]


def _across(folder: Path, images: list[Path], labels: list[Path]) -> Found:
    """Pair the files of two folders; what has no partner gets the path where it should be, so that the case fails when it is read."""
    strays = [path for path in image_files(images[0]) if is_label_by_nature(path)]
    files = [path for path in image_files(images[0]) if path not in strays]
    label_files = image_files(labels[0])
    groups, lone_labels = match_names(files, label_files)
    masks: set[Path | None] = set()
    for pair in _beside(images[0]).pairs:
        masks.update((pair.label, *pair.rival_labels))
    # What is the mask of an image beside it is none itself, unless it has a label of its own in the other folder.
    for case_id, group in list(groups.items()):
        if not group.labels and masks.issuperset(_images_of(group)):
            strays += _images_of(groups.pop(case_id))
    for path in lone_labels:
        groups.setdefault(image_id(path), Group({}, [])).labels.append(path)
    pairs = []
    for case_id, group in sorted(groups.items()):
        # Nothing is left of names that are but `image` and `label`: the folder's is the case's.
        pairs.append(_pair(case_id or folder_name(folder), group, images=images[0], labels=labels[0]))
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
    found = f"{len(files)} files such as {files[0].name}" if files else "no image file"
    return f"{folder.name}/ holds {found}"


def _pair(case_id: str, group: Group, *, images: Path, labels: Path) -> Pair:
    numbers = tuple(sorted(group.channels))
    parts = tuple(group.channels[number][0] for number in numbers)
    # A label without an image, or the reverse, names the file that should be there: its case fails when it is read.
    if not parts:
        numbers, parts = (0,), (images / group.labels[0].name,)
    label = group.labels[0] if group.labels else labels / parts[0].name
    rivals: list[Path] = []
    for paths in group.channels.values():
        if len(paths) > 1:
            rivals += paths
    rival_labels = tuple(group.labels) if len(group.labels) > 1 else ()
    return Pair(case_id, parts, label, numbers, tuple(rivals), rival_labels)


def _beside(folder: Path) -> Found:
    """Pair the files of one folder: `<id>` and `<id>_label`, or the only two."""
    files = image_files(folder)
    labels = {path for path in files if says_label(path)}
    words = [path for path in files if is_label_word(path)]
    # Beside a file that is called just `mask` or `GT`, a single other one is its image, whatever its name.
    if len(files) == 2 and len(words) == 1:
        (image,) = (path for path in files if path not in words)
        return Found([Pair(folder_name(folder), (image,), words[0])], [], [])
    first = match_names([path for path in files if path not in labels], sorted(labels), names_of=names_beside)
    # The id of an image may hold a word for a label itself: `mask_03`, whose label is `mask_03_seg`.
    maybe_images = [path for path in first.lone_labels if not is_label_by_nature(path)]
    second = match_names(maybe_images, first.lone_labels, names_of=names_beside)
    paired = {name: group for name, group in second.groups.items() if group.labels}
    taken: set[Path] = set()
    for group in paired.values():
        taken.update((*_images_of(group), *group.labels))
    pairs: list[Pair] = []
    alone: list[Pair] = []
    for name, group in sorted({**first.groups, **paired}.items()):
        pair = _pair(name or folder_name(folder), group, images=folder, labels=folder)
        if group.labels:
            pairs.append(pair)
        else:
            alone.append(pair._replace(label=None))
    return Found(pairs, alone, [path for path in first.lone_labels if path not in taken])


def _images_of(group: Group) -> list[Path]:
    return list(chain.from_iterable(group.channels.values()))


def images_in(pairs: Iterable[Pair]) -> list[Path]:
    """Return the images of some cases."""
    return list(chain.from_iterable(pair.images for pair in pairs))


def _nested(folder: Path, below: list[Path]) -> Found:
    """Pair the files of folders of a case each; ids begin with the folder's name, so that not any folder of pairs is such a case."""
    found = [(entry, _beside(entry)) for entry in below]
    labelled: dict[Path, Found] = {}
    for entry, held in found:
        if held.pairs and all(_is_called(pair, entry) for pair in held.pairs):
            labelled[entry] = held
    pairs = list(chain.from_iterable(held.pairs for held in labelled.values()))
    roles = {_role(path) for path in images_in(pairs)}
    # A folder without a label is a case if its files are called as in those that have one.
    bare = [held for _, held in found if not held.pairs and _has_roles(held, roles)]
    if not labelled or len(labelled) + len(bare) < LEAST_NESTED * len(below):
        return NOTHING
    alone: list[Pair] = []
    left: list[Path] = []
    for entry, held in found:
        cases = _unlabelled_cases(entry, held)
        taken: set[Path] = set()
        for one in cases:
            taken.update((*one.images, *one.rivals))
        alone += cases
        left += held.left
        if entry not in labelled:
            left += chain.from_iterable(files_of(pair) for pair in held.pairs)
        left += [path for path in images_in(held.alone) if path not in taken]
    return _with_loose(Found(pairs, alone, left), folder)


def _unlabelled_cases(folder: Path, held: Found) -> list[Pair]:
    """Return the cases without a label in one of the folders."""
    called = [one for one in held.alone if _is_called(one, folder)]
    if held.pairs or not held.alone:
        return called
    # As in `case_1/imaging`: where no name begins with the folder's, the folder alone names the case.
    is_one_case = len(held.alone) == 1 or not called
    return [_only_case(folder, held.alone)] if is_one_case else called


def _role(path: Path) -> str:
    """Return what the name of a file in a case's folder says beside the folder's own."""
    return path.name.replace(path.parent.name, "")


def _has_roles(held: Found, roles: Collection[str]) -> bool:
    images = images_in(held.alone)
    return bool(images) and all(_role(path) in roles for path in images)


def _only_case(folder: Path, alone: Sequence[Pair]) -> Pair:
    """Return the case of a folder without a label; of several images only one can be meant."""
    rivals = tuple(images_in(alone)) if len(alone) > 1 else alone[0].rivals
    return alone[0]._replace(case_id=folder_name(folder), rivals=rivals)


def files_of(pair: Pair) -> Iterable[Path]:
    """Return a case's images and its label."""
    return pair.images if pair.label is None else (*pair.images, pair.label)


def _with_loose(found: Found, folder: Path) -> Found:
    """Return what folders in a folder hold, with the images that lie in it itself; pictures beside volumes are left."""
    beside = _beside(folder)
    alone = [*found.alone, *beside.alone, *(pair._replace(label=None) for pair in beside.pairs)]
    # Beside volumes, pictures are thumbnails or plots of them.
    has_volumes = not all(is_flat_file(path) for path in images_in(found.pairs))
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
