"""Distances between the surfaces of two masks, on voxel borders.

Border voxels rather than meshes, as MONAI and most published rankings do: exact, quick, and the same whatever meshed it.
"""

import math

import edt
import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from tumorseg.ops.cropping import box_slices, inside, mask_box
from tumorseg.types import Box, FloatArray, Mask, Shape, Spacing

_VOXELS_PER_POINT = 10
"""A search among border voxels takes as long per voxel of them as a distance transform per ten voxels of the box."""
_REACHED_EDGES = 4
"""Most borders lie within so many voxel edges of each other, which a look at each neighbour finds soonest."""
_NEAR_EDGES = 10
"""What is within so many voxel edges is found in microseconds; a flat border that is far away may take a hundred times as long."""
_VOXELS_PER_FAR = 10_000
"""A transform takes as long per so many voxels of the box as a search that goes that far."""
_VOXELS_PER_MARK = 8
"""The same of marking a voxel and transforming so many."""


def border_distances(prediction: Mask, reference: Mask, *, spacing_mm: Spacing) -> tuple[FloatArray, FloatArray]:
    """Measure how far the border voxels of each mask lie from the nearest border voxel of the other.

    Args:
        prediction: (Z, Y, X), bool, not empty.
        reference: (Z, Y, X), bool, not empty.
        spacing_mm: voxel edge (Z, Y, X).

    Returns:
        Two arrays (number of border voxels,), float64, mm: from the prediction to the reference, and back. Their
        order is that of the voxels.
    """
    # With a margin, or a mask of one slice would fill an axis of one voxel, across which there is no surface.
    box = box_slices(union_box(prediction, reference))
    borders = border_voxels(prediction[box]), border_voxels(reference[box])
    return distances_between(*borders, spacing_mm=spacing_mm)


def distances_between(first: Mask, second: Mask, *, spacing_mm: Spacing) -> tuple[FloatArray, FloatArray]:
    """Return how far the voxels of each mask lie from the nearest of the other.

    Args:
        first: (Z, Y, X), bool, not empty.
        second: (Z, Y, X), bool, not empty.
        spacing_mm: voxel edge (Z, Y, X).

    Returns:
        Two arrays (number of voxels,), float64, mm, in the order of the voxels.
    """
    there = nearest_distances(first, second, spacing_mm=spacing_mm)
    return there, nearest_distances(second, first, spacing_mm=spacing_mm)


def nearest_distances(voxels: Mask, others: Mask, *, spacing_mm: Spacing) -> FloatArray:
    """Return how far each of some voxels is from the nearest of others, centre to centre.

    Args:
        voxels: (Z, Y, X), bool.
        others: (Z, Y, X), bool, not empty.
        spacing_mm: voxel edge (Z, Y, X).

    Returns:
        (N,), float64, mm, in the order of the voxels.

    References:
        Bentley, Multidimensional binary search trees, CACM 1975; for crowded boxes Felzenszwalb & Huttenlocher, 2012.
    """
    where, targets = np.flatnonzero(voxels), np.flatnonzero(others)
    distances = np.zeros(where.size)
    # What is in both is at no distance: of a good prediction's border that is a large part, of many a speck all.
    left = np.flatnonzero(~others.reshape(-1)[where])
    if not left.size:
        return distances
    # Borders fill so little of most boxes that to transform all of the box would take many times as long.
    if (where.size + targets.size) * _VOXELS_PER_POINT > voxels.size:
        return distance_to(others, spacing_mm=spacing_mm)[voxels].astype(np.float64)
    distances[left] = _within_reach(_indices(where[left], voxels), others, spacing_mm)
    left = left[np.isinf(distances[left])]
    if not left.size:
        return distances
    spacing = np.asarray(spacing_mm, dtype=np.float64)
    places, goals = _indices(where[left], voxels), _indices(targets, voxels)
    tree = KDTree(goals * spacing, balanced_tree=False, compact_nodes=False)
    nearest = tree.query(places * spacing, distance_upper_bound=_NEAR_EDGES * spacing.min())[1]
    far = np.flatnonzero(nearest == targets.size)
    # Masks that hardly meet: one transform instead of a long search for each voxel.
    if far.size * _VOXELS_PER_FAR > voxels.size:
        return distance_to(others, spacing_mm=spacing_mm)[voxels].astype(np.float64)
    nearest[far] = tree.query(places[far] * spacing)[1]
    # From differences of indices, so that it is the same wherever in the image the masks lie.
    distances[left] = np.sqrt((((places - goals[nearest]) * spacing) ** 2).sum(axis=1))
    return distances


