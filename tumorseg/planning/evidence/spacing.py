"""Target spacing, axis order and median shape from the fingerprint's case table.

References:
    nnU-Net's `determine_fullres_target_spacing` and `determine_transpose`.
"""

from typing import NamedTuple

import numpy as np

from tumorseg.ops.resampling import resampled_shape
from tumorseg.schema.fingerprint import Fingerprint

ANISOTROPY = 3.0
"""An axis is coarse above this many times the other spacings, with this many times fewer voxels."""
COARSE_PERCENTILE = 10
"""Percentile of a coarse axis's spacings that becomes the target."""


class TargetGrid(NamedTuple):
    """The grid to which all cases are brought, canonical (Z, Y, X) unless transposed."""

    spacing_mm: tuple[float, ...]
    """Target voxel edges."""
    median_shape: tuple[float, ...]
    """Median voxels on that grid."""
    transpose: tuple[int, int, int]
    """The plan's axis order."""
    rule: str
    """Where the spacing comes from, in words."""

    def in_plan_order(self) -> "TargetGrid":
        """Return the same grid with its axes in the plan's order."""
        spacing = tuple(self.spacing_mm[axis] for axis in self.transpose)
        shape = tuple(self.median_shape[axis] for axis in self.transpose)
        return self._replace(spacing_mm=spacing, median_shape=shape)


def target_grid(fingerprint: Fingerprint) -> TargetGrid:
    """Return the full-resolution grid: the median spacing, a coarse axis taken finer than the median."""
    spacings = np.array([case.spacing_mm for case in fingerprint.cases])
    shapes = np.array([case.shape_after_crop for case in fingerprint.cases])
    target = np.percentile(spacings, 50, axis=0)
    coarse = int(np.argmax(target))
    others = [axis for axis in range(3) if axis != coarse]
    sizes = np.percentile(shapes, 50, axis=0)
    anisotropic = bool(
        target[coarse] > ANISOTROPY * target[others].max() and sizes[coarse] * ANISOTROPY < sizes[others].min()
    )
    rule = "median spacing of the cases"
    if anisotropic:
        finer, finest = np.percentile(spacings[:, coarse], COARSE_PERCENTILE), target[others].max()
        rule += f"; of the coarse axis the {COARSE_PERCENTILE}th percentile"
        target[coarse] = finer
        if finer < finest:
            target[coarse], rule = finest + 1e-5, f"{rule}, but no finer than the other axes"
    new_shapes = [resampled_shape(s, e, target) for s, e in zip(shapes, spacings, strict=True)]
    median = np.median(new_shapes, axis=0)
    return TargetGrid(tuple(target.tolist()), tuple(median.tolist()), axis_order(target, shapes), rule)


def axis_order(spacing_mm: np.ndarray, shapes: np.ndarray) -> tuple[int, int, int]:
    """Return the axis order with the coarse axis first: of flat images the axis of one voxel, else the coarsest."""
    flat = [axis for axis in range(3) if np.median(shapes[:, axis]) == 1]
    first = flat[0] if flat else int(np.argmax(spacing_mm))
    second, third = (axis for axis in range(3) if axis != first)
    return (first, second, third)
