"""One configuration: the search's result and everything that goes with it, each with its reason."""

from typing import NamedTuple

from tumorseg.augmentation.patches import AugmentedPatch
from tumorseg.augmentation.presets import augmentation_preset
from tumorseg.losses.presets import deep_supervision_weights, loss_preset
from tumorseg.planning.choices.adaptation import Adaptation
from tumorseg.planning.choices.augmentation import cascade_augmentation, cascade_reasons, rotation_reasons
from tumorseg.planning.families.base import Grid, Sized
from tumorseg.planning.families.registry import network_reason
from tumorseg.planning.memory.counting import MemoryCounter
from tumorseg.planning.memory.rehearsal import Setting
from tumorseg.planning.presets import Preset
from tumorseg.planning.search.counted_rule import CountedRule, with_sums_on_cpu
from tumorseg.planning.search.ladder import AnyFits
from tumorseg.planning.search.lowres import find_lowres, lowres_reasons
from tumorseg.planning.search.patch import Candidate, Found, Limits, MemoryRule, search, search_reasons
from tumorseg.planning.search.published_rule import PublishedRule
from tumorseg.planning.search.relief import relief_reasons
from tumorseg.schema.augmentation import AugmentationSpec
from tumorseg.schema.dataset import ChannelKind
from tumorseg.schema.losses import LossSpec, OverlapLoss
from tumorseg.schema.plan import Configuration, InferenceSpec, Reason, SamplingSpec
from tumorseg.schema.preprocessing import NormalizationSpec, ResamplingSpec
from tumorseg.schema.quantities import GB

FULL, LOWRES, CASCADE = "3d_fullres", "3d_lowres", "3d_cascade_fullres"

ALONE_REASON = Reason(
    rule="none: this one works from the images alone",
    alternative="a coarser 3D configuration where there is one, whose segmentation is one more input: to be trained on "
    "every fold first",
)
CASCADE_REASON = Reason(
    rule="3d_fullres once more, shown what 3d_lowres found: where a patch sees little of a case, that tells it where "
    "it is",
    alternative="3d_fullres alone, which needs no training of 3d_lowres first",
)
SUPERVISION_REASON = Reason(
    rule="deep supervision weights halve at each coarser output; the coarsest is 0",
    alternative="equal weights: coarse outputs, which miss thin structures, pull as hard as the finest one",
)
OTHER_OPTIMIZERS = {
    "sgd": "adamw: twice the optimizer state, converges faster in short trainings",
    "adamw": "sgd: half of the optimizer state, for trainings of full length",
}
"""Next-best optimizer by name."""
OTHER_SCHEDULES = {
    "poly": "plateau: keeps the learning rate for as long as the training loss falls, but for the last part of the "
    "training",
    "plateau": "poly: falls by the number of epochs, whatever the loss does",
    "cosine": "poly: falls alike, without the warm-up that attention needs",
}
"""Next-best schedule by name."""


class Subject(NamedTuple):
    """Properties that all configurations of a plan share."""

    grid: Grid
    """Full-resolution grid of three axes in the plan's order."""
    kinds: tuple[ChannelKind, ...]
    """One per channel."""
    normalization: tuple[NormalizationSpec, ...]
    """One per channel."""
    has_regions: bool
    """Whether outputs are regions."""
    lateral_axis: int | None
    """Plan axis that must not be mirrored, because labels differ by their side only."""
    adaptation: Adaptation
    """Loss, sampling and augmentation that suit the targets."""


class Brief(NamedTuple):
    """Task of the planner: dataset, preset, and the budget to keep."""

    subject: Subject
    preset: Preset
    setting: Setting
    """Channels of the images, targets, precision."""
    vram_bytes: int
    """Budget of each GPU."""
    num_gpus: int
    """GPUs among which a batch is divided."""
    counter: MemoryCounter
    limits: Limits = "preset"
    """What limits width, patch and batch apart from memory."""


class Planned(NamedTuple):
    """A configuration with what is known of it."""

    configuration: Configuration
    reasons: dict[str, Reason]
    """By field within the configuration."""
    grid: Grid
    """What it was searched on."""


