"""Loss, sampling and augmentation, by the size of targets, the kinds of channels and the number of cases.

An ordinary dataset gets nnU-Net's choices to the letter; what departs from them names the figure that led to it.
The thresholds and their sources are in docs/decisions/016-choosing-loss-and-length.md.
"""

from collections.abc import Sequence
from itertools import chain
from typing import NamedTuple

from pydantic import JsonValue

from tumorseg.planning.choices.augmentation import AugmentationChoice, choose_augmentation_preset
from tumorseg.planning.evidence.independence import FEW_CASES, MANY_CASES, independent_cases
from tumorseg.planning.evidence.sizes import TargetSize, Wording, judge, target_sizes
from tumorseg.planning.evidence.spacing import TargetGrid
from tumorseg.planning.presets import Preset
from tumorseg.schema.dataset import ChannelKind, DatasetDescription
from tumorseg.schema.fingerprint import Fingerprint
from tumorseg.schema.plan import Reason, SamplingSpec
from tumorseg.schema.targets import targets_of

THIN_VOXELS = 3.0
"""Under this many voxels across, a target is thin: its outer voxels outnumber the inner ones."""
SMALL_SHARE = 0.001
"""Under this share of what is looked at, a target is small."""
RARE_SHARE = 0.1
"""A target that fewer of the cases hold decides nothing."""
STRONGER, WEAKER = 1.5, 0.67
"""Factors of the probabilities of augmentation."""
HALF = 0.5
"""Share of patches centred on foreground where targets are small."""

THIN = Wording("target thickness", f"is at least {THIN_VOXELS:g} voxels across", f"under {THIN_VOXELS:g} voxels across")
SMALL_IN_PATCH = Wording(
    "target size", f"fills at least {SMALL_SHARE * 100:g} % of a patch", f"under {SMALL_SHARE * 100:g} % of a patch"
)
SMALL_IN_CASE = Wording(
    "target size", f"fills at least {SMALL_SHARE * 100:g} % of its case", f"under {SMALL_SHARE * 100:g} % of a case"
)
"""What reasons say of targets above or under these limits."""

USUAL_SAMPLING = "third of each batch, and at least one patch, centred on foreground"
OTHER_LOSSES = (
    "another of `losses list`: dice_focal suits small targets, focal_tversky thin ones, at the cost of calibration and "
    "more false positives"
)
MORE_FOREGROUND = "half of each batch: the targets are seen more often, background and its false alarms less"
STRONGER_AUGMENTATION = "above 1, likelier transforms: more robust with few cases, slower to fit these"
AS_IT_IS = "the probabilities of the augmentation preset as they are"


class Adaptation(NamedTuple):
    """Loss, sampling and augmentation that a plan takes from the fingerprint."""

    loss: str
    """Loss preset."""
    foreground_fraction: float
    """Share of patches centred on foreground."""
    augmentation: str
    """Preset of augmentation."""
    augmentation_strength: float
    """Factor of the probabilities of augmentation."""
    reasons: dict[str, Reason]
    """Of `loss`, `sampling`, `augmentation` and `augmentation.strength`."""


def adapt(fingerprint: Fingerprint, target: TargetGrid, *, preset: Preset, kinds: Sequence[ChannelKind]) -> Adaptation:
    """Return what suits a dataset, or, of a preset that does not adapt, what the preset says.

    Args:
        fingerprint: what was measured; sizes of targets may be missing, and then decide nothing.
        target: full-resolution grid, in canonical axis order.
        preset: where the plan starts from.
        kinds: of the channels, as decided.
    """
    outputs = _describe_outputs(fingerprint.dataset)
    chosen = choose_augmentation_preset(kinds, preset)
    if not preset.adapts:
        return _as_the_preset_says(preset, outputs, chosen)
    sizes = target_sizes(fingerprint, target)
    # All targets share one loss and one sampling: a label that is seldom there must not settle them for the others.
    common = [size for size in sizes if size.num_cases >= RARE_SHARE * len(fingerprint.cases)]
    loss, loss_reason = _choose_loss(common, preset, outputs)
    fraction, sampling = _choose_sampling(common)
    strength, strength_reason = _choose_strength(independent_cases(fingerprint))
    reasons = {
        "loss": loss_reason,
        "sampling": sampling,
        "augmentation": chosen.reason,
        "augmentation.strength": strength_reason,
    }
    return Adaptation(loss, fraction, chosen.preset, strength, reasons)


