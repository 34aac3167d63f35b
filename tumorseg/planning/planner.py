"""From a fingerprint to a plan: evidence, choices, search, memory."""

from collections.abc import Iterator
from itertools import chain
from typing import NamedTuple

import numpy as np

from tumorseg.errors import PlanError, TrainingError
from tumorseg.planning.choices.adaptation import Adaptation, adapt
from tumorseg.planning.choices.budget import Pace, choose_budget, choose_vram
from tumorseg.planning.choices.class_counts import with_class_counts
from tumorseg.planning.choices.cropping import Cropping, decide_cropping
from tumorseg.planning.choices.dataset import UserSelection, choose_dataset
from tumorseg.planning.choices.fixed import FIXED_REASONS, ORIENTATION_REASON
from tumorseg.planning.choices.mirroring import choose_mirroring
from tumorseg.planning.choices.normalization import choose_normalizations
from tumorseg.planning.choices.training import choose_training
from tumorseg.planning.decided import Decided
from tumorseg.planning.evidence.certainty import check_learnable, judge_labels, many_labels
from tumorseg.planning.evidence.images import image_warnings
from tumorseg.planning.evidence.kinds import KindDecision, decide_kinds
from tumorseg.planning.evidence.spacing import TargetGrid, target_grid, transpose_reason
from tumorseg.planning.evidence.summary import summarize
from tumorseg.planning.families.base import Grid
from tumorseg.planning.folds.fold_choice import choose_folds, fold_warnings
from tumorseg.planning.folds.split_lists import Division, SplitLists
from tumorseg.planning.memory.counting import MemoryCounter
from tumorseg.planning.memory.rehearsal import Setting
from tumorseg.planning.memory.totals import predict_memory
from tumorseg.planning.options import (
    Machine,
    PlanOptions,
    check_options,
    check_plan_name,
    chosen_preset,
    circumstances,
    times_length,
)
from tumorseg.planning.overrides import apply_overrides
from tumorseg.planning.presets import Preset
from tumorseg.planning.reading.soundness import Parsed, check_plan
from tumorseg.planning.search.configurations import (
    FULL,
    Brief,
    Planned,
    Subject,
    plan_planes,
    plan_volumes,
)
from tumorseg.planning.search.narrowing import Measure, Wide, check_limit, narrowed
from tumorseg.planning.search.pacing import Clock, pace_on_cpu, pace_on_gpu
from tumorseg.schema.fingerprint import Fingerprint
from tumorseg.schema.plan import Plan, Reason
from tumorseg.schema.planned_dataset import PlannedDataset
from tumorseg.schema.preprocessing import NormalizationSpec
from tumorseg.schema.targets import targets_of


class PlanResult(NamedTuple):
    """A plan and what its user should look at."""

    plan: Plan
    warnings: tuple[str, ...]


class _Choices(NamedTuple):
    """Everything that is chosen before the search, with its reasons."""

    preset: Decided[Preset]
    vram: Decided[int]
    """Budget of each GPU in bytes."""
    cropping: Cropping
    """With the measurements that everything else goes by."""
    kinds: list[KindDecision]
    dataset: Decided[PlannedDataset]
    grid: Decided[TargetGrid]
    normalization: Decided[tuple[NormalizationSpec, ...]]
    keeps_sides: Decided[bool]
    """Whether left and right must not be mirrored."""
    adaptation: Adaptation
    folds: Decided[Division]


class _Found(NamedTuple):
    """Configurations, and what they were searched with."""

    configurations: dict[str, Planned]
    preset: Preset
    """Limited to what this machine can train in time, where it is to."""
    step_s: float | None = None
    """Seconds of a training step timed on it; None where none was."""
    precision: Reason | None = None
    """Why a CPU trains in its precision, where the machine decided."""


def make_plan(fingerprint: Fingerprint, name: str, options: PlanOptions, machine: Machine | None = None) -> PlanResult:
    """Decide everything, and count the memory that it needs.

    Args:
        fingerprint: what was measured.
        name: the plan's name, the stem of its file.
        options: what the user asks for.
        machine: this one, for `options.device` `cpu`.

    Raises:
        PlanError: the dataset or the options admit no plan, or the name cannot be a file's.
    """
    machine = machine or Machine()
    counter = machine.counter or MemoryCounter()
    decided = decide(fingerprint, name, options, machine._replace(counter=counter))
    plan = predict_memory(decided.plan, counter)
    # A note is to know, not to look into: `plan validate` lists it.
    warnings = [found.message for found in check_plan(Parsed.of(plan), {}) if found.severity != "note"]
    return PlanResult(plan, (*decided.warnings, *warnings))


