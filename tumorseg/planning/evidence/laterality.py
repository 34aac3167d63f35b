"""Left/right label pairs, by name or in the images, which mirroring would swap."""

import itertools
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tumorseg.schema.dataset import DatasetDescription
from tumorseg.schema.fingerprint import CaseMeasurement
from tumorseg.schema.planned_dataset import MirroredLabels
from tumorseg.types import Mask

LATERAL_AXIS = 2
"""Canonical axis X, which runs from left to right."""
WORDS = (
    ("left lft", "right rgt"),
    ("link links linker", "recht rechts rechter"),
    ("gauche gauch", "droite droit"),
    ("izquierd izquierda izquierdo", "derech derecha derecho"),
    ("sinistr sinister sinistra sinistro", "destr destra destro dextr dexter dextra"),
    ("esquerd esquerda esquerdo", "direit direita direito"),
    ("vanster venstre", "hoger hoyre hojre"),
    ("lewy lewa lewe", "prawy prawa prawe"),
    ("levy leva leve levo", "pravy prava prave pravo"),
    ("лев", "прав"),
)
"""Words and stems for left and right, without accents.

They count within a word too: `leftkidney`, `linke`, `KIDNEYRIGHT`.
"""
SHORT = ("lt lh li izq izdo izda esq sin sx", "rt rh re der dcho dcha dir dex dx dext")
"""Abbreviations, which count within a word only with `LEAST_REST` letters besides: `niereli`, but not `live`."""
LETTERS = ("l", "r")
"""Letters, which count within a word too, unless they tell chambers of a heart."""
FRENCH_LETTERS = ("g", "d")
"""Letters that count as words only, and for each other only (gauche, droite)."""
SIGNS = ("左", "右"), ("좌", "우"), ("왼", "오른")
"""Characters that count wherever they stand: their languages put no space beside them."""
LEAST_REST = 3
CHAMBERS = re.compile(r"aa|[va](wall|cav|cavity|blood)?|v(m|w|c|p|b|bp|ot|ed|es|epi|endo|myo|myocardium)")
"""What follows L or R in chambers of a heart and their parts (LV, RA, LAA, LVOT, RVendo): organs, not sides of one."""
LETTERS_WITHOUT_ACCENT = str.maketrans({"ø": "o", "ł": "l", "đ": "d", "ı": "i", "æ": "ae", "œ": "oe"})
"""Letters that Unicode does not take apart."""
FEWEST_CASES = 10
"""In fewer cases, labels may lie like mirror images by chance."""
MIRRORED_SHARE = 0.9
"""Share of the cases in which two labels must mirror each other; the others have disease, or lie crooked."""
MOST_RATIO = 1.5
"""Volumes of two sides differ by less."""
MOST_OFFSET = 0.25
"""Centres of two sides are at most so far apart along each of the other axes, as a share of the labels' extent."""


class _Reading(NamedTuple):
    """A name taken apart at one of its words for a side."""

    scheme: int
    """0, or 1 for French letters."""
    is_right: bool
    rest: str
    """The other words' letters, in alphabetical order of the words."""


def mirror_pairs(names: Iterable[str]) -> tuple[tuple[str, str], ...]:
    """Return the (left, right) pairs among names, as `kidney_left` and `right kidney`, `RK` and `LK`, or 左肾 and 右肾.

    A pair too many costs a mirrored axis, one that is missed swaps its sides: what may be a side is taken for one.
    """
    found: dict[tuple[int, str], tuple[list[str], list[str]]] = defaultdict(lambda: ([], []))
    for name in dict.fromkeys(names):
        for reading in set(_readings(name)):
            found[reading.scheme, reading.rest][reading.is_right].append(name)
    pairs: set[tuple[str, str]] = set()
    for lefts, rights in found.values():
        pairs.update(itertools.product(lefts, rights))
    # A name that reads as either side is no pair with itself.
    return tuple(sorted((left, right) for left, right in pairs if left != right))


def sided_pairs(dataset: DatasetDescription) -> tuple[tuple[str, str], ...]:
    """Return the (left, right) pairs among the labels and regions of a dataset, by their names."""
    return mirror_pairs((*dataset.labels, *(region.name for region in dataset.regions)))