def _within_reach(places: NDArray[np.intp], others: Mask, spacing_mm: Spacing) -> FloatArray:
    """Return the distances (N,) of places (N, 3) to the nearest of other voxels; infinite beyond a few voxels."""
    reach, steps, lengths = _steps(_REACHED_EDGES * min(spacing_mm), others.shape, spacing_mm)
    # In C order, whatever that of the mask: strides of another order would not be those of the flat view.
    wide = np.ascontiguousarray(np.pad(others, [(far, far) for far in reach]))
    flat = wide.reshape(-1)
    found = np.full(len(places), np.inf)
    left, here = np.arange(len(places)), (places + reach) @ np.asarray(wide.strides)
    # Nearest steps first, so that the first voxel that is met is the nearest; few places need many steps.
    for step, length in zip(steps @ np.asarray(wide.strides), lengths, strict=True):
        is_met = flat[here + step]
        found[left[is_met]] = length
        left, here = left[~is_met], here[~is_met]
        if not left.size:
            break
    return found


def _steps(
    radius_mm: float, shape: Shape, spacing_mm: Spacing
) -> tuple[list[int], NDArray[np.intp], NDArray[np.float64]]:
    """Return how many voxels a radius reaches along each axis, the steps (N, 3) within it, and their lengths, which rise."""
    reach = [min(int(radius_mm / edge), size - 1) for edge, size in zip(spacing_mm, shape, strict=True)]
    steps = np.indices([2 * far + 1 for far in reach]).reshape(len(reach), -1).T - reach
    lengths = np.sqrt(((steps * np.asarray(spacing_mm)) ** 2).sum(axis=1))
    order = np.argsort(lengths, kind="stable")
    order = order[lengths[order] <= radius_mm]
    return reach, steps[order], lengths[order]


def _indices(flat: NDArray[np.intp], mask: Mask) -> NDArray[np.intp]:
    return np.stack(np.unravel_index(flat, mask.shape), axis=1)


def shell(mask: Mask, border: Mask, depth_mm: float, *, spacing_mm: Spacing) -> Mask:
    """Return the voxels of a mask that lie within a depth of one of its border voxels, itself included.

    Args:
        mask: (Z, Y, X), bool.
        border: (Z, Y, X), bool, the border voxels of the mask.
        depth_mm: the depth, itself included.
        spacing_mm: voxel edge (Z, Y, X).

    Returns:
        (Z, Y, X), bool.
    """
    reach = [min(int(depth_mm / edge), size - 1) for edge, size in zip(spacing_mm, mask.shape, strict=True)]
    num_steps = math.prod(2 * far + 1 for far in reach)
    if np.count_nonzero(border) * num_steps > mask.size * _VOXELS_PER_MARK:
        return mask & (distance_to(border, spacing_mm=spacing_mm) <= depth_mm)
    _, steps, _ = _steps(depth_mm, mask.shape, spacing_mm)
    # In a wider array, so that no step leads across an edge.
    wide = np.zeros([size + 2 * far for size, far in zip(mask.shape, reach, strict=True)], dtype=np.bool_)
    centre = tuple(slice(far, far + size) for far, size in zip(reach, mask.shape, strict=True))
    wide[centre] = border
    flat, marked = wide.reshape(-1), np.flatnonzero(wide)
    for step in steps @ np.asarray(wide.strides):
        flat[marked + step] = True
    return mask & wide[centre]


def distance_to(mask: Mask, *, spacing_mm: Spacing, num_threads: int = 1) -> FloatArray:
    """Return each voxel's distance to the nearest voxel of a mask, centre to centre.

    Args:
        mask: (Z, Y, X), bool, not empty.
        spacing_mm: voxel edge (Z, Y, X).
        num_threads: threads to use.

    Returns:
        (Z, Y, X), float32, mm; 0 inside the mask.

    References:
        Felzenszwalb & Huttenlocher, Distance transforms of sampled functions, 2012.
    """
    outside = np.ascontiguousarray(~mask)
    # For arrays in C order, edt takes the spacing in the order of the array's own axes.
    distances: FloatArray = edt.edt(
        outside, anisotropy=tuple(map(float, spacing_mm)), black_border=False, parallel=num_threads
    )
    return distances


def border_voxels(mask: Mask) -> Mask:
    """Return the voxels of a mask that have a face neighbour outside it.

    Beyond the image's edge counts as outside. An axis of one voxel has no surface: a 2D image (1, Y, X) has its
    border within the plane, or each of its voxels would be one.

    Args:
        mask: (Z, Y, X), bool.

    Returns:
        (Z, Y, X), bool.
    """
    # An image of one voxel has no such axis; the voxel is its border.
    if mask.size == 1:
        return mask
    inner = mask.copy()
    for axis in (axis for axis, size in enumerate(mask.shape) if size > 1):
        along, here = np.moveaxis(mask, axis, 0), np.moveaxis(inner, axis, 0)
        here[1:] &= along[:-1]
        here[:-1] &= along[1:]
        here[[0, -1]] = False
    return mask & ~inner


def union_box(first: Mask, second: Mask, margin: int = 1) -> Box:
    """Return the box around the voxels of two masks (Z, Y, X); around the first voxel where both are empty.

    Args:
        first: (Z, Y, X), bool.
        second: (Z, Y, X), bool.
        margin: voxels to add on each side, as far as the image reaches.
    """
    box = mask_box(first | second) or ((0, 1),) * first.ndim
    return inside(tuple((lower - margin, upper + margin) for lower, upper in box), first.shape)