def plan_planes(brief: Brief) -> Planned:
    """Plan `2d`: planes of the first plan axis.

    Raises:
        PlanError: the budget is too small for any patch.
    """
    grid = _plane(brief.subject.grid)
    rule = _rule(brief)
    return _settle(brief, grid, search(grid, brief.preset, rule), rule, batch_dice=True)


def plan_volumes(brief: Brief) -> dict[str, Planned]:
    """Plan `3d_fullres`, and beside it `3d_lowres` and the cascade of both where a patch sees little of a case.

    Raises:
        PlanError: the budget is too small for any patch.
    """
    # One rule for all: what it counted at full resolution may bound what the same network needs in `3d_lowres`.
    grid, rule = brief.subject.grid, _rule(brief)
    found = search(grid, brief.preset, rule)
    # Sought even without cascades: that a patch sees little of a case also decides that Dice is taken over the batch.
    lowres = find_lowres(grid, found.candidate.patch_size, brief.preset, rule)
    full = _settle(brief, grid, found, rule, batch_dice=lowres is not None)
    if lowres is None or not brief.preset.cascade:
        return {FULL: full}
    coarse = _settle(brief, lowres.grid, lowres.found, rule, batch_dice=False)
    coarse = coarse._replace(reasons=coarse.reasons | lowres_reasons(grid))
    return {FULL: full, LOWRES: coarse, CASCADE: _plan_cascade(brief, full)}


def draft_default(brief: Brief) -> Configuration:
    """Return the default configuration as far as time is concerned: with any memory, and the smallest batch."""
    grid = brief.subject.grid if min(brief.subject.grid.median_shape) > 1 else _plane(brief.subject.grid)
    return _configuration(brief, grid, search(grid, brief.preset, AnyFits()).candidate, batch_dice=False)


def fits_budget(brief: Brief, configuration: Configuration) -> bool:
    """Return whether a configuration keeps the budget; True where memory is not counted."""
    rule = _rule(brief)
    return not isinstance(rule, CountedRule) or rule.holds(configuration)


def _plan_cascade(brief: Brief, full: Planned) -> Planned:
    """Plan full resolution with the coarse segmentation as further channels; search again if they do not fit."""
    cascade = _cascaded(full)
    rule = _rule(brief, previous=LOWRES)
    if isinstance(rule, CountedRule) and not rule.holds(cascade.configuration):
        grid = brief.subject.grid
        planned = _settle(brief, grid, search(grid, brief.preset, rule), rule, batch_dice=True)
        cascade = _cascaded(planned)
    return cascade


def _cascaded(full: Planned) -> Planned:
    """Return a configuration with the previous segmentation as an input, and the transforms that corrupt it."""
    augmentation = cascade_augmentation(full.configuration.augmentation)
    # At once: these transforms are refused where there is no previous configuration.
    update = {"previous_configuration": LOWRES, "augmentation": augmentation}
    reasons = full.reasons | {"previous_configuration": CASCADE_REASON, **cascade_reasons(augmentation)}
    return full._replace(configuration=full.configuration.changed(**update), reasons=reasons)


def _rule(brief: Brief, *, previous: str | None = None) -> MemoryRule:
    preset = brief.preset
    if preset.memory is not None:
        return PublishedRule(preset.memory, preset, brief.vram_bytes / GB, brief.num_gpus)

    def draft(candidate: Candidate, grid: Grid) -> Configuration:
        drafted = _configuration(brief, grid, candidate, batch_dice=len(grid.spacing_mm) == 2)
        return drafted.changed(previous_configuration=previous)

    return CountedRule(draft, brief.counter, brief.setting, vram_bytes=brief.vram_bytes, num_gpus=brief.num_gpus)


def _settle(brief: Brief, grid: Grid, found: Found, rule: MemoryRule, *, batch_dice: bool) -> Planned:
    configuration = _configuration(brief, grid, found.candidate, batch_dice=batch_dice)
    # The search let a candidate pass whose tiles fit when added up in main memory.
    if isinstance(rule, CountedRule) and not rule.holds(configuration):
        configuration = with_sums_on_cpu(configuration)
    return Planned(configuration, _reasons(brief, grid, found, rule, configuration), grid)


