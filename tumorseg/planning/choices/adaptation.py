"""What a dataset's targets and number of cases ask for: loss, sampling, strength of augmentation, length.

An ordinary dataset gets nnU-Net's choices to the letter; what departs from them names the figure that led to it.
The thresholds and their sources are in docs/decisions/016-choosing-loss-and-length.md.
"""

from collections.abc import Sequence
from typing import NamedTuple

from pydantic import JsonValue

from tumorseg.planning.evidence.sizes import TargetSize, judge, target_sizes
from tumorseg.planning.evidence.spacing import TargetGrid
from tumorseg.planning.presets import Preset
from tumorseg.schema.dataset import DatasetDescription
from tumorseg.schema.fingerprint import Fingerprint
from tumorseg.schema.plan import Reason, SamplingSpec, Training
from tumorseg.schema.targets import targets_of

THIN_VOXELS = 3.0
"""Under this many voxels across, a target is thin: its outer voxels outnumber the inner ones."""
SMALL_SHARE = 0.001
"""Under this share of what is looked at, a target is small."""
RARE_SHARE = 0.1
"""A target that fewer of the cases hold decides nothing."""
FEW_CASES, MANY_CASES = 20, 1000
"""nnU-Net's defaults were developed on sets of 20 to 484 cases."""
ORDINARY = f"independent cases are neither under {FEW_CASES} nor over {MANY_CASES}"
STRONGER, WEAKER = 1.5, 0.67
"""Factors of the probabilities of augmentation."""
SHORTER, LONGER = 0.5, 2.0
"""Factors of the number of epochs."""
HALF = 0.5
"""Share of patches centred on foreground where targets are small."""

USUAL_SAMPLING = "third of each batch, and at least one patch, centred on foreground"
OTHER_LOSSES = "another of `losses list`: dice_focal suits small targets, focal_tversky thin ones, at some calibration and false alarms"
MORE_FOREGROUND = "half of each batch: the targets are seen more often, background and its false alarms less"
STRONGER_AUGMENTATION = "likelier transforms: more robust with few cases, slower to fit these"
HALF_THE_LENGTH = "half of it (--set training.epochs): half the time, a little less accurate"


class Adaptation(NamedTuple):
    """What a plan takes from the fingerprint beyond grid and patch."""

    loss: str
    """Loss preset."""
    foreground_fraction: float
    """Share of patches centred on foreground."""
    augmentation_strength: float
    """Factor of the probabilities of augmentation."""
    length: float
    """Factor of the number of epochs."""
    reasons: dict[str, Reason]
    """Of `loss`, `sampling`, `augmentation` and `training`."""

    def lengthen(self, training: Training) -> Training:
        """Return the training with its number of epochs adapted; a `max_hours` decides by itself."""
        if training.max_hours is not None:
            return training
        return training.model_copy(update={"epochs": max(1, round(training.epochs * self.length))})


def adapt(fingerprint: Fingerprint, target: TargetGrid, preset: Preset) -> Adaptation:
    """Return what suits a dataset, or, of a preset that does not adapt, what the preset says.

    Args:
        fingerprint: what was measured; sizes of targets may be missing, and then decide nothing.
        target: full-resolution grid, in canonical axis order.
        preset: where the plan starts from.
    """
    if not preset.adapts:
        return _as_the_preset_says(preset, fingerprint.dataset)
    sizes = target_sizes(fingerprint, target)
    num_cases = len(fingerprint.cases)
    common = [size for size in sizes if size.num_cases >= RARE_SHARE * num_cases]
    loss, loss_reason = _choose_loss(common, preset)
    fraction, sampling = _choose_sampling(common)
    independent = len({case.group or case.case_id for case in fingerprint.cases})
    strength, augmentation = _choose_strength(independent)
    length, training = _choose_length(independent, preset)
    reasons = {"loss": loss_reason, "sampling": sampling, "augmentation": augmentation, "training": training}
    return Adaptation(loss, fraction, strength, length, _with_outputs(reasons, fingerprint.dataset))


def _as_the_preset_says(preset: Preset, dataset: DatasetDescription) -> Adaptation:
    reasons = {
        "loss": Reason(rule=f"loss preset {preset.loss} of preset {preset.name}", alternative=OTHER_LOSSES),
        "sampling": Reason(rule=f"nnU-Net's {USUAL_SAMPLING}", alternative=MORE_FOREGROUND),
        "augmentation": Reason(rule="nnU-Net's probabilities and ranges", alternative=STRONGER_AUGMENTATION),
        "training": Reason(rule=f"length of preset {preset.name}", alternative=HALF_THE_LENGTH),
    }
    fraction = SamplingSpec().foreground_fraction
    return Adaptation(preset.loss, fraction, 1.0, 1.0, _with_outputs(reasons, dataset))


