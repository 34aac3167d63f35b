"""A plan as nnU-Net v2's plans, where they can express it.

They hold preprocessing and networks. Loss, optimizer, augmentation and length of training are those of the trainer that
nnU-Net is run with, and are left to it.

References:
    nnunetv2 2.8.1.
"""

from itertools import chain
from typing import Any

import numpy as np

from tumorseg.errors import PlanError
from tumorseg.planning.nnunet.networks import write_network
from tumorseg.schema.dataset import DatasetDescription, Region
from tumorseg.schema.fingerprint import IntensityStatistics
from tumorseg.schema.losses import OverlapLoss
from tumorseg.schema.nnunet import RESAMPLING_FUNCTION
from tumorseg.schema.plan import Configuration, Plan
from tumorseg.schema.preprocessing import CtNormalization, ResamplingSpec, ZScoreNormalization

PLANS_NAME = "nnUNetPlans"
"""nnU-Net's default: the stem of the file."""
WRITERS = {"RAS": "NibabelIOWithReorient", "as_stored": "SimpleITKIO"}
"""The reader of nnU-Net that orients images as a plan says."""
SCHEMES = {
    "ct": "CTNormalization",
    "zscore": "ZScoreNormalization",
    "rescale_to_0_1": "RescaleTo01Normalization",
    "rgb_to_0_1": "RGBTo01Normalization",
    "none": "NoNormalization",
}
DEFAULT_RATIO = 3.0
"""nnU-Net's `ANISO_THRESHOLD`."""


def export_plan(plan: Plan, dataset_name: str) -> dict[str, Any]:
    """Return nnU-Net's plans for a plan.

    Args:
        plan: what to express.
        dataset_name: what nnU-Net calls the dataset, `DatasetNNN_Name`.

    Raises:
        PlanError: nnU-Net's plans cannot express it.
    """
    if not plan.cropping:
        raise PlanError(
            f"plan {plan.name} does not crop images, as that would take labels along; nnU-Net always crops, and cannot "
            "express it"
        )
    _check_regions(plan.dataset)
    measured = plan.fingerprint
    spacing_mm = [measured.median_spacing_mm[axis] for axis in plan.transpose]
    shape = [round(measured.median_shape_after_crop[axis]) for axis in plan.transpose]
    intensities = {}
    for number in range(len(plan.dataset.channels)):
        # A string, as keys of JSON are.
        intensities[str(number)] = _intensities(plan, number)
    return {
        "dataset_name": dataset_name,
        "plans_name": PLANS_NAME,
        "original_median_spacing_after_transp": spacing_mm,
        "original_median_shape_after_transp": shape,
        "image_reader_writer": WRITERS[plan.orientation],
        "transpose_forward": list(plan.transpose),
        # The order that sorts the axes is the one that undoes the transpose.
        "transpose_backward": np.argsort(plan.transpose).tolist(),
        "configurations": {name: _configuration(plan, name) for name in plan.configurations},
        "experiment_planner_used": "ExperimentPlanner",
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": intensities,
    }


def export_splits(plan: Plan) -> list[dict[str, list[str]]]:
    """Return the JSON of nnU-Net's `splits_final.json`.

    It is empty where a plan has no folds, or does not name every case that it uses.

    Args:
        plan: with the cases that each fold holds out and keeps from training.
    """
    used = set(plan.dataset.listed or chain.from_iterable(plan.folds))
    # Folds that hold out only some cases do not tell what the others are called.
    if plan.dataset.listed is None and len(used) < plan.fingerprint.num_cases:
        return []
    splits = []
    for number, held_out in enumerate(plan.folds):
        splits.append({"train": sorted(used - plan.not_trained_on(number)), "val": list(held_out)})
    return splits


def _check_regions(dataset: DatasetDescription) -> None:
    """Refuse regions of which nnU-Net would make other outputs."""
    if not dataset.regions:
        return
    # Background and ignored voxels get no output of nnU-Net's either.
    inside = {0, dataset.ignore_label, *chain.from_iterable(region.labels for region in dataset.regions)}
    outside = [name for name, value in dataset.labels.items() if value not in inside]
    if outside:
        raise PlanError(
            f"{dataset.name}: labels {', '.join(outside)} belong to no region; nnU-Net would give each an output of "
            "its own, so that the network would be another one; add regions for them, or plan without regions"
        )
    if not any(_is_union(region) for region in dataset.regions):
        raise PlanError(
            f"{dataset.name}: every region is one label, which nnU-Net predicts with a softmax; plan without regions"
        )


