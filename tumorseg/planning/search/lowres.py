"""The coarser grid of `3d_lowres`, for cases that are much larger than a patch.

References:
    nnU-Net's rule for `3d_lowres`.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

from pydantic import JsonValue

from tumorseg.errors import PlanError
from tumorseg.planning.families.base import Grid
from tumorseg.planning.presets import Preset
from tumorseg.planning.search.patch import Found, MemoryRule, search, search_patch
from tumorseg.schema.plan import Reason

SHARE_SEEN = 0.25
"""A coarser grid is wanted while a patch covers less than this share of a median case."""
STEP = 1.03
"""Factor by which the spacing grows in each round."""
LEAST_GAIN = 2.0
"""A coarser grid that has not this many times fewer voxels is not worth a configuration."""


class Lowres(NamedTuple):
    """A coarser grid and the network for it."""

    grid: Grid
    found: Found


def find_lowres(grid: Grid, patch_size: tuple[int, ...], preset: Preset, rule: MemoryRule) -> Lowres | None:
    """Return the grid of `3d_lowres` beside this full-resolution grid, or None where it is not worth a configuration.

    Args:
        grid: at full resolution.
        patch_size: planned for it.
        preset: of the search.
        rule: the budget.
    """
    if math.prod(patch_size) / math.prod(grid.median_shape) >= SHARE_SEEN:
        return None
    try:
        coarser = _coarsen(grid, preset, rule)
    except PlanError:  # no network fits a grid so coarse
        return None
    gain = math.prod(grid.median_shape) / math.prod(_exact_shape(grid, coarser.grid.spacing_mm))
    return coarser if gain >= LEAST_GAIN else None


def lowres_reasons(full: Grid) -> dict[str, Reason]:
    """Return the reasons of the coarser grid beside a full-resolution one, by field of its configuration."""
    inputs: dict[str, JsonValue] = {"full_median_shape": list(full.median_shape)}
    return {
        "spacing_mm": Reason(
            rule=f"full-resolution spacing, made coarser in steps of {STEP - 1:.0%}, fine axes first, until a patch "
            f"covers {SHARE_SEEN:.0%} of a median case",
            inputs={"full_spacing_mm": list(full.spacing_mm), **inputs},
            alternative="3d_fullres, whose patch sees less of a case",
        ),
        "median_shape": Reason(rule="full-resolution median, scaled to the coarser spacing", inputs=inputs),
    }


def _coarsen(grid: Grid, preset: Preset, rule: MemoryRule) -> Lowres:
    """Coarsen the grid, fine axes first, until a patch covers enough of a median case."""
    spacing = list(grid.spacing_mm)
    while True:
        coarsest = max(spacing)
        # Axes more than twice as fine as the coarsest catch up first; then all grow alike.
        fine = [axis for axis, edge in enumerate(spacing) if coarsest / edge > 2]
        for axis in fine or range(len(spacing)):
            spacing[axis] *= STEP
        coarser = _on_spacing(grid, tuple(spacing))
        voxels = math.prod(_exact_shape(grid, spacing))
        # There are dozens of rounds; only one that a rough search lets pass is worth a full one.
        if math.prod(search_patch(coarser, preset, rule)) / voxels < SHARE_SEEN:
            continue
        found = search(coarser, preset, rule)
        if math.prod(found.candidate.patch_size) / voxels >= SHARE_SEEN:
            return Lowres(coarser, found)


def _on_spacing(grid: Grid, spacing_mm: tuple[float, ...]) -> Grid:
    """Return the grid of the same cases on another spacing."""
    exact = _exact_shape(grid, spacing_mm)
    return grid._replace(
        spacing_mm=spacing_mm,
        median_shape=tuple(float(max(1, round(size))) for size in exact),
        dataset_voxels=grid.dataset_voxels * math.prod(exact) / math.prod(grid.median_shape),
    )


def _exact_shape(grid: Grid, spacing_mm: Sequence[float]) -> list[float]:
    """Return the median voxels on another spacing, not rounded: nnU-Net compares the patch with their product."""
    ratios = zip(grid.spacing_mm, spacing_mm, grid.median_shape, strict=True)
    return [old / new * size for old, new, size in ratios]
