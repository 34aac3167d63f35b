"""nnU-Net v2's plans as a plan: everything that they say, and nnU-Net's own trainer where they say nothing.

nnU-Net takes an image's axes as they are stored unless its reader reorients, so most imported plans are `as_stored`. What a plan
cannot express is refused, never left out.

References:
    nnunetv2 2.8.1.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from tumorseg.errors import PlanError
from tumorseg.losses.presets import deep_supervision_weights, loss_preset
from tumorseg.planning.choices.augmentation import choose_augmentation
from tumorseg.planning.choices.reasons import sided_names
from tumorseg.planning.evidence.images import with_outside_value
from tumorseg.planning.evidence.kinds import kind_from_name
from tumorseg.planning.evidence.laterality import mirror_pairs
from tumorseg.planning.folds.fold_choice import usage_reasons
from tumorseg.planning.folds.split_lists import Division, SplitLists, divide
from tumorseg.planning.memory.counting import GB
from tumorseg.planning.nnunet.networks import modernized, read_network
from tumorseg.planning.presets import PRESETS
from tumorseg.schema.base import content_hash, parse_record
from tumorseg.schema.dataset import Channel, DatasetDescription
from tumorseg.schema.fingerprint import IntensityStatistics
from tumorseg.schema.nnunet import READERS, ChannelIntensities, NnunetConfiguration, NnunetPlans
from tumorseg.schema.plan import (
    Budget,
    Configuration,
    FingerprintSummary,
    InferenceSpec,
    Plan,
    Reason,
    SamplingSpec,
)
from tumorseg.schema.planned_dataset import PlannedDataset
from tumorseg.schema.preprocessing import (
    CtNormalization,
    NoNormalization,
    NormalizationSpec,
    ResamplingSpec,
    RescaleNormalization,
    RgbNormalization,
    ZScoreNormalization,
)

PLANNER_GB = {
    "ExperimentPlanner": 8,
    "ResEncUNetPlanner": 8,
    "nnUNetPlannerResEncM": 8,
    "nnUNetPlannerResEncL": 24,
    "nnUNetPlannerResEncXL": 40,
}
"""Memory that nnU-Net's planners aim at, in GB (2^30 bytes)."""
PLAIN_SCHEMES: dict[str, NormalizationSpec] = {
    "NoNormalization": NoNormalization(),
    "RescaleTo01Normalization": RescaleNormalization(),
    "RGBTo01Normalization": RgbNormalization(),
}
"""Normalisations without parameters."""
USUAL_GB = 8
"""What nnU-Net's default planner aims at."""
OLD_INTENSITIES, INTENSITIES = (
    "foreground_intensity_properties_by_modality",
    "foreground_intensity_properties_per_channel",
)
"""What plans call the channels' intensities, in nnU-Net's first versions and now."""


class NnunetSource(NamedTuple):
    """What an import reads."""

    plans: Any
    """JSON of the plans."""
    dataset: DatasetDescription
    """What dataset.json says; the label values must be 0, 1, 2, …, as nnU-Net writes an output's number for its label."""
    num_cases: int
    """Training cases."""
    source: str
    """What to call the plans in an error."""


def import_plan(
    found: NnunetSource, name: str, *, configurations: Sequence[str] = (), splits: SplitLists | None = None
) -> Plan:
    """Return nnU-Net's plans as a plan.

    Args:
        found: the plans and their dataset.
        name: the plan's name, the stem of its file.
        configurations: which to import, besides those that they build on; all if empty.
        splits: what a split file says, if there is one.

    Returns:
        The plan; the memory of its configurations is yet to be counted.

    Raises:
        PlanError: something that a plan cannot express, or a document that nnU-Net would not take either.
    """
    _check_labels(found)
    plans = _parse_plans(found)
    wanted = _wanted(plans, configurations, found.source)
    imported = {key: _configuration(plans, key, found) for key in wanted}
    division, listed = _divided(splits)
    default = next((key for key in ("3d_fullres", "2d") if key in imported), wanted[0])
    vram_gb = PLANNER_GB.get(plans.experiment_planner_used, USUAL_GB)
    dataset = _planned_dataset(found.dataset, imported[default], listed)
    fields = {
        "name": name,
        "dataset": dataset,
        "orientation": READERS[plans.image_reader_writer],
        "transpose": plans.transpose_forward,
        "cropping": True,
        "fingerprint": _summary(plans, found),
        "budget": Budget(vram_bytes=vram_gb * GB, predicted_bytes=1),
        "default_configuration": default,
        "configurations": imported,
        "training": PRESETS["nnunet"].training,
        "folds": division.folds,
        "kept_from_training": division.kept_from_training,
        "reasons": _reasons(plans, imported, has_folds=splits is not None) | usage_reasons(dataset, division),
    }
    return parse_record(Plan, fields, source=found.source, error=PlanError)


