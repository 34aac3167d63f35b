"""Closed contours to masks: a pixel belongs to what is inside if its centre is.

Coordinates are in voxels, a centre being at integers. Of several contours in one plane the even-odd rule makes holes: what
an odd number of them surrounds is inside.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tumorseg.types import Mask

ONE_PLANE = 0.1
"""Contours that are closer, in slices, are of one plane; others may be the next of a set drawn more densely than the slices."""

DECIMALS = 4
"""Of a voxel: what affines and text leave as noise must not decide on which side of a centre an edge runs."""

Contour = NDArray[np.float64]
"""(N, 3), corners x, y, z; the last is joined to the first."""


class Filled(NamedTuple):
    """What contours make of a grid."""

    mask: Mask
    """(Z, Y, X)."""
    num_dropped: int
    """Planes without a slice of their own: another one is nearer to it."""
    widest_gap: int
    """Slices from a plane to the next, as the median; above 1, slices between planes stay empty."""


def fill_contours(contours: Sequence[Contour], shape: tuple[int, int, int]) -> Filled:
    """Fill the contours of one structure.

    A slice gets the plane that is nearest to it, and none from farther than half a slice.

    Args:
        contours: parallel to the slices, between the outer edges of the first and the last.
        shape: voxels (Z, Y, X).
    """
    mask = np.zeros(shape, np.bool_)
    planes = _planes([np.round(contour, DECIMALS) for contour in contours])
    nearest: dict[int, tuple[float, list[Contour]]] = {}
    for height, members in planes:
        number = int(np.clip(np.floor(height + 0.5), 0, shape[0] - 1))
        if number not in nearest or abs(height - number) < abs(nearest[number][0] - number):
            nearest[number] = height, members
    for number, (_, members) in nearest.items():
        mask[number] = fill_polygons([contour[:, :2] for contour in members], shape[1:])
    gaps = np.diff(sorted(nearest))
    return Filled(mask, len(planes) - len(nearest), int(np.median(gaps)) if gaps.size else 1)


def fill_polygons(polygons: Sequence[NDArray[np.float64]], shape: tuple[int, ...]) -> Mask:
    """Fill polygons by the even-odd rule.

    An edge that runs exactly through a centre leaves the pixel to its lesser x and y outside, so that of two
    polygons with a common edge each pixel is in one.

    Args:
        polygons: (N, 2) each, corners x, y.
        shape: pixels (Y, X); what lies beyond is cut off.

    Returns:
        (Y, X).
    """
    rows, columns = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for polygon in polygons:
        row, crossing = _crossings(polygon, shape[0])
        rows.append(row)
        columns.append(np.clip(np.ceil(crossing), 0, shape[1]).astype(np.int64))
    toggles = np.zeros((shape[0], shape[1] + 1), np.int64)
    np.add.at(toggles, (np.concatenate(rows), np.concatenate(columns)), 1)
    return np.asarray(np.cumsum(toggles, axis=1)[:, :-1] % 2 == 1)


def _planes(contours: Sequence[Contour]) -> list[tuple[float, list[Contour]]]:
    """Return the planes in which contours lie, from the lowest, each with its height and its contours."""
    planes: list[tuple[float, list[Contour]]] = []
    for contour in sorted(contours, key=lambda contour: float(contour[:, 2].mean())):
        height = float(contour[:, 2].mean())
        if planes and height - planes[-1][0] <= ONE_PLANE:
            planes[-1][1].append(contour)
        else:
            planes.append((height, [contour]))
    return planes


def _crossings(polygon: NDArray[np.float64], num_rows: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return where edges cross the lines of pixel centres: rows, and x in them."""
    following = np.roll(polygon, -1, axis=0)
    # Both directions of an edge must give the same numbers, so that keyholes close.
    is_down = polygon[:, 1] > following[:, 1]
    low, high = np.where(is_down[:, None], following, polygon), np.where(is_down[:, None], polygon, following)
    first = np.clip(np.ceil(low[:, 1]), 0, num_rows).astype(np.int64)
    last = np.clip(np.ceil(high[:, 1]), 0, num_rows).astype(np.int64)
    counts = last - first
    edge = np.repeat(np.arange(len(polygon)), counts)
    row = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts) + first[edge]
    rise = high[edge, 1] - low[edge, 1]
    x = low[edge, 0] + (row - low[edge, 1]) * ((high[edge, 0] - low[edge, 0]) / rise)
    return row, x
