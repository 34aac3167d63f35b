"""Boxes: the part of an image that holds anything, patches inside and beyond an image."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tumorseg.types import Box, Image, Mask, Shape


def nonzero_box(image: Image, covered: Sequence[Mask | None] = ()) -> Box:
    """Return the box of the voxels that are not 0 in some channel; the whole image if there are none.

    Args:
        image: (C, Z, Y, X).
        covered: (Z, Y, X) per channel, the voxels that it covers, None for all; the others count as 0. Empty: all of all channels.
    """
    return mask_box(_occupied(image, covered)) or whole_box(image.shape[1:])


def whole_box(shape: Shape) -> Box:
    """Return the box of a whole array."""
    return tuple((0, size) for size in shape)


def _occupied(image: Image, covered: Sequence[Mask | None]) -> Mask:
    """Return where some channel covers a voxel and is not 0."""
    occupied = image != 0
    for channel, inside in zip(occupied, covered, strict=False):
        if inside is not None:
            channel &= inside
    found: Mask = occupied.any(axis=0)
    return found


def mask_box(mask: NDArray[np.bool_]) -> Box | None:
    """Return the box of the True voxels of a mask of any number of axes; None if there are none."""
    box = []
    for axis in range(mask.ndim):
        found = np.flatnonzero(mask.any(axis=tuple(other for other in range(mask.ndim) if other != axis)))
        if found.size == 0:
            return None
        box.append((int(found[0]), int(found[-1]) + 1))
    return tuple(box)


def nonzero_mask(image: Image, covered: Sequence[Mask | None] = ()) -> Mask:
    """Return the mask (Z, Y, X) of voxels that are not 0 in some channel, holes filled (nnU-Net's); as for `nonzero_box`."""
    occupied = _occupied(image, covered)
    return occupied | _holes(occupied)


def _holes(occupied: Mask) -> Mask:
    """Return the other voxels from which no way over faces leads to the edge of the image.

    What can be reached is flooded from the edge, face by face, so that the time follows what is flooded: in most images little.
    """
    # In C order, whatever that of the image, so that `flat` is a view. The rim is not dry: no step leads beyond it.
    dry = np.zeros([size + 2 for size in occupied.shape], bool)
    dry[1:-1, 1:-1, 1:-1] = ~occupied
    flat = dry.reshape(-1)
    steps: list[int] = []
    # A voxel is a byte, so strides count voxels.
    for stride in dry.strides:
        steps += [stride, -stride]
    front = np.concatenate([_dry_at_edges(dry, axis) for axis in range(dry.ndim)])
    flat[front] = False
    # Voxels at the image's edges and corners are in several planes.
    front = np.unique(front)
    while front.size:
        reached = []
        for step in steps:
            found = front + step
            found = found[flat[found]]
            # Before the next step, so that no voxel is found twice.
            flat[found] = False
            reached.append(found)
        front = np.concatenate(reached)
    return dry[1:-1, 1:-1, 1:-1]


def _dry_at_edges(dry: Mask, axis: int) -> NDArray[np.intp]:
    """Return the flat indices of the dry voxels in the first and the last plane across an axis, inside the rim."""
    ends = np.array([1, dry.shape[axis] - 2])
    found = list(np.nonzero(dry.take(ends, axis)))
    found[axis] = ends[found[axis]]
    return np.ravel_multi_index(tuple(found), dry.shape)


def box_slices(box: Box) -> tuple[Any, ...]:
    """Return the index of a box in an array whose last axes it describes."""
    return (..., *(slice(lower, upper) for lower, upper in box))


def box_shape(box: Box) -> tuple[int, ...]:
    """Return the voxels per axis of a box."""
    return tuple(upper - lower for lower, upper in box)


def inside(box: Box, shape: Shape) -> Box:
    """Return the part of a box that lies inside an array of a shape; it may be empty."""
    return tuple(
        (min(max(lower, 0), size), max(min(upper, size), 0)) for (lower, upper), size in zip(box, shape, strict=True)
    )


def centred_box(centre: Sequence[int], size: Shape) -> Box:
    """Return the box of a size whose middle voxel is `centre`; it may stick out of the image."""
    return tuple((int(c) - s // 2, int(c) - s // 2 + s) for c, s in zip(centre, size, strict=True))


def clamped_box(box: Box, shape: Shape) -> Box:
    """Move a box inside an image as far as it fits; along axes where it is larger, centre it on the image."""
    moved = []
    for (lower, upper), size in zip(box, shape, strict=True):
        edge = upper - lower
        start = min(max(lower, 0), size - edge) if edge <= size else -((edge - size) // 2)
        moved.append((start, start + edge))
    return tuple(moved)


def pad_to_box(array: NDArray[Any], box: Box, shape: Shape, fill: float = 0) -> NDArray[Any]:
    """Pad what was read of a box inside an image of a shape to the whole box.

    Args:
        array: the part of the box that lies inside the image, its last axes spatial.
        box: the box, sticking out of the image or not.
        shape: the image's voxels.
        fill: value outside the image.
    """
    found = inside(box, shape)
    widths = [(low - lower, upper - high) for (lower, upper), (low, high) in zip(box, found, strict=True)]
    if not any(map(any, widths)):
        return array
    lead = [(0, 0)] * (array.ndim - len(box))
    return np.pad(array, [*lead, *widths], constant_values=fill)
