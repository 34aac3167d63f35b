"""Connected components of masks, and how those of two masks overlap."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from tumorseg.schema.score_rules import Connectivity
from tumorseg.types import Mask, Segmentation

_NEXT_ROWS: dict[Connectivity, tuple[tuple[int, int, int], ...]] = {
    6: ((0, 1, 0), (1, 0, 0)),
    18: ((0, 1, 1), (1, -1, 0), (1, 0, 1), (1, 1, 0)),
    26: ((0, 1, 1), (1, -1, 1), (1, 0, 1), (1, 1, 1)),
}
"""Steps along Z and Y to those rows of X that neighbour one and come later, and how far along X neighbours may be apart."""
_LEAST_TABLE = 2**16
"""Up to so many possible pairs a table is made whatever there is to count."""


class Components(NamedTuple):
    """Connected parts of a mask, or groups of such, by its voxels: a box has many times as many."""

    mask: Mask
    """(Z, Y, X), bool, contiguous."""
    places: NDArray[np.intp]
    """(V,): flat indices of the mask's voxels, rising."""
    labels: NDArray[np.int32]
    """(V,): number of the part of each voxel, from 1."""
    sizes: NDArray[np.int64]
    """(N + 1,): voxels of each number; of 0, and of numbers that were given up, 0."""

    @property
    def num(self) -> int:
        """Return the number of parts that have voxels."""
        return int(np.count_nonzero(self.sizes))

    def image(self) -> Segmentation:
        """Return the numbers as an image (Z, Y, X), int32, 0 outside the mask."""
        painted = np.zeros(self.mask.shape, dtype=np.int32)
        painted.reshape(-1)[self.places] = self.labels
        return painted

    def gathered(self) -> "Gathered":
        """Return the voxels part by part."""
        starts = np.concatenate(([0], np.cumsum(self.sizes)))
        return Gathered(self.places[np.argsort(self.labels, kind="stable")], starts)


class Gathered(NamedTuple):
    """Voxels of parts, those of one after those of another, so that to look one up takes no pass over all."""

    places: NDArray[np.intp]
    """(V,): flat indices, rising within a part."""
    starts: NDArray[np.int64]
    """(N + 2,): where the voxels of each number start, and end with the next."""

    def of(self, numbers: Iterable[int]) -> NDArray[np.intp]:
        """Return the flat indices of the voxels of one part or more."""
        return np.concatenate([self.places[self.starts[number] : self.starts[number + 1]] for number in numbers])


class Overlaps(NamedTuple):
    """Pairs of parts that share voxels, sorted by the first part, then the second."""

    first: NDArray[np.int64]
    """(P,): number of the part of the one mask."""
    second: NDArray[np.int64]
    """(P,): number of the part of the other."""
    shared: NDArray[np.int64]
    """(P,): voxels in both."""


def components_of(mask: Mask, connectivity: Connectivity) -> Components:
    """Return the connected components of a mask, numbered from 1 in the order of their first voxels.

    Args:
        mask: (Z, Y, X), bool.
        connectivity: over what voxels are neighbours.
    """
    # By runs along X rather than by voxels: a mask has a hundred times fewer of them than its box has voxels.
    starts, stops, row, plane = _runs(mask)
    pairs = []
    for along_z, along_y, apart in _NEXT_ROWS[connectivity]:
        step = along_z * plane + along_y * row
        pairs.append(_meeting(starts + step - apart, stops + step + apart, starts, stops))
    first, second = np.concatenate(pairs, axis=1)
    edges = coo_array((np.ones(first.size, np.int8), (first, second)), shape=(starts.size, starts.size))
    num, part = connected_components(edges, directed=False)
    lengths = stops - starts
    sizes = np.bincount(part + 1, weights=lengths, minlength=num + 1).astype(np.int64)
    mask = np.ascontiguousarray(mask)
    return Components(mask, np.flatnonzero(mask), np.repeat(part + np.int32(1), lengths), sizes)


