"""Pairing of images and labels by their file names alone.

Public datasets call them `p0` and `p0_seg`, `img0001` and `label0001`, `volume-0` and `segmentation-0`, or `imaging` and
`segmentation` in a folder per case: an id, and perhaps a word that says what the file is, before or after it.
"""

import re
import unicodedata
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from tumorseg.sources.folders import image_id, split_channel
from tumorseg.storage.formats.slicer_segments import LABEL_ENDINGS

IMAGE_WORDS = ("image", "images", "img", "imgs", "imaging", "scan", "volume", "vol")
LABEL_WORDS = (
    "label", "labels", "lbl", "segmentation", "segmentations", "seg", "segs", "mask", "masks", "gt", "groundtruth", "annotation",
)  # fmt: skip
"""What says in a name that the file is an image, or a label; whatever the case of letters."""


def label_names(path: Path) -> list[str]:
    """Return a label's name, and what is left of it without words for a label, the likeliest first."""
    stem = _stem(path)
    return [stem, *_without_words(stem, LABEL_WORDS)]


class Group(NamedTuple):
    """The images and labels of one id."""

    channels: dict[int, list[Path]]
    """Images by the number of the channel; of several with one number, only one can be meant."""
    labels: list[Path]
    """Of several, only one can be meant."""


class Matching(NamedTuple):
    """Images and labels, brought together."""

    groups: dict[str, Group]
    """By id; each with an image, and perhaps a label."""
    lone_labels: list[Path]
    """Those of no image."""


def match_names(
    images: Iterable[Path], labels: Sequence[Path], *, names_of: Callable[[Path], list[str]] = label_names
) -> Matching:
    """Return images and labels by their ids.

    An id is what is left of a name without the words that say what the file is; empty where nothing is left. An image without a
    partner keeps its own name. `<id>_0001`, … are channels if a label is called `<id>`, or if `<id>_0000` is there and no label is
    called `<id>` with a number.

    Args:
        images: files.
        labels: files.
        names_of: the ids that a label may have.
    """
    images = list(images)
    known: set[str] = set()
    for path in labels:
        known.update(names_of(path))
    bases: set[str] = set()
    for path in images:
        numbered = split_channel(_stem(path))
        if numbered is not None and numbered[1] == 0:
            bases.add(numbered[0])
    # Where a label is called `<id>_2021`, such numbers are part of the ids.
    bases -= {numbered[0] for name in known if (numbered := split_channel(name))}
    groups: dict[str, Group] = {}
    for path in images:
        name, number = _image_place(_stem(path), known, bases)
        groups.setdefault(name, Group({}, [])).channels.setdefault(number, []).append(path)
    lone: list[Path] = []
    for path in labels:
        # A label's names come with the likeliest first: its own wins over what is left of it.
        partner = next((groups[name] for name in names_of(path) if name in groups), None)
        if partner is None:
            lone.append(path)
        else:
            partner.labels.append(path)
    return Matching(groups, lone)


def says_label(path: Path) -> bool:
    """Tell whether a name says that the file is a label."""
    return is_label_by_nature(path) or bool(_without_words(_stem(path), LABEL_WORDS))


def is_label_by_nature(path: Path) -> bool:
    """Tell whether a file is of a format that holds labels only."""
    return path.name.lower().endswith(LABEL_ENDINGS)


def is_label_word(path: Path) -> bool:
    """Tell whether a file's name is a word for a label, and nothing else."""
    return _stem(path).casefold() in LABEL_WORDS


def names_beside(path: Path) -> list[str]:
    """Return the ids that a label may have whose image lies in the same folder: never its own name, unless its format says label."""
    return label_names(path)[0 if is_label_by_nature(path) else 1 :]


def _stem(path: Path) -> str:
    """Return a file's name without its ending; letters with marks, which some systems write in two signs, are one."""
    return unicodedata.normalize("NFC", image_id(path))


def _image_place(stem: str, known: Collection[str], bases: Collection[str]) -> tuple[str, int]:
    """Return the id and channel of an image by the names of labels, else by the ids that have a first channel."""
    if (name := _known_name(stem, known)) is not None:
        return name, 0
    if (numbered := split_channel(stem)) is None:
        return stem, 0
    base, number = numbered
    if (name := _known_name(base, known)) is not None:
        return name, number
    # `img_0001` is image 1 of many, not the second channel of a case `img`.
    is_channel = base in bases and base.casefold() not in IMAGE_WORDS
    return (base, number) if is_channel else (stem, 0)


def _known_name(stem: str, known: Collection[str]) -> str | None:
    return next((name for name in (stem, *_without_words(stem, IMAGE_WORDS)) if name in known), None)


def _without_words(stem: str, words: Sequence[str]) -> list[str]:
    """Return what is left of a name without a word after it, before it, and on both sides; empty if it is but a word."""
    if stem.casefold() in words:
        return [""]
    after = _cut(rf"(.+)[-_. ](?:{'|'.join(words)})", stem)
    # A word without a separator counts before a number only: `img0001`, but not `scanner`.
    before = rf"(?:{'|'.join(words)})(?:[-_. ]+(?=.)|(?=\d))(.+)"
    parts = [after, _cut(before, stem), None if after is None else _cut(before, after)]
    return [part for part in parts if part is not None]


def _cut(pattern: str, stem: str) -> str | None:
    found = re.fullmatch(pattern, stem, re.IGNORECASE)
    return found[1] if found else None
