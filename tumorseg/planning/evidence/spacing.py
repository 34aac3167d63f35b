"""Target spacing, axis order and median shape from the fingerprint's case table.

References:
    nnU-Net's `determine_fullres_target_spacing` and `determine_transpose`.
"""

import math
from typing import NamedTuple

import numpy as np

from tumorseg.ops.resampling import resampled_shape
from tumorseg.planning.decided import Decided
from tumorseg.planning.evidence.laterality import LATERAL_AXIS
from tumorseg.schema.fingerprint import Fingerprint
from tumorseg.schema.plan import Reason

ANISOTROPY = 3.0
"""An axis is coarse above this many times the other spacings, with this many times fewer voxels."""
COARSE_PERCENTILE = 10
"""Percentile of a coarse axis's spacings that becomes the target."""
ISOTROPIC = 2.0
"""Up to this ratio of spacings all axes are treated alike, as in nnU-Net's pooling."""


class TargetGrid(NamedTuple):
    """The grid to which all cases are brought, canonical (Z, Y, X) unless transposed."""

    spacing_mm: tuple[float, ...]
    """Target voxel edges."""
    median_shape: tuple[float, ...]
    """Median voxels on that grid."""
    transpose: tuple[int, int, int]
    """The plan's axis order."""

    @property
    def lateral_axis(self) -> int:
        """Return the axis from left to right, in the plan's order."""
        return self.transpose.index(LATERAL_AXIS)

    def in_plan_order(self) -> "TargetGrid":
        """Return the same grid with its axes in the plan's order."""
        spacing = tuple(self.spacing_mm[axis] for axis in self.transpose)
        shape = tuple(self.median_shape[axis] for axis in self.transpose)
        return self._replace(spacing_mm=spacing, median_shape=shape)


def target_grid(fingerprint: Fingerprint) -> Decided[TargetGrid]:
    """Return the full-resolution grid: the median spacing, a coarse axis taken finer than the median.

    Returns:
        The grid in canonical axis order, with the reasons of `spacing_mm` and `median_shape` in a configuration.
    """
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
        # At the median, the finer half of the cases would lose slices, of which they have few.
        finer, finest = np.percentile(spacings[:, coarse], COARSE_PERCENTILE), target[others].max()
        rule += f"; of the coarse axis the {COARSE_PERCENTILE}th percentile"
        target[coarse] = finer
        if finer < finest:
            # As nnU-Net: a little coarser than the others, so that it stays the coarse axis, which comes first.
            target[coarse], rule = finest + 1e-5, f"{rule}, but no finer than the other axes"
    new_shapes = [resampled_shape(s, e, target) for s, e in zip(shapes, spacings, strict=True)]
    median = np.median(new_shapes, axis=0)
    grid = TargetGrid(tuple(target.tolist()), tuple(median.tolist()), axis_order(target, shapes))
    return Decided(grid, _reasons(grid.in_plan_order(), rule))


def _reasons(planned: TargetGrid, rule: str) -> dict[str, Reason]:
    """Return why the grid is what it is; `rule` says where its spacing comes from."""
    spacing = planned.spacing_mm
    ratio = max(spacing) / min(spacing)
    alternative = (
        "twice as coarse a grid: an eighth of the voxels (of planes a quarter), in which small structures are lost"
    )
    if ratio > ISOTROPIC:
        growth = math.prod(edge / min(spacing) for edge in spacing)
        alternative = f"the finest spacing on every axis: {growth:.1f} times the voxels, most of them interpolated"
    return {
        "spacing_mm": Reason(
            rule=rule,
            inputs={"target_spacing_mm": list(spacing), "spacing_ratio": ratio},
            alternative=alternative,
        ),
        "median_shape": Reason(
            rule="median over cases of the voxels left by cropping, on the target spacing",
            inputs={"median_shape": list(planned.median_shape)},
        ),
    }


def transpose_reason(grid: TargetGrid) -> Reason:
    """Return why the axes of a plan stand in their order."""
    return Reason(
        rule="coarse (or flat) axis first",
        inputs={"target_spacing_mm": list(grid.spacing_mm)},
        alternative="another axis first: the planes of 2d would lie across the coarsest axis, where there is one",
    )


def axis_order(spacing_mm: np.ndarray, shapes: np.ndarray) -> tuple[int, int, int]:
    """Return the axis order with the coarse axis first: of flat images the axis of one voxel, else the coarsest."""
    # What an image of one plane states as its thickness may be anything.
    flat = [axis for axis in range(3) if np.median(shapes[:, axis]) == 1]
    first = flat[0] if flat else int(np.argmax(spacing_mm))
    second, third = (axis for axis in range(3) if axis != first)
    return (first, second, third)