def _readings(name: str) -> Iterator[_Reading]:
    """Yield what is left of a name without its side.

    One that is named twice, as in `left kidney (LK)`, is removed once, and twice.
    """
    words = tuple(_words(name))
    for is_right in (False, True):
        # Two sides may be removed in either order, which leads to the same words twice.
        seen: set[tuple[str, ...]] = set()
        waiting = [_Stage(words, is_sure=False)]
        while waiting:
            stage = waiting.pop()
            for following in _following(stage, is_right):
                if following.words not in seen:
                    seen.add(following.words)
                    waiting.append(following)
                    yield _Reading(0, is_right, _joined(following.words))
        letter = FRENCH_LETTERS[is_right]
        # Labels that are called G and D alone are more often letters of a list.
        if letter in words and len(words) > 1:
            yield _Reading(1, is_right, _joined(word for word in words if word != letter))


class _Stage(NamedTuple):
    """Words of a name from which sides were taken."""

    words: tuple[str, ...]
    is_sure: bool
    """Whether one of them was a word: a letter beside it tells the same side, even of a heart's chamber."""


def _following(stage: _Stage, is_right: bool) -> Iterator[_Stage]:
    """Yield a name's words with one more side taken away."""
    words, letters = stage.words, [LETTERS[is_right]]
    if stage.is_sure:
        letters.append(FRENCH_LETTERS[is_right])
    for side in (*_whole_words(is_right), *letters):
        others = tuple(word for word in words if word != side)
        is_chamber = side == LETTERS[is_right] and CHAMBERS.fullmatch(_joined(others))
        if side in words and (stage.is_sure or not is_chamber):
            yield _Stage(others, stage.is_sure or len(side) > 1)
    for position, word in enumerate(words):
        others = (*words[:position], *words[position + 1 :])
        for rest in _rests(word, is_right, is_sure=stage.is_sure):
            kept = (*others, rest) if rest else others
            # More than one letter was taken: a word, or an abbreviation.
            yield _Stage(kept, stage.is_sure or len(word) - len(rest) > 1)


def _whole_words(is_right: bool) -> list[str]:
    words = " ".join(pair[is_right] for pair in WORDS)
    return [*words.split(), *SHORT[is_right].split()]


def _rests(word: str, is_right: bool, *, is_sure: bool) -> Iterator[str]:
    """Yield what is left of a word without a side within it."""
    for side in " ".join(pair[is_right] for pair in WORDS).split():
        yield from _without(word, side)
    for side in SHORT[is_right].split():
        yield from (rest for rest in _without(word, side) if len(rest) >= LEAST_REST)
    for pair in SIGNS:
        if pair[is_right] in word:
            yield word.replace(pair[is_right], "")
    letter = LETTERS[is_right]
    is_chamber = word.startswith(letter) and CHAMBERS.fullmatch(word[1:])
    if word != letter and (is_sure or not is_chamber):
        yield from _without(word, letter)


def _without(word: str, side: str) -> set[str]:
    """Return what is left of a word that begins or ends with a side."""
    return {word.removeprefix(side), word.removesuffix(side)} - {word}


def _joined(words: Iterable[str]) -> str:
    # Sorted, as a side may stand before or behind: `left upper lobe` and `upper lobe right` are a pair.
    return "".join(sorted(words))


def _words(name: str) -> list[str]:
    """Split at punctuation and at capitals: `LeftKidney`, `LKidney`, `kidney_L1` and `l-kidney` all show their side."""
    plain = _without_accents(name)
    # Parts end before a capital behind a small letter, before the last of several capitals, and before a number.
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])|(?<=[A-Za-z])(?=\d)", " ", plain)
    return [word for word in re.split(r"[\W_]+", spaced.casefold()) if word]


def _without_accents(name: str) -> str:
    parts = unicodedata.normalize("NFKD", name)
    # Composed again afterwards: taken apart, the characters of Korean would not be found.
    kept = "".join(part for part in parts if not unicodedata.combining(part))
    return unicodedata.normalize("NFC", kept).translate(LETTERS_WITHOUT_ACCENT)


