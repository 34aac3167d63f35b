"""One configuration: the search's result and everything that goes with it."""

from typing import NamedTuple

from tumorseg.losses.presets import deep_supervision_weights, loss_preset
from tumorseg.planning.adaptation import Adaptation
from tumorseg.planning.augmentation import choose_augmentation
from tumorseg.planning.lowres import find_lowres
from tumorseg.planning.memory import predicted_bytes
from tumorseg.planning.patch_search import Found, Grid, search_patch
from tumorseg.planning.presets import Preset
from tumorseg.planning.reasons import configuration_reasons, lowres_reasons
from tumorseg.schema.plan import Configuration, InferenceSpec, Reason, SamplingSpec
from tumorseg.schema.preprocessing import NormalizationSpec, ResamplingSpec

FULL, LOWRES, CASCADE = "3d_fullres", "3d_lowres", "3d_cascade_fullres"


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
    adaptation: Adaptation
    """Loss, sampling and augmentation that suit the targets."""


class Planned(NamedTuple):
    """A configuration with what is known of it."""

    configuration: Configuration
    predicted_bytes: int
    reasons: dict[str, Reason]
    """By field within the configuration."""


def plan_planes(subject: Subject, preset: Preset, vram_gb: float) -> Planned:
    """Plan `2d`: planes of the first plan axis.

    Raises:
        PlanError: the budget is too small for any patch.
    """
    grid = _plane(subject.grid)
    return _complete(subject, grid, search_patch(grid, preset, vram_gb), preset, batch_dice=True)


def plan_volumes(subject: Subject, preset: Preset, vram_gb: float) -> dict[str, Planned]:
    """Plan `3d_fullres`, and beside it `3d_lowres` and the cascade of both where a patch sees little of a case.

    Raises:
        PlanError: the budget is too small for any patch.
    """
    found = search_patch(subject.grid, preset, vram_gb)
    lowres = find_lowres(subject.grid, found.patch_size, preset, vram_gb)
    full = _complete(subject, subject.grid, found, preset, batch_dice=lowres is not None)
    if lowres is None or not preset.cascade:
        return {FULL: full}
    coarse = _complete(subject, lowres.grid, lowres.found, preset, batch_dice=False)
    coarse = coarse._replace(reasons=coarse.reasons | lowres_reasons(subject.grid, lowres))
    return {FULL: full, LOWRES: coarse, CASCADE: _cascade(full)}


def _cascade(full: Planned) -> Planned:
    reason = Reason(
        rule="3d_fullres once more, shown what 3d_lowres found: where a patch sees little of a case, that tells it where it is",
        alternative="3d_fullres alone, which needs no training of 3d_lowres first",
    )
    configuration = full.configuration.model_copy(update={"previous_configuration": LOWRES})
    return full._replace(configuration=configuration, reasons=full.reasons | {"previous_configuration": reason})


def _complete(subject: Subject, grid: Grid, found: Found, preset: Preset, *, batch_dice: bool) -> Planned:
    """Return the configuration around a network."""
    num_axes = len(grid.spacing_mm)
    axes = _mirroring_axes(num_axes, subject.lateral_axis) if preset.mirroring else ()
    weights = deep_supervision_weights(found.network.num_stages - 1)
    adapted = subject.adaptation
    configuration = Configuration(
        spacing_mm=grid.spacing_mm,
        median_shape=tuple(max(1, round(size)) for size in grid.median_shape),
        patch_size=found.patch_size,
        batch_size=found.batch_size,
        normalization=subject.normalization,
        resampling=ResamplingSpec(),
        network=found.network,
        augmentation=choose_augmentation(found.patch_size, axes, strength=adapted.augmentation_strength),
        loss=loss_preset(
            adapted.loss, has_regions=subject.has_regions, batch_dice=batch_dice, deep_supervision_weights=weights
        ),
        optimizer=preset.optimizer,
        schedule=preset.schedule,
        sampling=SamplingSpec(foreground_fraction=adapted.foreground_fraction),
        inference=InferenceSpec(mirroring=bool(axes), mirroring_axes=axes),
    )
    needed = predicted_bytes(preset.memory, num_axes, found.elements, found.batch_size)
    reasons = configuration_reasons(configuration, found, preset, adapted=adapted, batch_dice=batch_dice)
    return Planned(configuration, needed, reasons)


def _plane(grid: Grid) -> Grid:
    return grid._replace(spacing_mm=grid.spacing_mm[1:], median_shape=grid.median_shape[1:])


def _mirroring_axes(num_axes: int, lateral_axis: int | None) -> tuple[int, ...]:
    """Return the axes in the configuration's own numbering, the lateral one left out."""
    first = 3 - num_axes
    return tuple(axis - first for axis in range(first, 3) if axis != lateral_axis)