def _is_union(region: Region) -> bool:
    return len(set(region.labels)) > 1


def _configuration(plan: Plan, name: str) -> dict[str, Any]:
    """Return one configuration; a cascade's second stage inherits from the configuration that it otherwise is."""
    configuration = plan.configurations[name]
    next_stages = [other for other, found in plan.configurations.items() if found.previous_configuration == name]
    following: dict[str, Any] = {}
    if next_stages:
        # nnU-Net takes both forms, and writes the name alone.
        following["next_stage"] = next_stages if len(next_stages) > 1 else next_stages[0]
    if configuration.previous_configuration is None:
        return _alone(name, configuration) | following
    parents = [other for other, found in plan.configurations.items() if _is_stage_of(configuration, found)]
    stage = {"previous_stage": configuration.previous_configuration}
    return {"inherits_from": parents[0]} | stage if parents else _alone(name, configuration) | stage


def _is_stage_of(cascade: Configuration, parent: Configuration) -> bool:
    """Return whether a cascade is another configuration but for its input and the transforms of that."""
    # Not `changed`, which would check a mixture that nobody trains.
    return parent == cascade.model_copy(update={"previous_configuration": None, "augmentation": parent.augmentation})


def _alone(name: str, configuration: Configuration) -> dict[str, Any]:
    resampling, normalization = configuration.resampling, configuration.normalization
    overlaps = [component for component in configuration.loss.components if isinstance(component, OverlapLoss)]
    schemes = [SCHEMES[spec.name] for spec in normalization]
    masked = [isinstance(spec, ZScoreNormalization) and spec.masked for spec in normalization]
    return {
        "data_identifier": f"{PLANS_NAME}_{name}",
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": configuration.batch_size,
        "patch_size": list(configuration.patch_size),
        "median_image_size_in_voxels": list(configuration.median_shape),
        "spacing": list(configuration.spacing_mm),
        "normalization_schemes": schemes,
        "use_mask_for_norm": masked,
        "resampling_fn_data": RESAMPLING_FUNCTION,
        "resampling_fn_seg": RESAMPLING_FUNCTION,
        "resampling_fn_data_kwargs": _resampling(resampling, resampling.image_order),
        "resampling_fn_seg_kwargs": _resampling(resampling, resampling.label_order, is_seg=True),
        "resampling_fn_probabilities": RESAMPLING_FUNCTION,
        "resampling_fn_probabilities_kwargs": _resampling(resampling, resampling.logit_order),
        "architecture": write_network(configuration.network, f"configurations.{name}"),
        "batch_dice": any(component.batch for component in overlaps),
    }


def _resampling(spec: ResamplingSpec, order: int, *, is_seg: bool = False) -> dict[str, Any]:
    arguments: dict[str, Any] = {
        "is_seg": is_seg,
        "order": order,
        "order_z": spec.separate_axis_order,
        "force_separate_z": None,
    }
    # Named only where it differs, as nnU-Net's own plans do not have the key.
    if spec.separate_axis_ratio != DEFAULT_RATIO:
        arguments["separate_z_anisotropy_threshold"] = spec.separate_axis_ratio
    return arguments


def _intensities(plan: Plan, number: int) -> dict[str, float]:
    """Return a channel's foreground intensities; where it is CT, those that its normalisation uses."""
    found = set()
    for configuration in plan.configurations.values():
        spec = configuration.normalization[number]
        if isinstance(spec, CtNormalization):
            found.add(spec)
    name = plan.dataset.channels[number].name
    if len(found) > 1:
        raise PlanError(
            f"channel {name} is normalised in two ways by two configurations; nnU-Net's plans hold one for all"
        )
    # nnU-Net wants an entry for each channel, of which only CT's is used.
    measured = plan.fingerprint.intensities.get(name) or IntensityStatistics(
        mean=0, median=0, std=1, min=0, max=0, percentile_00_5=0, percentile_99_5=0
    )
    values: dict[str, float] = measured.model_dump()
    for spec in found:
        values |= {"mean": spec.mean_hu, "std": spec.std_hu}
        values |= {"percentile_00_5": spec.lower_hu, "percentile_99_5": spec.upper_hu}
    return values
