"""Why each value of a plan is what it is, written down beside it."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from pydantic import JsonValue

from tumorseg.planning.choices.adaptation import Adaptation, extended
from tumorseg.planning.evidence.kinds import CROPPED_SHARE, NNUNET_SCHEMES, KindDecision
from tumorseg.planning.evidence.laterality import mirror_pairs
from tumorseg.planning.evidence.spacing import TargetGrid
from tumorseg.planning.memory.counting import CONTEXT_BYTES, MARGIN
from tumorseg.planning.presets import Preset
from tumorseg.schema.dataset import DatasetDescription
from tumorseg.schema.fingerprint import Fingerprint
from tumorseg.schema.plan import Reason
from tumorseg.schema.planned_dataset import MirroredLabels, PlannedDataset

ISOTROPIC = 2.0
"""Up to this ratio of spacings all axes are treated alike, as in nnU-Net's pooling."""

NORMALIZED_OTHERWISE = {
    "ct": "a z-score of each image: loses what Hounsfield units mean, but takes images of other units",
    "rgb": "a z-score of each image: takes away what differs in brightness, and with it what that may mean",
}
"""Next-best normalisation by kind of channel."""


class Evidence(NamedTuple):
    """What decisions on the whole plan were made from."""

    fingerprint: Fingerprint
    kinds: Sequence[KindDecision]
    """One per channel."""
    target: TargetGrid
    preset: Preset
    adaptation: Adaptation
    given: frozenset[str]
    """Which of `vram_gb`, `max_hours` and `device` the user gave."""
    mirrored: Sequence[MirroredLabels] = ()
    """Labels that mirror each other in the images."""


def sided_names(dataset: DatasetDescription) -> list[str]:
    """Return the names that may tell left from right: those of labels and regions."""
    return [*dataset.labels, *(region.name for region in dataset.regions)]


def has_sides(dataset: PlannedDataset, preset: Preset) -> bool:
    """Tell whether left and right must not be mirrored: labels differ by side in name, or in the images where the preset heeds these."""
    return bool(mirror_pairs(sided_names(dataset)) or (dataset.mirrored_labels and not preset.as_published))


def plan_reasons(evidence: Evidence) -> dict[str, Reason]:
    """Return the reasons of fields that all configurations share, by dotted field."""
    preset, target = evidence.preset, evidence.target
    return {
        "orientation": Reason(
            rule="one orientation for all images, so that none is learnt or predicted turned",
            alternative="as_stored, of plans imported from nnU-Net: images stored another way round are segmented turned",
        ),
        "transpose": Reason(
            rule="coarse (or flat) axis first",
            inputs={"target_spacing_mm": list(target.spacing_mm)},
            alternative="another axis first: the planes of 2d would lie across the coarsest axis, where there is one",
        ),
        "budget.vram_bytes": Reason(
            rule="--vram" if "vram_gb" in evidence.given else f"preset {preset.name}: {preset.purpose}",
            alternative="--vram with more, where the GPU has it: larger patches, then larger batches, and longer steps",
        ),
        "budget.predicted_bytes": Reason(
            rule="allocations of a training step and of inference, followed on the networks themselves, for the configuration "
            f"that needs most; {MARGIN:.0%} for unused blocks and {CONTEXT_BYTES >> 20} MiB for CUDA's context on top",
            inputs={"margin": MARGIN, "context_bytes": CONTEXT_BYTES},
        ),
        "default_configuration": Reason(
            rule="3d_fullres where images have depth, else 2d",
            inputs={"median_shape": list(target.median_shape)},
            alternative="2d, where the plan has it: blind to the neighbouring planes"
            if min(target.median_shape) > 1
            else "none: images have no depth",
        ),
        "training": _training_reason(evidence),
    }


def _training_reason(evidence: Evidence) -> Reason:
    others = f"precision and clipping of preset {evidence.preset.name}"
    if evidence.preset.training.max_hours is not None:
        told = "--max-hours" if "max_hours" in evidence.given else f"max_hours of preset {evidence.preset.name}"
        alternative = "more hours: longer until the learning rate has fallen, a little more accurate"
        return Reason(rule=f"{told} decides the length; {others}", alternative=alternative)
    return extended(evidence.adaptation.reasons["training"], others)


