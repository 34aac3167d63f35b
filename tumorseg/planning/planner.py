"""From a fingerprint to a plan: every decision in one place, each with its reason."""

from collections.abc import Callable, Iterator, Sequence
from typing import Literal, NamedTuple

import numpy as np

from tumorseg.errors import PlanError
from tumorseg.planning.choices.adaptation import Adaptation, adapt
from tumorseg.planning.choices.class_counts import with_class_counts
from tumorseg.planning.choices.cropping import decide_cropping
from tumorseg.planning.choices.reasons import Evidence, has_sides, plan_reasons, shared_reasons
from tumorseg.planning.evidence.certainty import judge_labels, many_labels
from tumorseg.planning.evidence.images import (
    image_warnings,
    not_hounsfield,
    reading_reasons,
    unplaced_files,
    with_outside_value,
)
from tumorseg.planning.evidence.kinds import KindDecision, choose_normalization, decide_kind
from tumorseg.planning.evidence.laterality import mirrored_in_images
from tumorseg.planning.evidence.spacing import TargetGrid, target_grid
from tumorseg.planning.folds.fold_choice import choose_folds, fold_reason, fold_warnings, usage_reasons
from tumorseg.planning.folds.split_lists import SplitLists
from tumorseg.planning.memory.counting import GB, MemoryCounter
from tumorseg.planning.memory.rehearsal import Setting
from tumorseg.planning.memory.totals import predict_memory
from tumorseg.planning.overrides import Override, apply_overrides
from tumorseg.planning.presets import PLAIN_REFERENCE, PRESETS, RESIDUAL_M_REFERENCE, Preset
from tumorseg.planning.reading.soundness import LATERAL_AXIS, check_plan, whole
from tumorseg.planning.search.configurations import (
    FULL,
    Brief,
    Planned,
    Subject,
    draft_default,
    plan_planes,
    plan_volumes,
)
from tumorseg.planning.search.cpu_ladder import choose_pace, target_seconds
from tumorseg.planning.search.patch import Grid
from tumorseg.schema.base import Record, record_hash
from tumorseg.schema.dataset import DatasetDescription
from tumorseg.schema.fingerprint import Fingerprint
from tumorseg.schema.plan import Budget, Configuration, FingerprintSummary, Plan, Reason
from tumorseg.schema.planned_dataset import CaseLists, PlannedDataset
from tumorseg.schema.targets import targets_of


class PlanOptions(Record):
    """What a user may ask of the planner."""

    preset: Preset = PRESETS["optimized"]
    """Where the plan starts from."""
    vram_gb: float | None = None
    """Budget in GB (2^30 bytes); the preset's if None."""
    device: Literal["cpu"] | None = None
    """`cpu` chooses width and patch by steps timed there; None plans for GPUs."""
    num_gpus: int = 1
    """GPUs of that budget each, among which a batch is divided."""
    max_hours: float | None = None
    """Time for one fold's training."""
    network: str | None = None
    """`plain_unet` or `residual_unet`; the preset's if None."""
    splits: SplitLists | str | None = None
    """Lists of cases; one of `NAMED_SPLITS`; or, if None, five random folds, of groups if there are any."""
    excluded: tuple[str, ...] = ()
    """Cases that the user left out; the fingerprint does not hold them."""
    kept_back: tuple[str, ...] = ()
    """Cases in no list of the split file; the fingerprint does not hold them."""
    overrides: tuple[Override, ...] = ()
    """Fields that the user sets."""
    confirm_labels: bool = False
    """Whether labels that are doubtful, or in no case, are meant so."""


class PlanResult(NamedTuple):
    """A plan and what its user should look at."""

    plan: Plan
    warnings: tuple[str, ...]


class Machine(NamedTuple):
    """What the planner may ask of the machine that it runs on."""

    seconds: Callable[[Configuration, Setting], float] | None = None
    """Times a training step on the CPU, for plans that are to be trained there."""
    counter: MemoryCounter | None = None
    """Remembers what it counted; a new one if None."""


