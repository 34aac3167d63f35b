"""Distances between the surfaces of two masks, on voxel borders.

Border voxels rather than meshes, as MONAI and most published rankings do: exact, quick, and the same whatever meshed it.
"""

import edt
import numpy as np

from tumorseg.ops.cropping import box_slices, inside, mask_box
from tumorseg.types import Box, FloatArray, Mask, Spacing


def border_distances(
    prediction: Mask, reference: Mask, *, spacing_mm: Spacing, num_threads: int = 1
) -> tuple[FloatArray, FloatArray]:
    """Measure how far the border voxels of each mask lie from the nearest border voxel of the other.

    Args:
        prediction: (Z, Y, X), bool, not empty.
        reference: (Z, Y, X), bool, not empty.
        spacing_mm: voxel edge (Z, Y, X).
        num_threads: threads of the distance transform.

    Returns:
        Two arrays (number of border voxels,), float32, mm: from the prediction to the reference, and back. Their
        order is that of the voxels.
    """
    # With a margin, or a mask of one slice would fill an axis of one voxel, across which there is no surface.
    box = box_slices(union_box(prediction, reference))
    prediction_border, reference_border = border_voxels(prediction[box]), border_voxels(reference[box])
    there = distance_to(reference_border, spacing_mm=spacing_mm, num_threads=num_threads)[prediction_border]
    back = distance_to(prediction_border, spacing_mm=spacing_mm, num_threads=num_threads)[reference_border]
    return there, back


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
    inner = mask.copy()
    for axis in (axis for axis, size in enumerate(mask.shape) if size > 1):
        along, here = np.moveaxis(mask, axis, 0), np.moveaxis(inner, axis, 0)
        here[1:] &= along[:-1]
        here[:-1] &= along[1:]
        here[[0, -1]] = False
    return mask & ~inner


def union_box(first: Mask, second: Mask, margin: int = 1) -> Box:
    """Return the box around the voxels of two masks (Z, Y, X), at least one of which is not empty.

    Args:
        first: (Z, Y, X), bool.
        second: (Z, Y, X), bool.
        margin: voxels to add on each side, as far as the image reaches.
    """
    box = mask_box(first | second) or ()
    return inside(tuple((lower - margin, upper + margin) for lower, upper in box), first.shape)
