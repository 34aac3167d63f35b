"""Masks of a patch."""

from torch import Tensor


def grown(mask: Tensor) -> Tensor:
    """Return a mask (*space) grown by a voxel, over faces, edges and corners."""
    for axis, size in enumerate(mask.shape):
        wider = mask.clone()
        wider.narrow(axis, 1, size - 1).logical_or_(mask.narrow(axis, 0, size - 1))
        wider.narrow(axis, 0, size - 1).logical_or_(mask.narrow(axis, 1, size - 1))
        mask = wider
    return mask
