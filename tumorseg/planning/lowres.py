"""Whether cases are so much larger than a patch that a coarser grid would see more of them.

References:
    nnU-Net's rule for `3d_lowres`.
"""

from typing import NamedTuple

from tumorseg.errors import PlanError
from tumorseg.planning.patch_search import Found, Grid, MemoryRule, search, search_patch
from tumorseg.planning.presets import Preset

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
    if _share(patch_size, grid.median_shape) >= SHARE_SEEN:
        return None
    try:
        coarser = _coarsen(grid, preset, rule)
    except PlanError:  # no network fits a grid so coarse
        return None
    gain = _voxels(grid.median_shape) / _voxels(coarser.grid.median_shape)
    return coarser if gain >= LEAST_GAIN else None


def _coarsen(grid: Grid, preset: Preset, rule: MemoryRule) -> Lowres:
    """Coarsen the grid, fine axes first, until a patch covers enough of a median case."""
    spacing = list(grid.spacing_mm)
    while True:
        coarsest = max(spacing)
        fine = [coarsest / edge > 2 for edge in spacing]
        spacing = [
            edge * STEP if is_fine or not any(fine) else edge for edge, is_fine in zip(spacing, fine, strict=True)
        ]
        ratios = zip(grid.median_shape, grid.spacing_mm, spacing, strict=True)
        shape = tuple(float(max(1, round(size * old / new))) for size, old, new in ratios)
        coarser = grid._replace(spacing_mm=tuple(spacing), median_shape=shape)
        if _share(search_patch(coarser, preset, rule), shape) < SHARE_SEEN:
            continue
        found = search(coarser, preset, rule)
        if _share(found.candidate.patch_size, shape) >= SHARE_SEEN:
            return Lowres(coarser, found)


def _voxels(shape: tuple[float, ...]) -> float:
    product = 1.0
    for size in shape:
        product *= size
    return product


def _share(patch_size: tuple[int, ...], shape: tuple[float, ...]) -> float:
    return _voxels(patch_size) / _voxels(shape)
