"""One channel onto another's voxel grid, through the world: for channels of a case that were stored on grids of their own."""

import numpy as np

from tumorseg.types import Affine, FloatArray, Shape


def regrid(channel: FloatArray, affine: Affine, shape: Shape, onto: Affine) -> FloatArray:
    """Interpolate linearly at the voxels of another grid; what lies outside gets the channel's least intensity.

    Args:
        channel: (Z, Y, X).
        affine: (4, 4), its voxels (x, y, z) to RAS+ mm.
        shape: voxels (Z, Y, X) of the other grid.
        onto: (4, 4) of the other grid.

    Returns:
        `shape`, float32.
    """
    from scipy import ndimage  # takes a third of a second, which channels on one grid are spared

    step = _array_order(np.linalg.inv(affine) @ onto)
    result: FloatArray = ndimage.affine_transform(
        np.asarray(channel, np.float32),
        step[:3, :3],
        step[:3, 3],
        output_shape=tuple(shape),
        order=1,
        mode="grid-constant",
        cval=float(channel.min()),
    )
    return result


def reach_outside_mm(affine: Affine, shape: Shape, other: Affine, other_shape: Shape) -> float:
    """Return how far in mm a grid reaches beyond another's outer voxel edges at worst, over its corners' voxel centres.

    Args:
        affine: (4, 4) of the grid.
        shape: its voxels (Z, Y, X).
        other: (4, 4) of the one that should hold it.
        other_shape: its voxels (Z, Y, X).
    """
    ends = [np.array([0.0, size - 1.0]) for size in reversed(shape)]
    corners = np.stack([*(axis.ravel() for axis in np.meshgrid(*ends)), np.ones(8)])
    voxels = (np.linalg.inv(other) @ affine @ corners)[:3]
    last = np.array(list(reversed(other_shape)), dtype=np.float64)[:, None] - 0.5
    beyond = np.maximum(np.maximum(-0.5 - voxels, voxels - last), 0)
    edges = np.linalg.norm(np.asarray(other)[:3, :3], axis=0)[:, None]
    return float((beyond * edges).max())


def _array_order(matrix: Affine) -> Affine:
    """Return a map between (x, y, z) voxels as one between (z, y, x) voxels."""
    order = [2, 1, 0, 3]
    return np.asarray(matrix)[np.ix_(order, order)]
