"""From a fingerprint to a plan: every decision in one place, each with its reason."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from tumorseg.errors import PlanError
from tumorseg.planning.adaptation import Adaptation, adapt
from tumorseg.planning.configurations import FULL, Planned, Subject, plan_planes, plan_volumes
from tumorseg.planning.kinds import KindDecision, choose_normalization, decide_kind
from tumorseg.planning.laterality import mirror_pairs
from tumorseg.planning.memory import GB, feature_map_elements, predicted_bytes
from tumorseg.planning.overrides import Override, apply_overrides
from tumorseg.planning.patch_search import Grid
from tumorseg.planning.presets import PLAIN_REFERENCE, RESIDUAL_M_REFERENCE, Preset, preset_named
from tumorseg.planning.reasons import Evidence, plan_reasons, shared_reasons, sided_names
from tumorseg.planning.spacing import TargetGrid, target_grid
from tumorseg.planning.splits import NAMED_SPLITS, Folds, check_folds, split_folds
from tumorseg.schema.augmentation import MirrorTransform
from tumorseg.schema.base import Record, record_hash
from tumorseg.schema.fingerprint import Fingerprint
from tumorseg.schema.networks import PlainUNet, ResidualUNet
from tumorseg.schema.plan import Budget, FingerprintSummary, Plan, PlannedDataset, Reason

LATERAL_AXIS = 2
"""Canonical axis X, which runs from left to right."""


class PlanOptions(Record):
    """What a user may ask of the planner."""

    preset: str = "optimized"
    """Where the plan starts from."""
    vram_gb: float | None = None
    """Budget in GB (2^30 bytes); the preset's if None."""
    max_hours: float | None = None
    """Time for one fold's training."""
    network: str | None = None
    """`plain_unet` or `residual_unet`; the preset's if None."""
    folds: Folds | str | None = None
    """Held-out case_ids of each fold; one of `NAMED_SPLITS`; or, if None, five random folds, of groups if there are any."""
    overrides: tuple[Override, ...] = ()
    """Fields that the user sets."""


class PlanResult(NamedTuple):
    """A plan and what its user should look at."""

    plan: Plan
    warnings: tuple[str, ...]


def make_plan(fingerprint: Fingerprint, name: str, options: PlanOptions) -> PlanResult:
    """Decide everything.

    Args:
        fingerprint: what was measured.
        name: the plan's name, the stem of its file.
        options: what the user asks for.

    Raises:
        PlanError: the dataset or the options admit no plan.
    """
    preset = _chosen_preset(options)
    vram_gb = options.vram_gb or preset.vram_gb
    kinds = _decide_kinds(fingerprint)
    target = target_grid(fingerprint)
    adaptation = adapt(fingerprint, target, preset)
    subject = _subject(fingerprint, kinds, target, adaptation)
    planned = _plan_configurations(subject, preset, vram_gb)
    given = {name for name in ("vram_gb", "max_hours", "folds") if getattr(options, name) is not None}
    split = options.folds if isinstance(options.folds, str) else None
    evidence = Evidence(fingerprint, kinds, target, preset, adaptation, frozenset(given), split)
    default = FULL if FULL in planned else "2d"
    plan = Plan(
        name=name,
        dataset=_planned_dataset(fingerprint, kinds),
        transpose=target.transpose,
        fingerprint=_summary(fingerprint),
        budget=Budget(vram_bytes=round(vram_gb * GB), predicted_bytes=planned[default].predicted_bytes),
        default_configuration=default,
        configurations={key: found.configuration for key, found in planned.items()},
        training=adaptation.lengthen(preset.training.model_copy(update={"max_hours": options.max_hours})),
        folds=_folds(fingerprint, options),
        reasons=plan_reasons(evidence) | _nested_reasons(planned, shared_reasons(evidence)),
    )
    plan = _predict_memory(apply_overrides(plan, options.overrides), preset)
    warnings = [decision.warning for decision in kinds if decision.warning]
    warnings += _fold_warnings(fingerprint, plan) + _mirror_warnings(plan)
    if plan.budget.predicted_bytes > plan.budget.vram_bytes:
        needed, allowed = plan.budget.predicted_bytes / GB, plan.budget.vram_bytes / GB
        warnings.append(f"the plan is predicted to need {needed:.1f} GB, over its budget of {allowed:.1f} GB")
    return PlanResult(plan, tuple(warnings))