def decide(fingerprint: Fingerprint, name: str, options: PlanOptions, machine: Machine) -> PlanResult:
    """Decide everything; the memory of the plan is not counted yet, and its budget predicts none.

    Arguments and errors are those of `make_plan`.
    """
    check_plan_name(name)
    check_options(options)
    check_learnable(fingerprint)
    choices = _choose(fingerprint, options, _full_length_step(fingerprint, options, machine))
    found = _limited(_search(choices, options, machine), choices, options)
    plan = apply_overrides(_assemble(fingerprint, name, options, choices, found), options.overrides)
    if options.flops is not None and options.overrides:
        check_limit(plan, options.flops)
    # After the overrides, any of which may bring a loss that asks for counts.
    plan = with_class_counts(plan, choices.cropping.fingerprint)
    return PlanResult(plan, tuple(_warnings(choices, plan)))


def _full_length_step(fingerprint: Fingerprint, options: PlanOptions, machine: Machine) -> float | None:
    """Return the time of a step on the GPU at hand of what a training of full length has; None where that decides nothing."""
    if not times_length(options):
        return None
    whole = options.changed(preset=options.preset.changed(gives_way=False))
    choices = _choose(fingerprint, whole)
    brief = _brief(choices, whole, machine)
    planned = _plan_configurations(brief)
    default = _choose_default(planned, choices.grid.value).value
    try:
        return _clock(machine)(planned[default].configuration, brief.setting)
    except TrainingError:
        # Others may hold memory that the budget counts on; then the hours alone decide.
        return None


def _choose(fingerprint: Fingerprint, options: PlanOptions, step_s: float | None = None) -> _Choices:
    cropping = decide_cropping(fingerprint, options.preset)
    # All that follows goes by the images as they will be stored.
    measured = cropping.fingerprint
    kinds = decide_kinds(measured)
    dataset = choose_dataset(measured, kinds, _selection(options))
    certainty = judge_labels(measured, is_confirmed=options.confirm_labels)
    grid = target_grid(measured)
    preset = chosen_preset(options, circumstances(options, measured, grid.value, step_s))
    return _Choices(
        preset=preset,
        vram=choose_vram(preset.value, options.vram_gb),
        cropping=cropping,
        kinds=kinds,
        dataset=Decided(dataset.value, dataset.reasons | certainty),
        grid=grid,
        normalization=choose_normalizations(measured, kinds),
        keeps_sides=choose_mirroring(dataset.value, preset.value),
        adaptation=adapt(measured, grid.value, preset=preset.value, kinds=[kind.kind for kind in kinds]),
        folds=choose_folds(measured, options.splits),
    )


def _selection(options: PlanOptions) -> UserSelection:
    listed = options.splits.listed() if isinstance(options.splits, SplitLists) else None
    return UserSelection(
        channels=options.channels,
        regions=options.regions,
        common=options.common,
        excluded=options.excluded,
        kept_back=options.kept_back,
        listed=None if listed is None else tuple(sorted(listed)),
    )


def _search(choices: _Choices, options: PlanOptions, machine: Machine) -> _Found:
    """Search patch, batch and network of every configuration."""
    brief = _brief(choices, options, machine)
    # A GPU has time for all that its memory holds, unless the preset says otherwise.
    if options.device is None or (options.device == "cuda" and not brief.preset.follows_machine):
        return _Found(_plan_configurations(brief), brief.preset)
    if options.device == "cpu":
        found = pace_on_cpu(brief, _clock(machine), options.overrides, has_bf16=machine.has_bf16)
    else:
        found = pace_on_gpu(brief, _clock(machine), options.overrides)
    return _Found(_plan_configurations(found.brief), found.brief.preset, found.step_s, found.precision)


def _brief(choices: _Choices, options: PlanOptions, machine: Machine) -> Brief:
    preset = _with_possible_cascade(choices)
    dataset = choices.dataset.value
    return Brief(
        subject=_subject(choices),
        preset=preset,
        setting=Setting(
            len(dataset.channels),
            targets_of(dataset),
            preset.training.precision.cuda,
            has_average=preset.training.ema is not None,
        ),
        vram_bytes=choices.vram.value,
        num_gpus=options.num_gpus,
        counter=machine.counter or MemoryCounter(),
    )


def _limited(found: _Found, choices: _Choices, options: PlanOptions) -> _Found:
    """Return configurations whose networks compute no more than `options.flops` allows."""
    if options.flops is None:
        return found
    grid = choices.grid.value
    default = _choose_default(found.configurations, grid).value
    measure = Measure(targets_of(choices.dataset.value), grid.in_plan_order().spacing_mm[0])
    narrow = narrowed(Wide(found.configurations, found.preset), default, options.flops, measure)
    return found._replace(configurations=dict(narrow.configurations), preset=narrow.preset)