class _Places(NamedTuple):
    """Centres and extents of the labels of one case, in canonical orientation."""

    numbers: NDArray[np.int64]
    """(N,): positions of their names."""
    centroid_mm: NDArray[np.float64]
    """(N, 3), along Z, Y, X, as the others."""
    low_mm: NDArray[np.float64]
    high_mm: NDArray[np.float64]
    extent_mm: NDArray[np.float64]
    voxels: NDArray[np.float64]
    """(N,)."""


def mirrored_in_images(cases: Iterable[CaseMeasurement], names: Sequence[str]) -> list[MirroredLabels]:
    """Return the pairs of labels that mirror each other at the sagittal plane between them, whatever they are called.

    In nine of ten cases that hold both, of which there must be ten: one lies on the same side of the other, they do
    not overlap across that plane, their volumes are alike, and so are height and depth of their centres. Liver and
    spleen, zones of a prostate, front and back of an organ do not look like this; kidneys, lungs, femurs, hemispheres
    do.

    Args:
        cases: those without `label_places` say nothing.
        names: labels; the background and what is ignored are none.
    """
    places = [one for case in cases if (one := _places(case, names)) is not None]
    num_both = np.zeros((len(names), len(names)), np.int32)
    num_mirrored = np.zeros_like(num_both)
    for one in places:
        where = np.ix_(one.numbers, one.numbers)
        num_both[where] += 1
        num_mirrored[where] += _are_mirrored(one)
    # A hair's breadth of slack: 0.9 of 30 cases is 27.
    is_pair = (num_both >= FEWEST_CASES) & (num_mirrored >= MIRRORED_SHARE * num_both - 1e-9)
    found = []
    for left, right in np.argwhere(is_pair).tolist():
        found.append(
            MirroredLabels(
                left=names[left],
                right=names[right],
                num_cases=int(num_both[left, right]),
                num_mirrored=int(num_mirrored[left, right]),
                offsets_mm=_offsets_mm(places, left, right),
            )
        )
    return found


def _places(case: CaseMeasurement, names: Sequence[str]) -> _Places | None:
    """Return where the labels of a case lie, if that was measured."""
    known, voxels = case.label_places or {}, case.label_voxels or {}
    numbers = [number for number, name in enumerate(names) if name in known and voxels.get(name)]
    if len(numbers) < 2:
        return None
    found = [known[names[number]] for number in numbers]
    low = np.array([place.low_mm for place in found])
    high = np.array([place.high_mm for place in found])
    centroids = np.array([place.centroid_mm for place in found])
    counts = np.array([float(voxels[names[number]]) for number in numbers])
    # The first and the last voxel are given by their centres: half a voxel is missing at either end.
    extents = high - low + np.array(case.spacing_mm)
    return _Places(np.array(numbers), centroids, low, high, extents, counts)


def _are_mirrored(places: _Places) -> Mask:
    """Return for each pair (N, N) whether the first lies to the left of the second as its mirror image."""
    is_left = places.high_mm[:, None, 2] < places.low_mm[None, :, 2]  # X runs from left to right
    ratio = places.voxels[:, None] / places.voxels[None, :]
    is_alike = np.maximum(ratio, 1 / ratio) <= MOST_RATIO
    offsets = np.abs(places.centroid_mm[:, None] - places.centroid_mm[None, :])
    extents = (places.extent_mm[:, None] + places.extent_mm[None, :]) / 2
    is_level = offsets <= MOST_OFFSET * extents
    found: Mask = is_left & is_alike & is_level[..., 0] & is_level[..., 1]
    return found


def _offsets_mm(places: Iterable[_Places], left: int, right: int) -> tuple[float, float]:
    """Return how far the centres of two labels are apart along Z and Y, in the median case."""
    offsets = []
    for one in places:
        known = one.numbers.tolist()
        if left in known and right in known:
            offsets.append(np.abs(one.centroid_mm[known.index(left)] - one.centroid_mm[known.index(right)]))
    along_z, along_y, _ = np.round(np.median(offsets, axis=0), 3).tolist()
    return along_z, along_y