def shared_reasons(evidence: Evidence) -> dict[str, Reason]:
    """Return the reasons that every configuration repeats, by dotted field within it."""
    target = evidence.target
    reasons = {
        "spacing_mm": _spacing_reason(target),
        "median_shape": Reason(
            rule="median over cases of the voxels left by cropping, on the target spacing",
            inputs={"median_shape": list(target.in_plan_order().median_shape)},
        ),
        "resampling": Reason(
            rule="cubic images, linear labels and logits; an axis over 3 times coarser than the finest is not mixed with the others",
            alternative="linear images (resampling.image_order=1): quicker to preprocess, blurred",
        ),
        "sampling": evidence.adaptation.reasons["sampling"],
        "inference": Reason(
            rule="nnU-Net's half-tile overlap and Gaussian weights of an eighth of the tile",
            alternative="an overlap of 0.25: a third fewer tiles along each axis, whose edges may show",
        ),
        "inference.mirroring_axes": _mirroring_reason(evidence),
    }
    return reasons | _normalization_reasons(evidence)


def _spacing_reason(target: TargetGrid) -> Reason:
    spacing = target.in_plan_order().spacing_mm
    ratio = max(spacing) / min(spacing)
    growth = math.prod(edge / min(spacing) for edge in spacing)
    return Reason(
        rule=target.rule,
        inputs={"target_spacing_mm": list(spacing), "spacing_ratio": ratio},
        alternative=f"the finest spacing on every axis: {growth:.1f} times the voxels, most of them interpolated"
        if ratio > ISOTROPIC
        else "twice as coarse a grid: an eighth of the voxels (of planes a quarter), in which small structures are lost",
    )


def _normalization_reasons(evidence: Evidence) -> dict[str, Reason]:
    measured = evidence.fingerprint
    relative = measured.median_relative_size_after_cropping
    where = "over the whole image" if relative < CROPPED_SHARE else "within the non-zero mask"
    unmasked = f"a z-score {where}: another share of background in mean and deviation"
    reasons = {}
    for number, (channel, decision) in enumerate(zip(measured.dataset.channels, evidence.kinds, strict=True)):
        reasons[f"normalization.{number}"] = Reason(
            rule=_normalization_rule(channel.name, decision, relative),
            inputs={
                "channel": channel.name,
                "disagreement": decision.warning,
                "median_relative_size_after_cropping": relative,
                **measured.intensities[channel.name].model_dump(),
            },
            alternative="a z-score of each image, as of a channel of another name"
            if channel.name.casefold() in NNUNET_SCHEMES
            else NORMALIZED_OTHERWISE.get(decision.kind, unmasked),
        )
    return reasons


def _normalization_rule(channel: str, decision: KindDecision, relative: float) -> str:
    if channel.casefold() in NNUNET_SCHEMES:
        return f"the channel is called {channel}, which nnU-Net reads as this normalisation"
    how = {"ct": "clipped to percentiles of the dataset's foreground, z-score with its mean", "rgb": "divided by 255"}
    masked = f"inside the non-zero mask, as cropping left {relative:.2f} of a median case, under {CROPPED_SHARE:g}"
    whole = f"over the whole image, as cropping left {relative:.2f} of a median case, not under {CROPPED_SHARE:g}"
    zscore = f"z-score of each image {masked if relative < CROPPED_SHARE else whole}"
    return f"kind {decision.kind} ({decision.rule}): {how.get(decision.kind, zscore)}"


def _mirroring_reason(evidence: Evidence) -> Reason:
    preset = evidence.preset
    pairs = mirror_pairs(sided_names(evidence.fingerprint.dataset))
    inputs: dict[str, JsonValue] = {"pairs": [list(pair) for pair in pairs]}
    if evidence.mirrored:
        inputs["mirrored_in_images"] = [found.model_dump(mode="json") for found in evidence.mirrored]
    return Reason(
        rule=_mirroring_rule(evidence, has_pairs=bool(pairs)),
        inputs=inputs,
        alternative="fewer (none with --no-mirroring): each axis left out halves the time of prediction, at some accuracy"
        if preset.mirroring
        else "some: each axis doubles the time of prediction, and pays only in trainings of full length",
    )


def _mirroring_rule(evidence: Evidence, *, has_pairs: bool) -> str:
    preset = evidence.preset
    if not preset.mirroring:
        return f"none: trainings of preset {preset.name} are too short to learn what mirrored anatomy looks like"
    if has_pairs:
        return "not across left and right, which labels tell apart"
    if not evidence.mirrored:
        return "all axes: no label depends on its side"
    found = evidence.mirrored[0]
    told = f"{found.left} and {found.right} mirror each other in {found.num_mirrored} of {found.num_cases} cases"
    if preset.as_published:
        return f"all axes, as of preset {preset.name}, although {told}"
    return f"not across left and right, which labels tell apart in the images: {told}, on sides of their own"
