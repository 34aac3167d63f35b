"""Closed contours to masks: a pixel belongs to what is inside if its centre is.

Coordinates are in voxels, a centre being at integers. Contours of one plane that cross are united; one inside another is a hole, one
inside a hole is filled. A contour that goes round a hole of its own (a keyhole), or crosses itself, is filled by the even-odd rule.

References:
    DICOM PS3.3, C.8.8.6.3: inner and outer contours (keyholes, CLOSEDPLANAR_XOR).
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tumorseg.ops.polygons import Nesting, count_corners, find_originals, nest
from tumorseg.types import Mask, Spacing

ONE_PLANE = 0.1
"""Contours that are closer, in slices, are of one plane; others may be the next of a set drawn more densely than the slices."""

DECIMALS = 4
"""Of a voxel: what affines and text leave as noise must not decide on which side of a centre an edge runs."""


class Contour(NamedTuple):
    """A closed line in a plane."""

    points: NDArray[np.float64]
    """(N, 3), corners x, y, z; the last is joined to the first."""
    is_xor: bool = False
    """Whether all of this kind in a plane are combined by exclusive or, as CLOSEDPLANAR_XOR says."""


class Counts(NamedTuple):
    """Contours that are not simply filled, each for itself."""

    copies: int = 0
    """Stand twice in a plane, within rounding, or go round their own loop again, and count once."""
    crossing: int = 0
    """Cross others and are united with them."""
    holes: int = 0
    """Lie inside others."""
    rims: int = 0
    """Holes that run along what is around them for most of their length, less than half a pixel away."""
    wound: int = 0
    """Go round some centres twice, which the even-odd rule leaves out."""
    mixed: int = 0
    """Combined by exclusive or with contours of the other kind."""
    lost: int = 0
    """Filled, but no pixel's centre is left to them."""


class Filled(NamedTuple):
    """Mask made from contours, with counts of what was left out."""

    mask: Mask
    """(Z, Y, X)."""
    num_dropped: int
    """Planes without a slice of their own: another one is nearer to it."""
    widest_gap: int
    """Slices from a plane to the next, as the median; above 1, slices between planes stay empty."""
    counts: Counts
    """Of the planes that were not dropped."""


class _Patch(NamedTuple):
    """The pixels inside one contour."""

    window: tuple[slice, slice]
    """Of the plane."""
    mask: NDArray[np.bool_]
    is_wound: bool
    """Whether it goes round some centres twice."""


def fill_contours(contours: Sequence[Contour], shape: tuple[int, int, int], spacing_mm: Spacing) -> Filled:
    """Fill the contours of one structure.

    A slice gets the plane that is nearest to it, and none from farther than half a slice. An edge that runs exactly through a centre
    leaves the pixel to its lesser x and y outside, so that of two contours with a common edge each pixel is in one.

    Args:
        contours: parallel to the slices, between the outer edges of the first and the last; what lies beyond within a slice is cut off.
        shape: voxels (Z, Y, X).
        spacing_mm: (Z, Y, X).
    """
    mask = np.zeros(shape, np.bool_)
    planes = _planes([contour._replace(points=np.round(contour.points, DECIMALS)) for contour in contours])
    nearest: dict[int, tuple[float, list[Contour]]] = {}
    for height, members in planes:
        # Half-way between two slices it is the upper one; `round` would take the even one.
        number = int(np.clip(np.floor(height + 0.5), 0, shape[0] - 1))
        if number not in nearest or abs(height - number) < abs(nearest[number][0] - number):
            nearest[number] = height, members
    counts = [_fill_plane(mask[number], members, spacing_mm) for number, (_, members) in nearest.items()]
    gaps = np.diff(sorted(nearest))
    return Filled(
        mask,
        len(planes) - len(nearest),
        int(np.median(gaps)) if gaps.size else 1,
        Counts(*map(sum, zip(*counts, strict=True))),
    )


def _planes(contours: Sequence[Contour]) -> list[tuple[float, list[Contour]]]:
    """Return the planes in which contours lie, from the lowest, each with its height and its contours."""
    planes: list[tuple[float, list[Contour]]] = []
    heights = [float(contour.points[:, 2].mean()) for contour in contours]
    for index in np.argsort(heights, kind="stable"):
        # Measured from the first of a plane, or a dense stack would join link by link.
        if planes and heights[index] - planes[-1][0] <= ONE_PLANE:
            planes[-1][1].append(contours[index])
        else:
            planes.append((heights[index], [contours[index]]))
    return planes