def make_plan(fingerprint: Fingerprint, name: str, options: PlanOptions, machine: Machine | None = None) -> PlanResult:
    """Decide everything, and count the memory that it needs.

    Args:
        fingerprint: what was measured.
        name: the plan's name, the stem of its file.
        options: what the user asks for.
        machine: this one, for `options.device` `cpu`.

    Raises:
        PlanError: the dataset or the options admit no plan.
    """
    machine = machine or Machine()
    machine = machine._replace(counter=machine.counter or MemoryCounter())
    decided = decide(fingerprint, name, options, machine)
    assert machine.counter is not None
    plan = predict_memory(decided.plan, machine.counter)
    found = check_plan(whole(plan), {})
    return PlanResult(plan, (*decided.warnings, *(one.message for one in found if one.severity != "note")))


def decide(fingerprint: Fingerprint, name: str, options: PlanOptions, machine: Machine) -> PlanResult:
    """Decide everything; the memory of what was decided is yet to be counted.

    Arguments and errors are those of `make_plan`.
    """
    preset = _with_hours(_chosen_preset(options), options)
    vram_bytes = round((options.vram_gb or preset.vram_gb) * GB)
    measured, cropping = fingerprint, decide_cropping(fingerprint, preset)
    fingerprint = cropping.fingerprint
    kinds = _decide_kinds(fingerprint)
    target = target_grid(fingerprint)
    dataset = _planned_dataset(fingerprint, kinds, options)
    setting = Setting(len(dataset.channels), targets_of(dataset), preset.training.precision)
    adaptation = adapt(fingerprint, target, preset)
    subject = _subject(fingerprint, kinds, target, adaptation, has_sides=has_sides(dataset, preset))
    certainty = _check_labels(fingerprint, options)
    division = choose_folds(fingerprint, options.splits)
    possible = _with_possible_cascade(preset, division.folds, fingerprint)
    brief = Brief(subject, possible, setting, vram_bytes, options.num_gpus, machine.counter or MemoryCounter())
    budget = Budget(vram_bytes=vram_bytes, predicted_bytes=1, num_gpus=options.num_gpus)
    if options.device == "cpu":
        brief, step_s = _pace(brief, options, machine)
        preset = brief.preset
        budget = budget.model_copy(update={"device": "cpu", "step_s": step_s})
    planned = _plan_configurations(brief)
    evidence = Evidence(fingerprint, kinds, target, preset, adaptation, _given(options), dataset.mirrored_labels)
    plan = Plan(
        name=name,
        dataset=dataset,
        transpose=target.transpose,
        cropping=cropping.is_cropped,
        fingerprint=_summary(measured),
        budget=budget,
        default_configuration=FULL if FULL in planned else "2d",
        configurations={key: found.configuration for key, found in planned.items()},
        training=adaptation.lengthen(preset.training),
        folds=division.folds,
        kept_from_training=division.kept_from_training,
        reasons={
            "cropping": cropping.reason,
            "folds": fold_reason(fingerprint, options.splits),
            **usage_reasons(dataset, division),
            **reading_reasons(dataset, unplaced_files(fingerprint)),
            **certainty,
            **plan_reasons(evidence),
            **_nested_reasons(planned, shared_reasons(evidence)),
        },
    )
    plan = with_class_counts(apply_overrides(plan, options.overrides), fingerprint)
    warnings = [decision.warning for decision in kinds if decision.warning]
    return PlanResult(plan, (*warnings, *cropping.warnings, *_data_warnings(fingerprint, plan)))


def _given(options: PlanOptions) -> frozenset[str]:
    return frozenset(name for name in ("vram_gb", "max_hours", "device") if getattr(options, name) is not None)


def _data_warnings(fingerprint: Fingerprint, plan: Plan) -> Iterator[str]:
    yield from image_warnings(fingerprint)
    yield from many_labels(fingerprint.dataset)
    yield from fold_warnings(fingerprint, plan)