def _configuration(brief: Brief, grid: Grid, candidate: Candidate, *, batch_dice: bool) -> Configuration:
    """Return the configuration around a network."""
    num_axes = len(grid.spacing_mm)
    subject, preset = brief.subject, brief.preset
    axes = _mirroring_axes(num_axes, subject.lateral_axis) if preset.mirroring else ()
    weights = deep_supervision_weights(candidate.network.num_supervised)
    adapted = subject.adaptation
    return Configuration(
        spacing_mm=grid.spacing_mm,
        # A median of an even number of cases may lie at half a voxel.
        median_shape=tuple(max(1, round(size)) for size in grid.median_shape),
        patch_size=candidate.patch_size,
        batch_size=candidate.batch_size,
        normalization=subject.normalization,
        resampling=ResamplingSpec(),
        network=candidate.network,
        augmentation=_augmentation(subject, candidate.patch_size, axes),
        loss=loss_preset(
            adapted.loss, has_regions=subject.has_regions, batch_dice=batch_dice, deep_supervision_weights=weights
        ),
        optimizer=preset.optimizer,
        schedule=preset.schedule,
        sampling=SamplingSpec(foreground_fraction=adapted.foreground_fraction),
        inference=InferenceSpec(mirroring=bool(axes), mirroring_axes=axes),
        gradient_accumulation=candidate.relief.gradient_accumulation,
        activation_checkpointing=candidate.relief.activation_checkpointing,
    )


def _augmentation(subject: Subject, patch_size: tuple[int, ...], axes: tuple[int, ...]) -> AugmentationSpec:
    patch = AugmentedPatch(
        patch_size=patch_size, mirroring_axes=axes, kinds=subject.kinds, normalization=subject.normalization
    )
    adapted = subject.adaptation
    return augmentation_preset(adapted.augmentation, patch, strength=adapted.augmentation_strength)


def _reasons(
    brief: Brief, grid: Grid, found: Found, rule: MemoryRule, configuration: Configuration
) -> dict[str, Reason]:
    """Return the reasons of a configuration of its own, by field within it."""
    preset, adapted = brief.preset, brief.subject.adaptation.reasons
    network, patch_size, _, relief = found.candidate
    optimizer, schedule = configuration.optimizer.name, configuration.schedule.name
    of_preset = f"of preset {preset.name}"
    return {
        **search_reasons(found, grid, preset, rule, brief.limits),
        "network": network_reason(Sized(network, patch_size), grid, preset),
        **relief_reasons(configuration, is_smaller=not relief.keeps_patch and len(rule.reliefs) > 1),
        "loss": adapted["loss"],
        **_loss_reasons(configuration.loss),
        "augmentation": adapted["augmentation"],
        "augmentation.strength": adapted["augmentation.strength"],
        **rotation_reasons(configuration.augmentation, patch_size),
        "previous_configuration": ALONE_REASON,
        "optimizer": Reason(source="preset", rule=of_preset, alternative=OTHER_OPTIMIZERS.get(optimizer)),
        "schedule": Reason(source="preset", rule=of_preset, alternative=OTHER_SCHEDULES.get(schedule)),
    }


def _loss_reasons(loss: LossSpec) -> dict[str, Reason]:
    """Return the reasons of what a loss holds beyond its preset."""
    reasons = {"loss.deep_supervision_weights": SUPERVISION_REASON} if len(loss.deep_supervision_weights) > 1 else {}
    for number, component in enumerate(loss.components):
        if isinstance(component, OverlapLoss):
            reasons[f"loss.components.{number}.batch"] = _dice_reason(over_batch=component.batch)
    return reasons


def _dice_reason(*, over_batch: bool) -> Reason:
    if over_batch:
        return Reason(
            rule="over the batch: a patch sees little of a case",
            alternative="per patch: targets that few patches show weigh more",
        )
    return Reason(
        rule="per patch: a patch sees enough of a case",
        alternative="over the batch: steadier where many patches show no target",
    )


def _plane(grid: Grid) -> Grid:
    return grid._replace(spacing_mm=grid.spacing_mm[1:], median_shape=grid.median_shape[1:])


def _mirroring_axes(num_axes: int, lateral_axis: int | None) -> tuple[int, ...]:
    """Return the axes in the configuration's own numbering, the lateral one left out."""
    # Planes lack the first of the plan's axes.
    first = 3 - num_axes
    return tuple(axis - first for axis in range(first, 3) if axis != lateral_axis)
