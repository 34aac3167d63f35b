"""One grid onto another's voxels, through the world: for channels, or a prediction, that were stored on grids of their own."""

import numpy as np

from tumorseg.ops.grids import Grid
from tumorseg.types import Affine, FloatArray, Mask, Segmentation


def regrid(channel: FloatArray, grid: Grid, onto: Grid, *, covered: Mask, outside: float) -> FloatArray:
    """Interpolate linearly at the voxels of another grid.

    Within the outer half voxel the nearest value counts, so that what lies outside does not bleed in.

    Args:
        channel: (Z, Y, X).
        grid: its voxels.
        onto: the other grid.
        covered: (Z, Y, X) of `onto`, the voxels that the channel covers.
        outside: intensity of those that it does not.

    Returns:
        `onto.shape`, float32.
    """
    # Takes a third of a second, which channels on one grid are spared.
    from scipy import ndimage

    step = _step(grid, onto)
    result: FloatArray = ndimage.affine_transform(
        np.asarray(channel, np.float32),
        step[:3, :3],
        step[:3, 3],
        output_shape=tuple(onto.shape),
        order=1,
        mode="nearest",
    )
    result[~covered] = outside
    return result


def regrid_labels(segmentation: Segmentation, grid: Grid, onto: Grid, *, covered: Mask) -> Segmentation:
    """Return the label of the nearest voxel at each voxel of another grid; no label value is made up.

    Args:
        segmentation: (Z, Y, X) integer.
        grid: its voxels.
        onto: the other grid.
        covered: (Z, Y, X) of `onto`, the voxels that the segmentation covers; the others are background.

    Returns:
        `onto.shape`, of the type of `segmentation`.
    """
    from scipy import ndimage

    step = _step(grid, onto)
    result: Segmentation = ndimage.affine_transform(
        segmentation,
        step[:3, :3],
        step[:3, 3],
        output_shape=tuple(onto.shape),
        output=segmentation.dtype,
        order=0,
        mode="nearest",
    )
    result[~covered] = 0
    return result


def _step(grid: Grid, onto: Grid) -> Affine:
    """Return the map from (z, y, x) voxels of `onto` to those of `grid`."""
    matrix = np.linalg.inv(grid.affine) @ onto.affine
    order = [2, 1, 0, 3]
    return np.asarray(matrix)[np.ix_(order, order)]