def _predict_memory(plan: Plan, preset: Preset) -> Plan:
    """Return the plan with the memory predicted for what it holds now; another package's network is not counted."""
    configuration = plan.configurations[plan.default_configuration]
    if not isinstance(configuration.network, PlainUNet | ResidualUNet):
        return plan
    num_outputs = len(set(plan.dataset.labels.values()) | {0})
    elements = feature_map_elements(configuration.network, configuration.patch_size, num_outputs)
    needed = predicted_bytes(preset.memory, configuration.num_axes, elements, configuration.batch_size)
    return plan.model_copy(update={"budget": plan.budget.model_copy(update={"predicted_bytes": needed})})


def _fold_warnings(fingerprint: Fingerprint, plan: Plan) -> list[str]:
    """Tell of groups on both sides of a fold, which only folds of the user's own can have."""
    groups = {case.case_id: case.group for case in fingerprint.cases if case.group is not None}
    split = set()
    for fold in plan.folds:
        held_out = {groups[case_id] for case_id in fold if case_id in groups}
        inside = set(fold)
        split |= held_out & {group for case_id, group in groups.items() if case_id not in inside}
    listed = ", ".join(sorted(split)[:5])
    return [f"groups are trained on and held out in one fold: {listed}; scores will be too good"] if split else []


def _mirror_warnings(plan: Plan) -> list[str]:
    """Tell if the user has mirrored left and right into each other."""
    pairs = mirror_pairs(sided_names(plan.dataset))
    lateral = plan.transpose.index(LATERAL_AXIS)
    found = []
    for name, configuration in plan.configurations.items():
        axes = set(configuration.inference.mirroring_axes)
        axes |= {
            axis for t in configuration.augmentation.transforms if isinstance(t, MirrorTransform) for axis in t.axes
        }
        if pairs and lateral - (3 - configuration.num_axes) in axes:
            found.append(f"{name} mirrors left and right, although {' and '.join(pairs[0])} differ by their side only")
    return found


def _chosen_preset(options: PlanOptions) -> Preset:
    preset = preset_named(options.preset)
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
    if options.network == preset.network:
        return preset
    reference = PLAIN_REFERENCE if options.network == "plain_unet" else RESIDUAL_M_REFERENCE
    return preset.model_copy(update={"network": options.network, "memory": reference})


def _decide_kinds(fingerprint: Fingerprint) -> list[KindDecision]:
    return [decide_kind(channel, fingerprint.intensities[channel.name]) for channel in fingerprint.dataset.channels]


def _subject(
    fingerprint: Fingerprint, kinds: Sequence[KindDecision], target: TargetGrid, adaptation: Adaptation
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
    lateral = target.transpose.index(LATERAL_AXIS) if mirror_pairs(sided_names(dataset)) else None
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


def _plan_configurations(subject: Subject, preset: Preset, vram_gb: float) -> dict[str, Planned]:
    """Plan volumes unless the images are flat, and planes unless they are so narrow that only volumes are possible."""
    planned = plan_volumes(subject, preset, vram_gb) if min(subject.grid.median_shape) > 1 else {}
    try:
        planned["2d"] = plan_planes(subject, preset, vram_gb)
    except PlanError:
        if not planned:
            raise
    return dict(sorted(planned.items()))


def _planned_dataset(fingerprint: Fingerprint, kinds: Sequence[KindDecision]) -> PlannedDataset:
    dataset = fingerprint.dataset
    channels = [
        channel.model_copy(update={"kind": decision.kind})
        for channel, decision in zip(dataset.channels, kinds, strict=True)
    ]
    fields = {name: getattr(dataset, name) for name in type(dataset).model_fields}
    return PlannedDataset(**(fields | {"channels": tuple(channels), "content_hash": fingerprint.content_hash}))


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
    )


def _folds(fingerprint: Fingerprint, options: PlanOptions) -> Folds:
    groups = {case.case_id: case.group for case in fingerprint.cases}
    if options.folds is None:
        return split_folds(groups)
    if isinstance(options.folds, str):
        return NAMED_SPLITS[options.folds].split(fingerprint.cases)
    return check_folds(options.folds, list(groups))


def _nested_reasons(planned: dict[str, Planned], shared: dict[str, Reason]) -> dict[str, Reason]:
    return {
        f"configurations.{name}.{field}": reason
        for name, found in planned.items()
        for field, reason in (shared | found.reasons).items()
    }
