"""Structures that overlap, painted as one label map.

A voxel of a label map has one label, while targets of radiotherapy lie in each other and lesions in organs. Which of two
structures lies on top is stated, or beyond doubt, or it is asked for; their names and numbers do not decide.
"""

import csv
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from graphlib import CycleError, TopologicalSorter
from io import StringIO
from itertools import combinations_with_replacement
from math import prod
from shlex import quote
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tumorseg.errors import InputError
from tumorseg.types import Mask, Segmentation, Shape

NESTED = 0.95
"""Share of the smaller of two structures from which on it lies in the larger one, and is painted over it."""
TOUCHING = 0.05
"""Share of the smaller one up to which two structures only touch; there, too, the smaller one is painted over the larger."""
PART = 1 << 20
"""Voxels that are looked at together."""
MOST_LISTED = 3
"""Pairs, or names, that a message lists at most."""


class OverlapError(InputError):
    """Structures overlap so that a person has to say which lies on top."""


class Overlap(NamedTuple):
    """Two structures that have voxels in common."""

    lower: str
    upper: str
    """The one that is painted over the other."""
    num_voxels: int
    """In both."""
    share: float
    """Of the upper one, what is in both."""
    why: Literal["stated", "nested", "touching"]
    """What decides which lies on top."""


class Painted(NamedTuple):
    """A label map and what it cost."""

    segmentation: Segmentation
    """(Z, Y, X), 0 where nothing is."""
    overlaps: tuple[Overlap, ...]
    """Sorted by names."""
    hidden: dict[str, tuple[str, ...]]
    """Structures of which a stated order leaves nothing, and those that lie over them."""


_Combination = tuple[tuple[str, ...], int]
"""The structures that cover a voxel, and how many voxels they and no others cover."""


class _Pair(NamedTuple):
    """Two structures with common voxels, by size; where equal ones touch, so that something decides, by name."""

    smaller: str
    larger: str
    sizes: tuple[int, int]
    num_voxels: int

    @property
    def share(self) -> float:
        return self.num_voxels / self.sizes[0]

    @property
    def has_inner(self) -> bool:
        """Whether one lies in the other, and it is plain which."""
        return self.share >= NESTED and self.sizes[0] < self.sizes[1]


def paint_structures(
    structures: Iterable[tuple[str, Mask]], values: Mapping[str, int], *, shape: Shape, order: Sequence[str] = ()
) -> Painted:
    """Paint structures on one label map.

    Of two that overlap, a stated order decides if it names both. Else the smaller one lies on top if at least `NESTED` of it lies in the
    other, or at most `TOUCHING` of it. Masks are asked for one after the other, and none is kept.

    Args:
        structures: names, each once, and masks (Z, Y, X).
        values: label value of each name.
        shape: voxels (Z, Y, X).
        order: names, the last on top; others than those of the structures do not matter.

    Returns:
        The label map, of the smallest integer type from int16 on that holds all values.

    Raises:
        OverlapError: which of two structures lies on top is open, the order contradicts what lies in what, or nothing is left of a
            structure though no order says so.
    """
    cover = _Cover(shape)
    for name, mask in structures:
        cover.add(name, mask)
    combinations = cover.combinations()
    overlaps = _decide(combinations, order)
    ranks = _ranks(overlaps, order)
    # A structure that overlaps with no other has no rank and covers its voxels alone.
    tops = [max(names, key=lambda name: ranks.get(name, 0), default=None) for names, _ in combinations]
    hidden = _hidden(combinations, tops, order)
    painted = [0 if top is None else values[top] for top in tops]
    return Painted(cover.look_up(np.array(painted, _type_of(values))), overlaps, hidden)


def wholes(overlaps: Iterable[Overlap]) -> dict[str, tuple[str, ...]]:
    """Return the structures that others are nested in, each with the names of those: the labels that make it whole again.

    Args:
        overlaps: as from `paint_structures`.
    """
    found: dict[str, list[str]] = {}
    for overlap in overlaps:
        if overlap.share >= NESTED:
            found.setdefault(overlap.lower, []).append(overlap.upper)
    return {name: tuple(sorted(inner)) for name, inner in sorted(found.items())}


