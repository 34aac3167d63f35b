"""One configuration: the search's result and everything that goes with it."""

from typing import NamedTuple

from tumorseg.losses.presets import deep_supervision_weights, loss_preset
from tumorseg.planning.augmentation import choose_augmentation
from tumorseg.planning.lowres import wants_lowres
from tumorseg.planning.memory import predicted_bytes
from tumorseg.planning.patch_search import Grid, search_patch
from tumorseg.planning.presets import Preset
from tumorseg.planning.reasons import configuration_reasons
from tumorseg.schema.plan import Configuration, InferenceSpec, Reason, SamplingSpec
from tumorseg.schema.preprocessing import NormalizationSpec, ResamplingSpec


class Subject(NamedTuple):
    """What all configurations of a plan share."""

    grid: Grid
    """Full-resolution grid of three axes in the plan's order."""
    normalization: tuple[NormalizationSpec, ...]
    """One per channel."""
    has_regions: bool
    """Whether outputs are regions."""
    lateral_axis: int | None
    """Plan axis that must not be mirrored, because labels differ by their side only."""


class Planned(NamedTuple):
    """A configuration with what is known of it."""

    configuration: Configuration
    predicted_bytes: int
    reasons: dict[str, Reason]
    """By field within the configuration."""


def plan_configuration(subject: Subject, preset: Preset, *, num_axes: int, vram_gb: float) -> Planned:
    """Plan `3d_fullres` (three axes) or `2d` (planes of the first plan axis).

    Raises:
        PlanError: the budget is too small for any patch.
    """
    grid = subject.grid if num_axes == 3 else _plane(subject.grid)
    found = search_patch(grid, preset, vram_gb)
    batch_dice = num_axes == 2 or wants_lowres(grid, found.patch_size, preset, vram_gb)
    axes = _mirroring_axes(num_axes, subject.lateral_axis) if preset.mirroring else ()
    weights = deep_supervision_weights(found.network.num_stages - 1)
    configuration = Configuration(
        spacing_mm=grid.spacing_mm,
        median_shape=tuple(max(1, round(size)) for size in grid.median_shape),
        patch_size=found.patch_size,
        batch_size=found.batch_size,
        normalization=subject.normalization,
        resampling=ResamplingSpec(),
        network=found.network,
        augmentation=choose_augmentation(found.patch_size, axes),
        loss=loss_preset(
            preset.loss, has_regions=subject.has_regions, batch_dice=batch_dice, deep_supervision_weights=weights
        ),
        optimizer=preset.optimizer,
        schedule=preset.schedule,
        sampling=SamplingSpec(),
        inference=InferenceSpec(mirroring=bool(axes), mirroring_axes=axes),
    )
    needed = predicted_bytes(preset.memory, num_axes, found.elements, found.batch_size)
    reasons = configuration_reasons(configuration, found, preset, batch_dice=batch_dice)
    return Planned(configuration, needed, reasons)


def _plane(grid: Grid) -> Grid:
    return grid._replace(spacing_mm=grid.spacing_mm[1:], median_shape=grid.median_shape[1:])


def _mirroring_axes(num_axes: int, lateral_axis: int | None) -> tuple[int, ...]:
    """Return the axes in the configuration's own numbering, the lateral one left out."""
    first = 3 - num_axes
    return tuple(axis - first for axis in range(first, 3) if axis != lateral_axis)