def _as_the_preset_says(preset: Preset, outputs: str, augmentation: AugmentationChoice) -> Adaptation:
    rule = f"loss preset {preset.loss} of preset {preset.name}{outputs}"
    reasons = {
        "loss": Reason(source="preset", rule=rule, alternative=OTHER_LOSSES),
        "sampling": Reason(rule=f"nnU-Net's {USUAL_SAMPLING}", alternative=MORE_FOREGROUND),
        "augmentation": augmentation.reason,
        "augmentation.strength": Reason(rule=AS_IT_IS, alternative=STRONGER_AUGMENTATION),
    }
    # The default of the schema is nnU-Net's share, 0.33.
    return Adaptation(preset.loss, SamplingSpec().foreground_fraction, augmentation.preset, 1.0, reasons)


def _describe_outputs(dataset: DatasetDescription) -> str:
    """Return why outputs are sigmoids, to follow the rule of the loss; empty where they are a softmax."""
    members = list(chain.from_iterable(targets_of(dataset).regions))
    if not members:
        return ""
    # A label of two regions stands in the list twice.
    if len(set(members)) < len(members):
        return "; regions overlap: each is a sigmoid output with binary terms, as a voxel may be in several"
    return "; regions share no label: as labels without regions (--regions none) a softmax would keep them apart"


def _choose_loss(sizes: Sequence[TargetSize], preset: Preset, outputs: str) -> tuple[str, Reason]:
    """Choose the loss preset; `outputs` follows its rule."""
    thin = judge(sizes, lambda size: size.thickness_voxels, THIN_VOXELS)
    small = judge(sizes, lambda size: size.share_of_view, SMALL_SHARE)
    are_thin = thin.describe(THIN)
    are_small = small.describe(SMALL_IN_PATCH)
    inputs = thin.inputs("thinnest", "thickness_voxels") | small.inputs("smallest", "share_of_view")
    if thin.decides:
        rule = f"loss preset focal_tversky: {are_thin}, where each voxel missed costs much of the overlap{outputs}"
        alternative = f"{preset.loss}: fewer false alarms, more of the thin structures missed"
        return "focal_tversky", Reason(rule=rule, inputs=inputs, alternative=alternative)
    if small.decides:
        rule = f"loss preset dice_focal: {are_small}, so that easy background would outweigh it in the cross-entropy"
        alternative = f"{preset.loss}: better calibrated probabilities, more of the small structures missed"
        return "dice_focal", Reason(rule=rule + outputs, inputs=inputs, alternative=alternative)
    rule = f"loss preset {preset.loss} of preset {preset.name}: {are_thin}; {are_small}{outputs}"
    return preset.loss, Reason(source="preset", rule=rule, inputs=inputs, alternative=OTHER_LOSSES)


def _choose_sampling(sizes: Sequence[TargetSize]) -> tuple[float, Reason]:
    small = judge(sizes, lambda size: size.share_of_case, SMALL_SHARE)
    are_small = small.describe(SMALL_IN_CASE)
    inputs = small.inputs("smallest", "share_of_case")
    if small.decides:
        rule = f"half of each batch centred on foreground: {are_small}, so that a random patch seldom shows it"
        alternative = (
            "nnU-Net's third: more background is seen, fewer false alarms (a batch of 2 has one of each anyway)"
        )
        return HALF, Reason(rule=rule, inputs=inputs, alternative=alternative)
    rule = f"nnU-Net's {USUAL_SAMPLING}: {are_small}"
    return SamplingSpec().foreground_fraction, Reason(rule=rule, inputs=inputs, alternative=MORE_FOREGROUND)


def _choose_strength(num_cases: int) -> tuple[float, Reason]:
    inputs: dict[str, JsonValue] = {"independent_cases": num_cases}
    if num_cases < FEW_CASES:
        why = f"under {FEW_CASES} independent cases are soon known by heart"
        rule = f"{STRONGER:g} times as likely as in the augmentation preset: {why}"
        alternative = "1, the preset's probabilities: images closer to real ones, sooner overfitted"
        return STRONGER, Reason(rule=rule, inputs=inputs, alternative=alternative)
    if num_cases > MANY_CASES:
        why = f"over {MANY_CASES} independent cases vary enough by themselves"
        rule = f"{WEAKER:g} times as likely as in the augmentation preset: {why}"
        alternative = "1, the preset's probabilities: more robust to other scanners, slower to fit so many cases"
        return WEAKER, Reason(rule=rule, inputs=inputs, alternative=alternative)
    rule = f"{AS_IT_IS}: independent cases are neither under {FEW_CASES} nor over {MANY_CASES}"
    return 1.0, Reason(rule=rule, inputs=inputs, alternative=STRONGER_AUGMENTATION)