def _with_outputs(reasons: dict[str, Reason], dataset: DatasetDescription) -> dict[str, Reason]:
    """Add to the reason for the loss why outputs are sigmoids."""
    members = [index for region in targets_of(dataset).regions for index in region]
    if not members:
        return reasons
    if len(set(members)) < len(members):
        outputs = "regions overlap: each is a sigmoid output with binary terms, as a voxel may be in several"
    else:
        outputs = "regions share no label: as labels without regions (--regions none) a softmax would keep them apart"
    loss = reasons["loss"]
    return reasons | {"loss": loss.model_copy(update={"rule": f"{loss.rule}; {outputs}"})}


def _choose_loss(sizes: Sequence[TargetSize], preset: Preset) -> tuple[str, Reason]:
    thin = judge(sizes, lambda size: size.thickness_voxels, THIN_VOXELS)
    small = judge(sizes, lambda size: size.share_of_view, SMALL_SHARE)
    are_thin = thin.told(f"under {THIN_VOXELS:g} voxels across")
    are_small = small.told(f"under {SMALL_SHARE:.1%} of what a patch shows")
    inputs = thin.inputs("thinnest", "thickness_voxels") | small.inputs("smallest", "share_of_view")
    if thin.decides:
        rule = f"loss preset focal_tversky: {are_thin}, where each voxel missed costs much of the overlap"
        alternative = f"{preset.loss}: fewer false alarms, more of the thin structures missed"
        return "focal_tversky", Reason(rule=rule, inputs=inputs, alternative=alternative)
    if small.decides:
        rule = f"loss preset dice_focal: {are_small}, so that easy background would outweigh it in the cross-entropy"
        alternative = f"{preset.loss}: better calibrated probabilities, more of the small structures missed"
        return "dice_focal", Reason(rule=rule, inputs=inputs, alternative=alternative)
    rule = f"loss preset {preset.loss} of preset {preset.name}: {are_thin}; {are_small}"
    return preset.loss, Reason(rule=rule, inputs=inputs, alternative=OTHER_LOSSES)


def _choose_sampling(sizes: Sequence[TargetSize]) -> tuple[float, Reason]:
    small = judge(sizes, lambda size: size.share_of_case, SMALL_SHARE)
    are_small = small.told(f"under {SMALL_SHARE:.1%} of a case")
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
        rule = f"nnU-Net's ranges, {STRONGER:g} times as likely: under {FEW_CASES} independent cases are soon known by heart"
        alternative = "nnU-Net's probabilities: images closer to real ones, sooner overfitted"
        return STRONGER, Reason(rule=rule, inputs=inputs, alternative=alternative)
    if num_cases > MANY_CASES:
        rule = f"nnU-Net's ranges, {WEAKER:g} times as likely: over {MANY_CASES} independent cases vary enough by themselves"
        alternative = "nnU-Net's probabilities: more robust to other scanners, slower to fit so many cases"
        return WEAKER, Reason(rule=rule, inputs=inputs, alternative=alternative)
    rule = f"nnU-Net's probabilities and ranges: {ORDINARY}"
    return 1.0, Reason(rule=rule, inputs=inputs, alternative=STRONGER_AUGMENTATION)


def _choose_length(num_cases: int, preset: Preset) -> tuple[float, Reason]:
    inputs: dict[str, JsonValue] = {"independent_cases": num_cases, "preset_epochs": preset.training.epochs}
    of_preset = f"the length of preset {preset.name}"
    if num_cases < FEW_CASES:
        rule = f"{SHORTER:g} times {of_preset}: under {FEW_CASES} independent cases, more steps fit their noise"
        alternative = f"{of_preset}: twice the time, more overfitting"
        return SHORTER, Reason(rule=rule, inputs=inputs, alternative=alternative)
    if num_cases > MANY_CASES:
        rule = f"{LONGER:g} times {of_preset}: over {MANY_CASES} independent cases are seen too seldom in less"
        alternative = f"{of_preset}: half the time, less of the data used"
        return LONGER, Reason(rule=rule, inputs=inputs, alternative=alternative)
    rule = f"{of_preset}: {ORDINARY}"
    return 1.0, Reason(rule=rule, inputs=inputs, alternative=HALF_THE_LENGTH)


def extended(reason: Reason, more: str) -> Reason:
    """Return a reason whose rule says more."""
    return reason.model_copy(update={"rule": f"{reason.rule}; {more}"})
