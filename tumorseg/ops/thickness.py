"""Thickness of structures, from the number of unbroken runs of voxels along each axis."""

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from tumorseg.types import Segmentation, Spacing

PART = 1 << 20
"""Voxels that are looked at together, so that what is made of them stays in the processor's cache."""


def count_runs(indices: Segmentation, members: Sequence[Iterable[int]], num_classes: int) -> NDArray[np.int64]:
    """Return how many runs (sets, axes) several sets of classes have along each axis.

    A run is an unbroken row of voxels of the set. The set's voxels over its runs are their mean length, the mean
    chord of its shape in that direction: a plate's thickness, pi / 4 of a rod's diameter, two thirds of a ball's,
    whatever its place and its number of pieces. A voxel of noise is one run among all.

    Args:
        indices: class indices (Z, Y, X); those below 0 are in no set.
        members: the class indices, from 1, of each set.
        num_classes: class indices are below.

    References:
        The mean intercept length of stereology (Underwood, Quantitative Stereology, 1970).
    """
    # Class indices from -1 on, moved up by one.
    codes = num_classes + 1
    entered = _count_entries(indices, codes)
    runs = np.zeros((len(members), indices.ndim), np.int64)
    for number, classes in enumerate(members):
        inside = np.zeros(codes, bool)
        inside[[index + 1 for index in classes]] = True
        runs[number] = entered[:, ~inside][:, :, inside].sum(axis=(1, 2))
    return runs


def _count_entries(indices: Segmentation, codes: int) -> NDArray[np.int64]:
    """Return steps between voxels of different codes (axis, from, to); from beyond the border as from code 0."""
    entered = np.zeros((indices.ndim, codes, codes), np.int64)
    entered[0, 0] += _count(indices[:1], codes)
    step = max(1, PART * len(indices) // max(indices.size, 1))
    for start in range(0, len(indices), step):
        # A slice more, for the step from the last one of this part to the next part's first.
        part = np.ascontiguousarray(indices[start : start + step + 1])
        # All background: no set is entered.
        if not part.any():
            continue
        entered[0] += _count_steps(part, 0, codes)
        part = part[:step]
        for axis in range(1, part.ndim):
            entered[axis, 0] += _count(part.take([0], axis), codes)
            entered[axis] += _count_steps(part, axis, codes)
    return entered


def _count_steps(part: Segmentation, axis: int, codes: int) -> NDArray[np.int64]:
    """Count steps along an axis of a contiguous array into another code: (from, to)."""
    before = (slice(None),) * axis
    differ = part[(*before, slice(1, None))] != part[(*before, slice(None, -1))]
    found = np.flatnonzero(differ)
    stride = int(np.prod(part.shape[axis + 1 :]))
    # From places in `differ` to places in `part`, which has one more along the axis.
    found += found // max(1, differ.shape[axis] * stride) * stride
    flat = part.ravel()
    pairs = (flat[found].astype(np.int64) + 1) * codes + flat[found + stride] + 1
    return np.bincount(pairs, minlength=codes * codes).reshape(codes, codes)


def _count(indices: Segmentation, codes: int) -> NDArray[np.int64]:
    return np.bincount(indices.ravel().astype(np.int64) + 1, minlength=codes)


def mean_lengths(num_voxels: int, num_runs: Sequence[int], spacing_mm: Spacing) -> tuple[float, float, float]:
    """Return how long runs are in the mean along each axis, in mm.

    Args:
        num_voxels: of the structure, more than 0.
        num_runs: along each axis (Z, Y, X).
        spacing_mm: voxel edges (Z, Y, X).
    """
    z, y, x = (num_voxels / number * edge for number, edge in zip(num_runs, spacing_mm, strict=True))
    return (z, y, x)
