"""One configuration of nnU-Net v2's plans as a configuration of a plan, with its reasons.

References:
    nnunetv2 2.8.1.
"""

from typing import NamedTuple

from tumorseg.augmentation.patches import AugmentedPatch
from tumorseg.augmentation.presets import augmentation_preset
from tumorseg.errors import PlanError
from tumorseg.losses.presets import deep_supervision_weights, loss_preset
from tumorseg.planning.choices.augmentation import cascade_augmentation
from tumorseg.planning.decided import Decided
from tumorseg.planning.nnunet.networks import read_network
from tumorseg.planning.presets import PRESETS
from tumorseg.schema.augmentation import AugmentationSpec
from tumorseg.schema.base import parse_record
from tumorseg.schema.nnunet import ChannelIntensities, NnunetConfiguration, NnunetPlans
from tumorseg.schema.plan import Configuration, InferenceSpec, Reason, SamplingSpec
from tumorseg.schema.preprocessing import (
    CtNormalization,
    NoNormalization,
    NormalizationSpec,
    ResamplingSpec,
    RescaleNormalization,
    RgbNormalization,
    ZScoreNormalization,
)

PLAIN_SCHEMES: dict[str, NormalizationSpec] = {
    "NoNormalization": NoNormalization(),
    "RescaleTo01Normalization": RescaleNormalization(),
    "RGBTo01Normalization": RgbNormalization(),
}
"""Normalisations without parameters."""
INTENSITIES = "foreground_intensity_properties_per_channel"
"""What plans call the channels' intensities."""
OF_PLANS = (
    "spacing_mm",
    "median_shape",
    "patch_size",
    "batch_size",
    "normalization",
    "resampling",
    "network",
    "previous_configuration",
)
"""Fields that nnU-Net's plans hold."""
OF_TRAINER = ("augmentation", "loss", "optimizer", "schedule", "sampling", "inference")
"""Fields that nnU-Net's plans leave to the trainer."""
TRAINER_REASON = Reason(
    source="import",
    rule="imported from nnU-Net plans, which leave it to the trainer: as nnUNetTrainer does, of which preset "
    "nnunet is the copy",
)


class Outputs(NamedTuple):
    """Facts about the dataset's labels that every configuration depends on."""

    has_regions: bool
    """Whether outputs are regions."""
    has_sides: bool
    """Whether labels differ by their side."""


def plans_reason(plans: NnunetPlans) -> Reason:
    """Return the reason of what plans hold."""
    return Reason(source="import", rule=f"imported from nnU-Net plans {plans.plans_name} of {plans.dataset_name}")


def import_configuration(
    theirs: NnunetConfiguration, plans: NnunetPlans, outputs: Outputs, where: str
) -> Decided[Configuration]:
    """Return a configuration as nnU-Net's own trainer trains it.

    Args:
        theirs: with what it inherits filled in.
        plans: that it is of.
        outputs: what the dataset asks for.
        where: what to call it in an error.

    Raises:
        PlanError: it says something that a plan cannot express.
    """
    num_axes, preset = len(theirs.patch_size), PRESETS["nnunet"]
    network = read_network(theirs.architecture, num_axes, where)
    mirroring = _choose_mirroring(num_axes, has_sides=outputs.has_sides)
    normalization = _normalization(theirs, plans, where)
    fields = {
        "spacing_mm": theirs.spacing,
        "median_shape": tuple(max(1, round(size)) for size in theirs.median_image_size_in_voxels),
        "patch_size": theirs.patch_size,
        "batch_size": theirs.batch_size,
        "normalization": normalization,
        "resampling": _resampling(theirs, where),
        "network": network,
        "augmentation": _augmentation(theirs, mirroring.value.mirroring_axes, normalization, where),
        "loss": loss_preset(
            preset.loss,
            has_regions=outputs.has_regions,
            batch_dice=theirs.batch_dice,
            deep_supervision_weights=deep_supervision_weights(network.num_supervised),
        ),
        "optimizer": preset.optimizer,
        "schedule": preset.schedule,
        "sampling": SamplingSpec(),
        "inference": mirroring.value,
        "previous_configuration": theirs.previous_stage,
    }
    reasons = dict.fromkeys(OF_PLANS, plans_reason(plans)) | dict.fromkeys(OF_TRAINER, TRAINER_REASON)
    configuration = parse_record(Configuration, fields, source=where, error=PlanError)
    return Decided(configuration, reasons | mirroring.reasons)


def _augmentation(
    theirs: NnunetConfiguration, axes: tuple[int, ...], normalization: tuple[NormalizationSpec, ...], where: str
) -> AugmentationSpec:
    """Return nnUNetTrainer's, which treats channels of all kinds alike."""
    fields = {
        "patch_size": theirs.patch_size,
        "mirroring_axes": axes,
        "kinds": ("other",) * len(normalization),
        "normalization": normalization,
    }
    patch = parse_record(AugmentedPatch, fields, source=where, error=PlanError)
    augmentation = augmentation_preset("nnunet", patch)
    return augmentation if theirs.previous_stage is None else cascade_augmentation(augmentation)


def _choose_mirroring(num_axes: int, *, has_sides: bool) -> Decided[InferenceSpec]:
    """Return all axes, or none where labels differ by side: which stored axis runs from left to right, nobody knows."""
    axes = () if has_sides else tuple(range(num_axes))
    rule = "all axes, as nnUNetTrainer does: no label depends on its side"
    if has_sides:
        rule = "none, unlike nnUNetTrainer: labels differ by their side, and stored axes do not tell the sides"
    reason = Reason(source="import", rule=rule)
    return Decided(InferenceSpec(mirroring=bool(axes), mirroring_axes=axes), {"inference.mirroring_axes": reason})


def _normalization(theirs: NnunetConfiguration, plans: NnunetPlans, where: str) -> tuple[NormalizationSpec, ...]:
    schemes, masks = theirs.normalization_schemes, theirs.use_mask_for_norm
    if len(schemes) != len(masks):
        raise PlanError(f"{where}: {len(schemes)} normalization_schemes, but {len(masks)} entries in use_mask_for_norm")
    measured = plans.foreground_intensity_properties_per_channel
    specs = []
    for channel, scheme in enumerate(schemes):
        specs.append(_scheme(scheme, masks[channel], measured.get(channel), where))
    return tuple(specs)


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