def _runs(mask: Mask) -> tuple[NDArray[np.intp], NDArray[np.intp], int, int]:
    """Return where runs along X start and stop, by flat index of a wider array, and how far apart its rows and planes are."""
    # Wider by a voxel of background, so that no run goes on in the next row, and no row neighbours one of the next plane.
    wide = np.zeros((mask.shape[0], mask.shape[1] + 1, mask.shape[2] + 1), dtype=np.bool_)
    wide[:, :-1, :-1] = mask
    flat = wide.reshape(-1)
    ends = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    # A run that starts with the array has no change before it.
    ends = ends if ends.size % 2 == 0 else np.concatenate(([0], ends))
    return ends[::2], ends[1::2], wide.shape[2], wide.shape[1] * wide.shape[2]


def _meeting(
    lower: NDArray[np.intp], upper: NDArray[np.intp], starts: NDArray[np.intp], stops: NDArray[np.intp]
) -> NDArray[np.intp]:
    """Return pairs (2, P) of intervals [lower, upper) and runs that share a place; runs are sorted."""
    first = np.searchsorted(stops, lower, side="right")
    num = np.maximum(np.searchsorted(starts, upper, side="left") - first, 0)
    owner = np.repeat(np.arange(lower.size), num)
    # The runs that meet an interval follow each other: the first one's number, and a count from 0 for each interval.
    count = np.arange(owner.size) - np.repeat(np.cumsum(num) - num, num)
    return np.stack((owner, first[owner] + count))


def inside(parts: Components, mask: Mask) -> Components:
    """Return what of some parts lies in a mask (Z, Y, X), every voxel of which is in one of them."""
    mask = np.ascontiguousarray(mask)
    labels = parts.labels[mask.reshape(-1)[parts.places]]
    return Components(mask, np.flatnonzero(mask), labels, np.bincount(labels, minlength=1))


def overlaps_of(first: Components, second: Components) -> Overlaps:
    """Return which parts of two masks share voxels."""
    # What both masks have comes in the same order from either.
    ours = first.labels[second.mask.reshape(-1)[first.places]]
    theirs = second.labels[first.mask.reshape(-1)[second.places]]
    return pairs_of(ours, theirs)


def pairs_of(ours: NDArray[np.integer], theirs: NDArray[np.integer]) -> Overlaps:
    """Return which pairs of numbers (P,) from 1 on there are, and how often."""
    num = int(theirs.max(initial=0)) + 1
    pairs, shared = _counted(ours.astype(np.int64) * num + theirs)
    return Overlaps(pairs // num, pairs % num, shared)


def _counted(codes: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return which numbers there are, sorted, and how often."""
    # Few parts have few pairs, which a table counts faster than sorting does.
    if codes.max(initial=0) > max(codes.size, _LEAST_TABLE):
        return np.unique(codes, return_counts=True)
    counts = np.bincount(codes)
    found = np.flatnonzero(counts)
    return found, counts[found]


def dilated(mask: Mask, steps: int) -> Mask:
    """Return a mask dilated over faces and edges, inside the array.

    Args:
        mask: (Z, Y, X), bool.
        steps: how many times.
    """
    for _ in range(steps):
        # The neighbours over faces and edges are those in the three planes through a voxel.
        along_x, along_y = _along(mask, 2), _along(mask, 1)
        mask = _along(along_x, 1) | _along(along_x | along_y, 0)
    return mask


def _along(mask: Mask, axis: int) -> Mask:
    """Return a mask dilated by a voxel both ways along an axis."""
    grown = mask.copy()
    there, here = np.moveaxis(mask, axis, 0), np.moveaxis(grown, axis, 0)
    here[1:] |= there[:-1]
    here[:-1] |= there[1:]
    return grown


def joined(parts: Components, groups: NDArray[np.integer]) -> Components:
    """Return parts with numbers of groups in place of their own.

    Args:
        parts: the parts.
        groups: (N + 1,): number of each part's group; 0 gives a part up.
    """
    labels = groups.astype(np.int32)[parts.labels]
    kept = labels > 0
    if kept.all():
        return parts._replace(labels=labels, sizes=np.bincount(labels, minlength=1))
    mask = np.zeros_like(parts.mask)
    mask.reshape(-1)[parts.places[kept]] = True
    return Components(mask, parts.places[kept], labels[kept], np.bincount(labels[kept], minlength=1))
