"""nnU-Net v2's plans as a plan: everything that they say, and nnU-Net's own trainer where they say nothing.

nnU-Net takes an image's axes as they are stored unless its reader reorients, so most imported plans are `as_stored`.
What a plan cannot express is refused, never left out.

References:
    nnunetv2 2.8.1.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from tumorseg.errors import PlanError
from tumorseg.planning.decided import Decided
from tumorseg.planning.evidence.images import with_outside_value
from tumorseg.planning.evidence.kinds import kind_from_name
from tumorseg.planning.evidence.laterality import sided_pairs
from tumorseg.planning.folds.fold_choice import kept_reasons, unused_reasons
from tumorseg.planning.folds.split_lists import Division, SplitLists, divide
from tumorseg.planning.nnunet.import_configuration import (
    INTENSITIES,
    TRAINER_REASON,
    Outputs,
    import_configuration,
    plans_reason,
)
from tumorseg.planning.nnunet.networks import modernized
from tumorseg.planning.presets import PRESETS
from tumorseg.schema.base import content_hash, parse_record
from tumorseg.schema.dataset import Channel, DatasetDescription
from tumorseg.schema.fingerprint import IntensityStatistics
from tumorseg.schema.nnunet import READERS, NnunetConfiguration, NnunetPlans
from tumorseg.schema.plan import Budget, Configuration, FingerprintSummary, Plan, Reason, ReasonSource
from tumorseg.schema.planned_dataset import PlannedDataset
from tumorseg.schema.preprocessing import NormalizationSpec
from tumorseg.schema.quantities import GB

PLANNER_GB = {
    "ExperimentPlanner": 8,
    "ResEncUNetPlanner": 8,
    "nnUNetPlannerResEncM": 8,
    "nnUNetPlannerResEncL": 24,
    "nnUNetPlannerResEncXL": 40,
}
"""Memory that nnU-Net's planners aim at, in GB (2^30 bytes)."""
USUAL_GB = 8
"""What nnU-Net's default planner aims at."""
OLD_INTENSITIES = "foreground_intensity_properties_by_modality"
"""What plans of nnU-Net's first versions call the channels' intensities."""


class NnunetSource(NamedTuple):
    """Contents of the files that an import reads."""

    plans: Any
    """JSON of the plans."""
    dataset: DatasetDescription
    """What dataset.json says; label values must be 0, 1, 2, …, as nnU-Net writes an output's number for its label."""
    num_cases: int
    """Training cases."""
    source: str
    """What to call the plans in an error."""


class GivenSplits(NamedTuple):
    """Contents of a split file, and who gave it."""

    lists: SplitLists
    source: ReasonSource
    """`user`, or `import` for a file that lies beside the plans."""


def import_plan(
    found: NnunetSource, name: str, *, configurations: Sequence[str] = (), splits: GivenSplits | None = None
) -> Plan:
    """Return nnU-Net's plans as a plan.

    Args:
        found: the plans and their dataset.
        name: the plan's name, the stem of its file.
        configurations: which to import, besides those that they build on; all if empty.
        splits: what a split file says, if there is one.

    Returns:
        The plan; the memory of its configurations is yet to be counted, and its budget predicts none.

    Raises:
        PlanError: something that a plan cannot express, or a document that nnU-Net would not take either.
    """
    _check_labels(found)
    plans = _parse_plans(found)
    imported = _configurations(plans, configurations, found)
    default = _choose_default(list(imported))
    division, listed = _divided(splits)
    dataset = _planned_dataset(found.dataset, imported[default.value].value, listed)
    folds, budget = _fold_reasons(division, dataset, splits), _choose_budget(plans)
    fields = {
        "name": name,
        "dataset": dataset,
        "orientation": READERS[plans.image_reader_writer],
        "transpose": plans.transpose_forward,
        "cropping": True,
        "fingerprint": _summary(plans, found),
        "budget": budget.value,
        "default_configuration": default.value,
        "configurations": {key: decided.value for key, decided in imported.items()},
        "training": PRESETS["nnunet"].training,
        "folds": division.folds,
        "kept_from_training": division.kept_from_training,
        "reasons": _document_reasons(plans) | folds | budget.reasons | default.reasons | _nested_reasons(imported),
    }
    return parse_record(Plan, fields, source=found.source, error=PlanError)