def _divided(splits: SplitLists | None) -> tuple[Division, tuple[str, ...] | None]:
    """Return the folds, and the cases that a split file lists; which others the dataset has, nnU-Net's plans do not say."""
    if splits is None or (listed := splits.listed()) is None:
        return Division(() if splits is None else splits.held_out), None
    return divide(splits, listed), tuple(sorted(listed))


def _check_labels(found: NnunetSource) -> None:
    values = sorted(found.dataset.labels.values())
    if values != list(range(len(values))) or found.dataset.ignore_label not in (None, values[-1]):
        raise PlanError(
            f"{found.source}: dataset.json has label values {values}, ignore {found.dataset.ignore_label}; nnU-Net needs "
            "0, 1, 2, … without a gap, the ignore label last"
        )


def _parse_plans(found: NnunetSource) -> NnunetPlans:
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


def _configuration(plans: NnunetPlans, name: str, found: NnunetSource) -> Configuration:
    where = f"{found.source}: configurations.{name}"
    merged = modernized(_inherited(plans, name, found.source), where)
    theirs = parse_record(NnunetConfiguration, merged, source=where, error=PlanError)
    num_axes, dataset = len(theirs.patch_size), found.dataset
    network = read_network(theirs.architecture, num_axes, where)
    axes = () if mirror_pairs(sided_names(dataset)) else tuple(range(num_axes))
    weights = deep_supervision_weights(network.num_stages - 1)
    has_regions, preset = bool(dataset.regions), PRESETS["nnunet"]
    fields = {
        "spacing_mm": theirs.spacing,
        "median_shape": tuple(max(1, round(size)) for size in theirs.median_image_size_in_voxels),
        "patch_size": theirs.patch_size,
        "batch_size": theirs.batch_size,
        "normalization": _normalization(theirs, plans, where),
        "resampling": _resampling(theirs, where),
        "network": network,
        "augmentation": choose_augmentation(theirs.patch_size, axes),
        "loss": loss_preset(
            preset.loss, has_regions=has_regions, batch_dice=theirs.batch_dice, deep_supervision_weights=weights
        ),
        "optimizer": preset.optimizer,
        "schedule": preset.schedule,
        "sampling": SamplingSpec(),
        "inference": InferenceSpec(mirroring=bool(axes), mirroring_axes=axes),
        "previous_configuration": theirs.previous_stage,
    }
    return parse_record(Configuration, fields, source=where, error=PlanError)


def _normalization(theirs: NnunetConfiguration, plans: NnunetPlans, where: str) -> tuple[NormalizationSpec, ...]:
    schemes, masks = theirs.normalization_schemes, theirs.use_mask_for_norm
    if len(schemes) != len(masks):
        raise PlanError(f"{where}: {len(schemes)} normalization_schemes, but {len(masks)} entries in use_mask_for_norm")
    measured = plans.foreground_intensity_properties_per_channel
    return tuple(
        _scheme(scheme, masked, measured.get(channel), where)
        for channel, (scheme, masked) in enumerate(zip(schemes, masks, strict=True))
    )


def _scheme(scheme: str, masked: bool, measured: ChannelIntensities | None, where: str) -> NormalizationSpec:
    if scheme in PLAIN_SCHEMES:
        return PLAIN_SCHEMES[scheme]
    if scheme == "ZScoreNormalization":
        return ZScoreNormalization(masked=masked)
    if scheme != "CTNormalization":
        known = ", ".join(["CTNormalization", "ZScoreNormalization", *PLAIN_SCHEMES])
        raise PlanError(f"{where}: normalisation {scheme} cannot be imported; known are {known}")
    if measured is None:
        raise PlanError(f"{where}: {INTENSITIES} lacks a channel of CTNormalization")
    fields = {
        "lower_hu": measured.percentile_00_5,
        "upper_hu": measured.percentile_99_5,
        "mean_hu": measured.mean,
        "std_hu": measured.std,
    }
    return parse_record(CtNormalization, fields, source=where, error=PlanError)