def _with_hours(preset: Preset, options: PlanOptions) -> Preset:
    """Return a preset with the time that the user gives a training."""
    if options.max_hours is None:
        return preset
    training = preset.training.model_copy(update={"max_hours": options.max_hours})
    return preset.model_copy(update={"training": training})


def _with_possible_cascade(preset: Preset, folds: CaseLists, fingerprint: Fingerprint) -> Preset:
    """Return a preset without a cascade unless folds hold out every case: it learns from what was found in held-out ones."""
    held_out = {case_id for fold in folds for case_id in fold}
    holds_out_all = held_out == {case.case_id for case in fingerprint.cases}
    return preset if holds_out_all else preset.model_copy(update={"cascade": False})


def _pace(brief: Brief, options: PlanOptions, machine: Machine) -> tuple[Brief, float]:
    """Return the brief with width and patch for this machine's CPU, and the time of a step."""
    if machine.seconds is None:
        raise PlanError(
            "device cpu: planning for a CPU times training steps on it; plan on the machine that will train"
        )
    setting = brief.setting._replace(precision="fp32")
    seconds = machine.seconds

    def draft(preset: Preset) -> Configuration:
        return draft_default(brief._replace(preset=preset))

    target_s = target_seconds(brief.preset.training.max_hours)
    paced = choose_pace(brief.preset, draft, lambda configuration: seconds(configuration, setting), target_s)
    return brief._replace(preset=paced.preset, setting=setting), paced.step_s


def _chosen_preset(options: PlanOptions) -> Preset:
    preset = options.preset
    sets_batch = any(override.field.endswith("batch_size") for override in options.overrides)
    if preset.max_batch_size is not None and options.num_gpus > preset.max_batch_size and not sets_batch:
        raise PlanError(
            f"--num-gpus {options.num_gpus}: preset {preset.name} has batches of {preset.max_batch_size} patches at most, so "
            "that some GPUs would get none; give fewer GPUs, or another preset"
        )
    if options.device == "cpu" and options.num_gpus > 1:
        raise PlanError(f"--device cpu and --num-gpus {options.num_gpus} contradict; give one of them")
    if options.vram_gb is not None and options.vram_gb <= 0:
        raise PlanError(f"--vram {options.vram_gb:g} is not a budget; give GB above 0")
    if options.max_hours is not None and any(
        override.field in ("training", "training.epochs") for override in options.overrides
    ):
        raise PlanError(f"--max-hours {options.max_hours:g} and --set training.epochs contradict; give one of them")
    if options.max_hours is not None and options.max_hours <= 0:
        raise PlanError(f"--max-hours {options.max_hours:g} is no time to train; give hours above 0")
    if options.network is None:
        return preset
    if options.network not in ("plain_unet", "residual_unet"):
        raise PlanError(f"network {options.network!r} is unknown to the planner; choose plain_unet or residual_unet")
    if options.network == preset.network or preset.memory is None:
        return preset.model_copy(update={"network": options.network})
    reference = PLAIN_REFERENCE if options.network == "plain_unet" else RESIDUAL_M_REFERENCE
    return preset.model_copy(update={"network": options.network, "memory": reference})


def _decide_kinds(fingerprint: Fingerprint) -> list[KindDecision]:
    return [
        decide_kind(channel, fingerprint.intensities[channel.name], _least_intensities(fingerprint, channel.name))
        for channel in fingerprint.dataset.channels
    ]


def _least_intensities(fingerprint: Fingerprint, channel: str) -> list[float]:
    """Return the least intensity of each case's image, as far as it was measured."""
    measured = [case.channel_minima for case in fingerprint.cases if case.channel_minima is not None]
    return [minima[channel] for minima in measured if channel in minima]