def _configurations(plans: NnunetPlans, names: Sequence[str], found: NnunetSource) -> dict[str, Decided[Configuration]]:
    outputs = Outputs(bool(found.dataset.regions), bool(sided_pairs(found.dataset)))
    imported = {}
    for name in _wanted(plans, names, found.source):
        where = f"{found.source}: configurations.{name}"
        merged = modernized(_inherited(plans, name, found.source), where)
        theirs = parse_record(NnunetConfiguration, merged, source=where, error=PlanError)
        imported[name] = import_configuration(theirs, plans, outputs, where)
    return imported


def _choose_default(names: Sequence[str]) -> Decided[str]:
    chosen = next((name for name in ("3d_fullres", "2d") if name in names), names[0])
    reason = Reason(source="import", rule="3d_fullres if it is there, else 2d")
    return Decided(chosen, {"default_configuration": reason})


def _choose_budget(plans: NnunetPlans) -> Decided[Budget]:
    """Return the memory that the planner aims at; what the plan needs is not counted yet."""
    planner = plans.experiment_planner_used
    reason = Reason(
        source="import",
        rule=f"what nnU-Net's planner aims at; {USUAL_GB} GB of one that is unknown",
        inputs={"experiment_planner_used": planner},
    )
    return Decided(Budget(vram_bytes=PLANNER_GB.get(planner, USUAL_GB) * GB), {"budget.vram_bytes": reason})


def _divided(splits: GivenSplits | None) -> tuple[Division, tuple[str, ...] | None]:
    """Return the folds, and the cases that a split file lists."""
    # Which other cases the dataset has, nnU-Net's plans do not say: the lists alone can be divided.
    if splits is None:
        return Division(()), None
    listed = splits.lists.listed()
    if listed is None:
        return Division(splits.lists.held_out), None
    return divide(splits.lists, listed), tuple(sorted(listed))


def _fold_reasons(division: Division, dataset: PlannedDataset, splits: GivenSplits | None) -> dict[str, Reason]:
    if splits is None:
        rule = "nnU-Net plans hold none; only --fold all can be trained"
        return {"folds": Reason(source="import", rule=rule)}
    source = splits.source
    if source == "user":
        lists, rule = "--splits", "--splits: the lists of a file"
    else:
        lists = "nnU-Net's splits_final.json beside the plans"
        rule = f"the lists of {lists}"
    folds = {"folds": Reason(source=source, rule=rule)}
    return folds | unused_reasons(dataset, lists, source) | kept_reasons(division, lists, source)


def _check_labels(found: NnunetSource) -> None:
    values = sorted(found.dataset.labels.values())
    if values != list(range(len(values))) or found.dataset.ignore_label not in (None, values[-1]):
        raise PlanError(
            f"{found.source}: dataset.json has label values {values}, ignore {found.dataset.ignore_label}; nnU-Net "
            "needs 0, 1, 2, … without a gap, the ignore label last"
        )


def _parse_plans(found: NnunetSource) -> NnunetPlans:
    # A copy: the hash of the fingerprint is that of the plans as they were given.
    document = dict(found.plans) if isinstance(found.plans, dict) else found.plans
    if isinstance(document, dict) and INTENSITIES not in document and OLD_INTENSITIES in document:
        document[INTENSITIES] = document[OLD_INTENSITIES]
    plans = parse_record(NnunetPlans, document, source=found.source, error=PlanError)
    forward, backward = plans.transpose_forward, plans.transpose_backward
    if sorted(forward) != [0, 1, 2] or backward != tuple(np.argsort(forward).tolist()):
        raise PlanError(f"{found.source}: transpose_backward {list(backward)} does not undo {list(forward)}")
    return plans