def _with_possible_cascade(choices: _Choices) -> Preset:
    """Return the preset, without a cascade unless folds hold out every case."""
    # A cascade trains on its first stage's segmentations of held-out cases.
    held_out = set(chain.from_iterable(choices.folds.value.folds))
    case_ids = {case.case_id for case in choices.cropping.fingerprint.cases}
    preset = choices.preset.value
    return preset if held_out == case_ids else preset.changed(cascade=False)


def _subject(choices: _Choices) -> Subject:
    """Return what all configurations share."""
    dataset, target = choices.dataset.value, choices.grid.value
    planned = target.in_plan_order()
    voxels = float(np.prod(planned.median_shape)) * len(choices.cropping.fingerprint.cases)
    # nnU-Net's estimate takes every entry of `labels` for an output, the ignore label too.
    num_outputs = len(set(dataset.labels.values()) | {0})
    return Subject(
        grid=Grid(planned.spacing_mm, planned.median_shape, voxels, num_outputs),
        kinds=tuple(kind.kind for kind in choices.kinds),
        normalization=choices.normalization.value,
        has_regions=bool(dataset.regions),
        lateral_axis=target.lateral_axis if choices.keeps_sides.value else None,
        adaptation=choices.adaptation,
    )


def _clock(machine: Machine) -> Clock:
    """Return what times a training step.

    Raises:
        PlanError: nothing does.
    """
    if machine.seconds is None:
        raise PlanError(
            "device cpu and cuda: planning for one times training steps on it; plan on the machine that will train"
        )
    return machine.seconds


def _plan_configurations(brief: Brief) -> dict[str, Planned]:
    """Plan volumes unless the images are flat, and planes unless they are so narrow that only volumes are possible."""
    planned = plan_volumes(brief) if min(brief.subject.grid.median_shape) > 1 else {}
    try:
        planned["2d"] = plan_planes(brief)
    except PlanError:
        if not planned:
            raise
    # One order, whatever was planned first: a plan's file says the same each time.
    return dict(sorted(planned.items()))


def _assemble(fingerprint: Fingerprint, name: str, options: PlanOptions, choices: _Choices, found: _Found) -> Plan:
    """Return the plan of all choices and configurations, with the reasons of both."""
    training = choose_training(
        choices.cropping.fingerprint, found.preset, max_hours=options.max_hours, precision=found.precision
    )
    pace = None
    if found.step_s is not None:
        pace = Pace(found.step_s, on_cpu=options.device == "cpu", is_asked=options.is_device_asked)
    budget = choose_budget(choices.vram, found.preset, num_gpus=options.num_gpus, pace=pace)
    default = _choose_default(found.configurations, choices.grid.value)
    return Plan(
        name=name,
        dataset=choices.dataset.value,
        transpose=choices.grid.value.transpose,
        cropping=choices.cropping.is_cropped,
        fingerprint=summarize(fingerprint),
        budget=budget.value,
        default_configuration=default.value,
        configurations={key: planned.configuration for key, planned in found.configurations.items()},
        training=training.value,
        folds=choices.folds.value.folds,
        kept_from_training=choices.folds.value.kept_from_training,
        reasons={
            "orientation": ORIENTATION_REASON,
            "transpose": transpose_reason(choices.grid.value),
            "cropping": choices.cropping.reason,
            **choices.dataset.reasons,
            **choices.folds.reasons,
            **budget.reasons,
            **default.reasons,
            **training.reasons,
            **_configuration_reasons(choices, found),
        },
    )


def _choose_default(planned: dict[str, Planned], grid: TargetGrid) -> Decided[str]:
    has_depth = FULL in planned
    alternative = "2d, where the plan has it: blind to the neighbouring planes"
    reason = Reason(
        rule="3d_fullres where images have depth, else 2d",
        inputs={"median_shape": list(grid.median_shape)},
        alternative=alternative if has_depth else "none: images have no depth",
    )
    return Decided(FULL if has_depth else "2d", {"default_configuration": reason})


def _configuration_reasons(choices: _Choices, found: _Found) -> dict[str, Reason]:
    """Return the reasons of every configuration: those that all share, and those of its own search."""
    shared = {
        **choices.grid.reasons,
        **FIXED_REASONS,
        "sampling": choices.adaptation.reasons["sampling"],
        **choices.keeps_sides.reasons,
        **choices.normalization.reasons,
    }
    reasons = {}
    for name, planned in found.configurations.items():
        # The search says of all that a preset holds that it is the preset's, whoever chose it.
        for field, reason in (shared | planned.reasons | choices.preset.reasons).items():
            reasons[f"configurations.{name}.{field}"] = reason
    return reasons


def _warnings(choices: _Choices, plan: Plan) -> Iterator[str]:
    measured = choices.cropping.fingerprint
    yield from (kind.warning for kind in choices.kinds if kind.warning)
    yield from choices.cropping.warnings
    yield from image_warnings(measured)
    yield from many_labels(measured.dataset)
    yield from fold_warnings(measured, plan)