def _subject(
    fingerprint: Fingerprint,
    kinds: Sequence[KindDecision],
    target: TargetGrid,
    adaptation: Adaptation,
    *,
    has_sides: bool,
) -> Subject:
    dataset, relative = fingerprint.dataset, fingerprint.median_relative_size_after_cropping
    _check_learnable(fingerprint)
    normalization = tuple(
        choose_normalization(channel, decision.kind, fingerprint.intensities[channel.name], relative)
        for channel, decision in zip(dataset.channels, kinds, strict=True)
    )
    planned = target.in_plan_order()
    voxels = float(np.prod(planned.median_shape)) * len(fingerprint.cases)
    grid = Grid(planned.spacing_mm, planned.median_shape, voxels, len(set(dataset.labels.values()) | {0}))
    lateral = target.transpose.index(LATERAL_AXIS) if has_sides else None
    return Subject(grid, normalization, bool(dataset.regions), lateral, adaptation)


def _check_learnable(fingerprint: Fingerprint) -> None:
    dataset = fingerprint.dataset
    if not set(dataset.labels.values()) - {0, dataset.ignore_label}:
        raise PlanError(f"{dataset.name}: the dataset has no label besides the background; there is nothing to learn")
    counts = [case.label_voxels for case in fingerprint.cases]
    if all(found is not None and not any(found.values()) for found in counts):
        raise PlanError(
            f"{dataset.name}: every case is all background; there is nothing to learn; check the label files"
        )


def _check_labels(fingerprint: Fingerprint, options: PlanOptions) -> dict[str, Reason]:
    reason = judge_labels(fingerprint, is_confirmed=options.confirm_labels)
    return {} if reason is None else {"dataset.labels": reason}


def _plan_configurations(brief: Brief) -> dict[str, Planned]:
    """Plan volumes unless the images are flat, and planes unless they are so narrow that only volumes are possible."""
    planned = plan_volumes(brief) if min(brief.subject.grid.median_shape) > 1 else {}
    try:
        planned["2d"] = plan_planes(brief)
    except PlanError:
        if not planned:
            raise
    return dict(sorted(planned.items()))


def _planned_dataset(fingerprint: Fingerprint, kinds: Sequence[KindDecision], options: PlanOptions) -> PlannedDataset:
    dataset = fingerprint.dataset
    channels = [
        with_outside_value(channel.model_copy(update={"kind": decision.kind}))
        for channel, decision in zip(dataset.channels, kinds, strict=True)
    ]
    fields = {name: getattr(dataset, name) for name in type(dataset).model_fields}
    mirrored = mirrored_in_images(fingerprint.cases, _label_names(dataset))
    decided = {"channels": tuple(channels), "mirrored_labels": tuple(mirrored)}
    listed = options.splits.listed() if isinstance(options.splits, SplitLists) else None
    usage = {"excluded": options.excluded, "kept_back": options.kept_back, "listed": listed and tuple(sorted(listed))}
    return PlannedDataset(**(fields | decided | usage), content_hash=fingerprint.content_hash)


def _label_names(dataset: DatasetDescription) -> list[str]:
    return [name for name, value in dataset.labels.items() if value not in (0, dataset.ignore_label)]


def _summary(fingerprint: Fingerprint) -> FingerprintSummary:
    spacing = np.median([case.spacing_mm for case in fingerprint.cases], axis=0).tolist()
    shape = np.median([case.shape_after_crop for case in fingerprint.cases], axis=0).tolist()
    return FingerprintSummary(
        hash=record_hash(fingerprint),
        num_cases=len(fingerprint.cases),
        median_spacing_mm=tuple(spacing),
        median_shape_after_crop=tuple(shape),
        median_relative_size_after_cropping=fingerprint.median_relative_size_after_cropping,
        intensities=fingerprint.intensities,
        not_hounsfield=not_hounsfield(fingerprint),
    )


def _nested_reasons(planned: dict[str, Planned], shared: dict[str, Reason]) -> dict[str, Reason]:
    return {
        f"configurations.{name}.{field}": reason
        for name, found in planned.items()
        for field, reason in (shared | found.reasons).items()
    }