class _Cover:
    """Structures that cover each voxel: a code per voxel, one for each combination that occurs."""

    def __init__(self, shape: Shape) -> None:
        self.names: list[str] = []
        self._codes: NDArray[Any] = np.zeros(shape, np.uint16)
        self._sets = [0]  # of each code, its structures as bits
        self._counts = [prod(shape)]  # of each code, its voxels
        self._known = {0: 0}

    def add(self, name: str, mask: Mask) -> None:
        """Add a structure to the voxels that it covers."""
        bit = 1 << len(self.names)
        self.names.append(name)
        for part in _parts(self._codes.shape):
            inside = mask[part]
            if not inside.any():
                continue
            found = self._codes[part][inside]
            joined = self._join(found, bit)
            self._codes[part][inside] = joined[found]

    def _join(self, found: NDArray[Any], bit: int) -> NDArray[np.int64]:
        """Return, for each code, that of the same structures and one more."""
        counts = np.bincount(found)
        joined = np.zeros(len(counts), np.int64)
        for code in np.flatnonzero(counts).tolist():
            joined[code] = self._code(self._sets[code] | bit)
            self._counts[code] -= int(counts[code])
            self._counts[joined[code]] += int(counts[code])
        # Two bytes do until there are more combinations; wider codes come before the first that needs them is written.
        if len(self._sets) > np.iinfo(self._codes.dtype).max:
            self._codes = self._codes.astype(np.uint32)
        return joined

    def _code(self, bits: int) -> int:
        if bits not in self._known:
            self._known[bits] = len(self._sets)
            self._sets.append(bits)
            self._counts.append(0)
        return self._known[bits]

    def combinations(self) -> list[_Combination]:
        """Return what each code stands for; codes that no voxel has any more stand for nothing."""
        numbers = range(len(self.names))
        found = []
        for bits, count in zip(self._sets, self._counts, strict=True):
            members = [self.names[number] for number in numbers if bits >> number & 1] if count else []
            found.append((tuple(members), count))
        return found

    def look_up(self, table: NDArray[Any]) -> Segmentation:
        """Return the map of what stands in a table for each code."""
        painted = np.zeros(self._codes.shape, table.dtype)
        for part in _parts(painted.shape):
            painted[part] = table[self._codes[part]]
        return painted