def _wanted(plans: NnunetPlans, names: Sequence[str], source: str) -> list[str]:
    """Return the names of configurations to import, those that a cascade builds on included."""
    wanted = list(names) or list(plans.configurations)
    for name in wanted:  # grows while it is walked through
        previous = _inherited(plans, name, source).get("previous_stage")
        if previous is not None and previous not in wanted:
            wanted.append(previous)
    return wanted


def _inherited(plans: NnunetPlans, name: str, source: str, children: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return a configuration with what it inherits filled in."""
    if name in children:
        raise PlanError(f"{source}: configurations inherit from each other: {', '.join(children)}")
    if not isinstance(name, str) or name not in plans.configurations:
        raise PlanError(f"{source}: there is no configuration {name!r}; it has {', '.join(plans.configurations)}")
    own = plans.configurations[name]
    parent = own.get("inherits_from")
    return own if parent is None else _inherited(plans, parent, source, (*children, name)) | own


def _planned_dataset(
    dataset: DatasetDescription, configuration: Configuration, listed: tuple[str, ...] | None
) -> PlannedDataset:
    """Return the dataset with the kinds that normalisations and names of channels show."""
    channels = dataset.channels
    # Where their numbers differ, the plan's own check refuses them.
    if len(channels) == len(configuration.normalization):
        channels = tuple(map(with_outside_value, map(_with_kind, channels, configuration.normalization)))
    fields = {name: getattr(dataset, name) for name in DatasetDescription.model_fields}
    return PlannedDataset(**(fields | {"channels": channels}), listed=listed)


def _with_kind(channel: Channel, normalization: NormalizationSpec) -> Channel:
    shown = {"ct": "ct", "rgb_to_0_1": "rgb"}.get(normalization.name)
    return channel.changed(kind=shown or kind_from_name(channel.name) or "other")


def _summary(plans: NnunetPlans, found: NnunetSource) -> FingerprintSummary:
    """Return what the plans say of the images, in the axis order before the transpose."""
    back = plans.transpose_backward
    spacing_mm = tuple(plans.original_median_spacing_after_transp[axis] for axis in back)
    shape = tuple(plans.original_median_shape_after_transp[axis] for axis in back)
    intensities = {}
    for number, channel in enumerate(found.dataset.channels):
        measured = plans.foreground_intensity_properties_per_channel.get(number)
        if measured is not None:
            source = f"{found.source}: {INTENSITIES}.{number}"
            read = parse_record(IntensityStatistics, measured.model_dump(), source=source, error=PlanError)
            intensities[channel.name] = read
    fields = {
        "hash": content_hash(found.plans),
        "num_cases": found.num_cases,
        "median_spacing_mm": spacing_mm,
        "median_shape_after_crop": shape,
        "median_relative_size_after_cropping": 1.0,
        "intensities": intensities,
    }
    return parse_record(FingerprintSummary, fields, source=found.source, error=PlanError)


def _document_reasons(plans: NnunetPlans) -> dict[str, Reason]:
    """Return the reasons of what the plans say as a whole."""
    orientation = Reason(
        source="import",
        rule="imported from nnU-Net plans: what their image reader does",
        inputs={"image_reader_writer": plans.image_reader_writer},
    )
    cropping = Reason(
        source="import",
        rule="the box of what is not 0 in some channel, as nnU-Net always crops, whatever it takes of labels",
    )
    unknown = Reason(source="import", rule="not in nnU-Net plans; 1 stands for unknown")
    return {
        "orientation": orientation,
        "transpose": plans_reason(plans),
        "cropping": cropping,
        "fingerprint.median_relative_size_after_cropping": unknown,
        "training": TRAINER_REASON,
    }


def _nested_reasons(imported: dict[str, Decided[Configuration]]) -> dict[str, Reason]:
    reasons: dict[str, Reason] = {}
    for name, decided in imported.items():
        reasons |= {f"configurations.{name}.{field}": reason for field, reason in decided.reasons.items()}
    return reasons