def _fill_plane(plane: Mask, contours: Sequence[Contour], spacing_mm: Spacing) -> Counts:
    """Fill the contours of a plane (Y, X) that is empty."""
    edges_mm = np.array([spacing_mm[2], spacing_mm[1]])
    # Of copies that differ in kind the one that says more stays: exclusive or.
    drawn = sorted(contours, key=lambda contour: not contour.is_xor)
    ordered = [_once(contour, edges_mm) for contour in drawn]
    num_repeating = sum(len(one.points) < len(contour.points) for one, contour in zip(ordered, drawn, strict=True))
    outlines = [contour.points[:, :2] * edges_mm for contour in ordered]
    originals = find_originals(outlines, float(edges_mm.min()))
    # They come first in `ordered`, and so among the originals.
    num_toggles = sum(ordered[index].is_xor for index in originals)
    patches = [_patch(ordered[index].points, plane.shape) for index in originals]
    toggles, planar = patches[:num_toggles], patches[num_toggles:]
    nesting = nest([outlines[index] for index in originals[num_toggles:]], float(edges_mm.min()))
    counts = _fill_nested(plane, planar, nesting)
    for patch in toggles:
        plane[patch.window] ^= patch.mask
    return counts._replace(
        copies=len(contours) - len(originals) + num_repeating,
        mixed=num_toggles if planar else 0,
        wound=sum(patch.is_wound for patch in patches),
        lost=counts.lost + sum(not patch.mask.any() for patch in toggles),
    )


def _once(contour: Contour, edges_mm: NDArray[np.float64]) -> Contour:
    """Return one round of a contour that goes the same way several times."""
    count = count_corners(contour.points[:, :2] * edges_mm, float(edges_mm.min()))
    return contour._replace(points=contour.points[:count])


def _fill_nested(plane: Mask, patches: Sequence[_Patch], nesting: Nesting) -> Counts:
    filled: list[_Patch] = []
    # From the outermost on, so that what lies inside is painted over what is around it.
    for cluster in nesting.clusters:
        is_filled = cluster.depth % 2 == 0
        members = [patches[index] for index in cluster.members]
        for patch in members:
            plane[patch.window][patch.mask] = is_filled
        if is_filled:
            filled += members
    return Counts(
        crossing=sum(len(cluster.members) for cluster in nesting.clusters if len(cluster.members) > 1),
        holes=len(patches) - len(filled),
        rims=nesting.num_rims,
        lost=sum(not (plane[patch.window] & patch.mask).any() for patch in filled),
    )


def _patch(points: NDArray[np.float64], shape: tuple[int, ...]) -> _Patch:
    """Return the pixels of a plane (Y, X) inside a contour by the even-odd rule."""
    row, crossing, turn = _crossings(points, shape[0])
    column = np.clip(np.ceil(crossing), 0, shape[1]).astype(np.int64)
    if not row.size:
        return _Patch((slice(0), slice(0)), np.zeros((0, 0), np.bool_), False)
    top, left, bottom, right = row.min(), column.min(), row.max() + 1, column.max()
    # One column more, for crossings at the right end; beyond it every contour is closed and nothing is inside.
    turns = np.zeros((bottom - top, right - left + 1), np.int32)
    np.add.at(turns, (row - top, column - left), turn)
    winding = np.cumsum(turns, axis=1)[:, :-1]
    mask = winding % 2 == 1
    return _Patch((slice(top, bottom), slice(left, right)), mask, bool((~mask & (winding != 0)).any()))


def _crossings(
    points: NDArray[np.float64], num_rows: int
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.int32]]:
    """Return where edges cross the lines of pixel centres: rows, x in them, and whether up (1) or down (-1)."""
    corners = points[:, :2]
    following = np.roll(corners, -1, axis=0)
    # Both directions of an edge must give the same numbers, so that keyholes close.
    is_down = corners[:, 1] > following[:, 1]
    low, high = np.where(is_down[:, None], following, corners), np.where(is_down[:, None], corners, following)
    # From the lower end's line on and without the upper end's, so that a corner on a line counts once.
    first = np.clip(np.ceil(low[:, 1]), 0, num_rows).astype(np.int64)
    last = np.clip(np.ceil(high[:, 1]), 0, num_rows).astype(np.int64)
    counts = last - first
    edge = np.repeat(np.arange(len(corners)), counts)
    row = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts) + first[edge]
    # Never 0: a level edge crosses no line.
    rise = high[edge, 1] - low[edge, 1]
    x = low[edge, 0] + (row - low[edge, 1]) * ((high[edge, 0] - low[edge, 0]) / rise)
    return row, x, np.where(is_down[edge], -1, 1).astype(np.int32)