def _parts(shape: Shape) -> Iterator[slice]:
    """Yield slabs of a volume along its first axis; their temporary arrays stay small."""
    step = max(1, PART * shape[0] // max(prod(shape), 1))
    yield from (slice(start, start + step) for start in range(0, shape[0], step))


def _type_of(values: Mapping[str, int]) -> np.dtype[Any]:
    used = values.values() or [0]
    return np.result_type(np.int16, np.min_scalar_type(min(used)), np.min_scalar_type(max(used)))


def _decide(combinations: Iterable[_Combination], order: Sequence[str]) -> tuple[Overlap, ...]:
    """Return the pairs that overlap, and which lies on top."""
    places = {name: place for place, name in enumerate(order)}
    decided, undecided = [], []
    for pair in _pairs(combinations):
        smaller, larger, sizes, count = pair
        if smaller in places and larger in places:
            is_inner_on_top = places[smaller] > places[larger]
            lower, upper, size = (larger, smaller, sizes[0]) if is_inner_on_top else (smaller, larger, sizes[1])
            decided.append(Overlap(lower, upper, count, count / size, "stated"))
        elif pair.has_inner:
            decided.append(Overlap(larger, smaller, count, pair.share, "nested"))
        elif pair.share <= TOUCHING:
            decided.append(Overlap(larger, smaller, count, pair.share, "touching"))
        else:
            undecided.append(pair)
    if undecided:
        raise _quarrel(undecided)
    return tuple(decided)


def _pairs(combinations: Iterable[_Combination]) -> Iterator[_Pair]:
    """Yield the pairs that overlap, sorted by names."""
    shared: Counter[tuple[str, str]] = Counter()
    for names, count in combinations:
        # A name paired with itself counts its own voxels: its size.
        for first, second in combinations_with_replacement(sorted(names), 2):
            shared[first, second] += count
    for (first, second), count in sorted(shared.items()):
        if first != second:
            small, large = sorted((shared[name, name], name) for name in (first, second))
            yield _Pair(small[1], large[1], (small[0], large[0]), count)


def _quarrel(pairs: Sequence[_Pair]) -> OverlapError:
    """Return the error for pairs of which it is open which lies on top."""
    more = f"; so do {len(pairs) - MOST_LISTED} more pairs" if len(pairs) > MOST_LISTED else ""
    listed = "; ".join(map(_describe, pairs[:MOST_LISTED])) + more
    sizes = {pair.smaller: pair.sizes[0] for pair in pairs} | {pair.larger: pair.sizes[1] for pair in pairs}
    order = sorted(sizes, key=lambda name: (-sizes[name], name))
    is_twice = pairs[0].num_voxels == pairs[0].sizes[1]
    remedy = "leave one of the two out of the labels, or " if is_twice else ""
    return OverlapError(
        f"{listed}; expected {100 * NESTED:g} % of one in a larger one, or a touch (at most {100 * TOUCHING:g} %); {remedy}state which "
        f"lies on top: {_option(order)}, or `paint_order` in a manifest's `reading`"
    )


def _option(names: Sequence[str]) -> str:
    row = StringIO()
    # Names may contain commas.
    csv.writer(row, lineterminator="").writerow(names)
    return f"--paint-order {quote(row.getvalue())} (the last on top)"


def _describe(pair: _Pair) -> str:
    names = f"{pair.larger} and {pair.smaller}"
    if pair.num_voxels == pair.sizes[1]:
        return f"{names} are the same in all {pair.num_voxels} voxels"
    same = " (both have the same number)" if pair.sizes[0] == pair.sizes[1] else ""
    voxels = "1 voxel" if pair.num_voxels == 1 else f"{pair.num_voxels} voxels"
    return f"{names} overlap in {voxels}, {100 * pair.share:.3g} % of {pair.smaller}{same}"


def _ranks(overlaps: Iterable[Overlap], order: Sequence[str]) -> dict[str, int]:
    """Return a height for each structure that overlaps with others, so that all decisions hold at once."""
    below: dict[str, list[str]] = {}
    for overlap in overlaps:
        below.setdefault(overlap.lower, [])
        below.setdefault(overlap.upper, []).append(overlap.lower)
    try:
        ordered = list(TopologicalSorter(below).static_order())
    except CycleError as error:
        # By size alone nothing contradicts itself, so a stated order that leaves out one of these is part of it.
        circle: list[str] = error.args[1]
        missing = sorted(set(circle) - set(order))
        raise OverlapError(
            f"the stated order ({', '.join(order)}) contradicts what lies in what: each of {', '.join(circle)} would have to lie over the one "
            f"before it; state where {' and '.join(missing)} belongs in it, too"
        ) from None
    return {name: rank for rank, name in enumerate(ordered)}


def _hidden(
    combinations: Sequence[_Combination], tops: Sequence[str | None], order: Sequence[str]
) -> dict[str, tuple[str, ...]]:
    """Return the structures of which nothing is left, and what lies over them."""
    seen: dict[str, set[str]] = {}
    for (names, _), top in zip(combinations, tops, strict=True):
        for name in names:
            seen.setdefault(name, set()).add(str(top))
    hidden = {name: tuple(sorted(found)) for name, found in sorted(seen.items()) if name not in found}
    for name, uppers in hidden.items():
        if not {name, *uppers} <= set(order):
            raise _erased(name, uppers)
    return hidden


def _erased(name: str, uppers: Sequence[str]) -> OverlapError:
    return OverlapError(
        f"{name} is hidden: all its voxels lie in {_listed(uppers)}, which are painted over it; leave it out of the labels and predict "
        f"the whole with --regions FILE ({name} = {' + '.join(uppers)}), or state that this is meant: {_option([name, *uppers])}, or "
        "`paint_order` in a manifest's `reading`"
    )


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:-1]) + " and " + names[-1] if len(names) > 1 else names[0]