def _resampling(theirs: NnunetConfiguration, where: str) -> ResamplingSpec:
    image, label = theirs.resampling_fn_data_kwargs, theirs.resampling_fn_seg_kwargs
    logits = theirs.resampling_fn_probabilities_kwargs
    shared = {(found.order_z, found.separate_z_anisotropy_threshold) for found in (image, label, logits)}
    if len(shared) > 1:
        raise PlanError(f"{where}: order_z or the threshold of anisotropy differs between images, labels and logits")
    ((order_z, threshold),) = shared
    fields = {
        "image_order": image.order,
        "label_order": label.order,
        "logit_order": logits.order,
        "separate_axis_order": order_z,
        "separate_axis_ratio": threshold,
    }
    return parse_record(ResamplingSpec, fields, source=f"{where}.resampling", error=PlanError)


def _planned_dataset(
    dataset: DatasetDescription, configuration: Configuration, listed: tuple[str, ...] | None
) -> PlannedDataset:
    """Return the dataset with the kinds that normalisations and names of channels tell."""
    channels = dataset.channels
    if len(channels) == len(configuration.normalization):  # else the plan's own check tells
        channels = tuple(map(with_outside_value, map(_with_kind, channels, configuration.normalization)))
    fields = {name: getattr(dataset, name) for name in DatasetDescription.model_fields}
    return PlannedDataset(**(fields | {"channels": channels}), listed=listed)


def _with_kind(channel: Channel, normalization: NormalizationSpec) -> Channel:
    told = {"ct": "ct", "rgb_to_0_1": "rgb"}.get(normalization.name)
    return channel.model_copy(update={"kind": told or kind_from_name(channel.name) or "other"})


def _summary(plans: NnunetPlans, found: NnunetSource) -> FingerprintSummary:
    """Return what the plans tell of the images, in the axis order before the transpose."""
    back = plans.transpose_backward
    spacing, shape = plans.original_median_spacing_after_transp, plans.original_median_shape_after_transp
    intensities = {
        channel.name: parse_record(
            IntensityStatistics,
            measured.model_dump(),
            source=f"{found.source}: {INTENSITIES}.{number}",
            error=PlanError,
        )
        for number, channel in enumerate(found.dataset.channels)
        if (measured := plans.foreground_intensity_properties_per_channel.get(number)) is not None
    }
    fields = {
        "hash": content_hash(found.plans),
        "num_cases": found.num_cases,
        "median_spacing_mm": tuple(spacing[axis] for axis in back),
        "median_shape_after_crop": tuple(shape[axis] for axis in back),
        "median_relative_size_after_cropping": 1.0,
        "intensities": intensities,
    }
    return parse_record(FingerprintSummary, fields, source=found.source, error=PlanError)


def _reasons(plans: NnunetPlans, imported: dict[str, Configuration], *, has_folds: bool) -> dict[str, Reason]:
    said = Reason(rule=f"imported from nnU-Net plans {plans.plans_name} of {plans.dataset_name}")
    trainer = Reason(
        rule="imported from nnU-Net plans, which leave it to the trainer: as nnUNetTrainer does, of which preset nnunet is the copy"
    )
    own = ("spacing_mm", "median_shape", "patch_size", "batch_size", "normalization", "resampling", "network")
    trained = ("augmentation", "loss", "optimizer", "schedule", "sampling", "inference")
    sided = Reason(
        rule="all axes, as nnUNetTrainer does; none where labels differ by their side, for stored axes do not tell the sides"
    )
    reasons = {
        "orientation": Reason(
            rule="imported from nnU-Net plans: what their image reader does",
            inputs={"image_reader_writer": plans.image_reader_writer},
        ),
        "transpose": said,
        "cropping": Reason(
            rule="the box of what is not 0 in some channel, as nnU-Net always crops, whatever it takes of labels"
        ),
        "fingerprint.median_relative_size_after_cropping": Reason(rule="not in nnU-Net plans; 1 stands for unknown"),
        "budget.vram_bytes": Reason(
            rule=f"what nnU-Net's planner aims at; {USUAL_GB} GB of one that is unknown",
            inputs={"experiment_planner_used": plans.experiment_planner_used},
        ),
        "budget.predicted_bytes": Reason(
            rule="allocations of a training step and of inference, followed on the networks themselves"
        ),
        "default_configuration": Reason(rule="3d_fullres if it is there, else 2d"),
        "training": trainer,
        "folds": Reason(rule="of --splits" if has_folds else "nnU-Net plans hold none; only --fold all can be trained"),
    }
    for name in imported:
        prefix = f"configurations.{name}."
        reasons |= {prefix + field: said for field in own} | {prefix + field: trainer for field in trained}
        reasons |= {prefix + "inference.mirroring_axes": sided, prefix + "previous_configuration": said}
    return reasons
