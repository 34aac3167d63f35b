"""Why each value of a plan is what it is, written down beside it."""

from collections.abc import Sequence
from typing import NamedTuple

from tumorseg.planning.counting import CONTEXT_BYTES, MARGIN
from tumorseg.planning.kinds import CROPPED_SHARE, NNUNET_SCHEMES, KindDecision
from tumorseg.planning.laterality import mirror_pairs
from tumorseg.planning.presets import Preset
from tumorseg.planning.spacing import TargetGrid
from tumorseg.planning.splits import NAMED_SPLITS
from tumorseg.schema.dataset import DatasetDescription
from tumorseg.schema.fingerprint import Fingerprint
from tumorseg.schema.plan import Reason


class Evidence(NamedTuple):
    """What decisions on the whole plan were made from."""

    fingerprint: Fingerprint
    kinds: Sequence[KindDecision]
    """One per channel."""
    target: TargetGrid
    preset: Preset
    given: frozenset[str]
    """Which of `vram_gb`, `max_hours` and `folds` the user gave."""
    split: str | None = None
    """Which of `NAMED_SPLITS` the user chose."""


def sided_names(dataset: DatasetDescription) -> list[str]:
    """Return the names that may tell left from right: those of labels and regions."""
    return [*dataset.labels, *(region.name for region in dataset.regions)]


def plan_reasons(evidence: Evidence) -> dict[str, Reason]:
    """Return the reasons of fields that all configurations share, by dotted field."""
    preset, target = evidence.preset, evidence.target
    num_cases = len(evidence.fingerprint.cases)
    has_groups = any(case.group for case in evidence.fingerprint.cases)
    own = "nnU-Net's five folds (shuffled with seed 12345), fewer for fewer cases"
    own += ", of whole groups" if has_groups else ""
    stated = f"--splits {evidence.split}: {NAMED_SPLITS[evidence.split].rule}" if evidence.split else "of --splits"
    folds = stated if "folds" in evidence.given else own
    length = "--max-hours decides the length" if "max_hours" in evidence.given else "length"
    return {
        "orientation": Reason(rule="one orientation for all images, so that none is learnt or predicted turned"),
        "transpose": Reason(rule="coarse (or flat) axis first", inputs={"target_spacing_mm": list(target.spacing_mm)}),
        "budget.vram_bytes": Reason(
            rule="--vram" if "vram_gb" in evidence.given else f"preset {preset.name}: {preset.purpose}"
        ),
        "budget.predicted_bytes": Reason(
            rule="allocations of a training step and of inference, followed on the networks themselves, for the configuration "
            f"that needs most; {MARGIN:.0%} for unused blocks and {CONTEXT_BYTES >> 20} MiB for CUDA's context on top",
            inputs={"margin": MARGIN, "context_bytes": CONTEXT_BYTES},
        ),
        "default_configuration": Reason(
            rule="3d_fullres where images have depth, else 2d", inputs={"median_shape": list(target.median_shape)}
        ),
        "training": Reason(rule=f"{length}, precision and clipping of preset {preset.name}"),
        "folds": Reason(rule=folds, inputs={"num_cases": num_cases}),
    }


def shared_reasons(evidence: Evidence) -> dict[str, Reason]:
    """Return the reasons that every configuration repeats, by dotted field within it."""
    target, preset = evidence.target, evidence.preset
    pairs = [list(pair) for pair in mirror_pairs(sided_names(evidence.fingerprint.dataset))]
    reasons = {
        "spacing_mm": Reason(rule=target.rule, inputs={"target_spacing_mm": list(target.in_plan_order().spacing_mm)}),
        "median_shape": Reason(
            rule="median over cases of the voxels left by cropping, on the target spacing",
            inputs={"median_shape": list(target.in_plan_order().median_shape)},
        ),
        "resampling": Reason(
            rule="cubic images, linear labels and logits; an axis over 3 times coarser than the finest is not mixed with the others"
        ),
        "sampling": Reason(rule="nnU-Net's third of each batch, and at least one patch, centred on foreground"),
        "inference": Reason(rule="nnU-Net's half-tile overlap and Gaussian weights of an eighth of the tile"),
        "inference.mirroring_axes": Reason(
            rule=_mirroring_rule(preset, has_pairs=bool(pairs)), inputs={"pairs": pairs}
        ),
    }
    return reasons | _normalization_reasons(evidence)


def _normalization_reasons(evidence: Evidence) -> dict[str, Reason]:
    measured = evidence.fingerprint
    relative = measured.median_relative_size_after_cropping
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


def _mirroring_rule(preset: Preset, *, has_pairs: bool) -> str:
    if not preset.mirroring:
        return f"none: trainings of preset {preset.name} are too short to learn what mirrored anatomy looks like"
    return (
        "not across left and right, which labels tell apart" if has_pairs else "all axes: no label depends on its side"
    )
