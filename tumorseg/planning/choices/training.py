"""Length of training: the preset's, adapted to the number of cases, or the hours that were given.

The thresholds and their sources are in docs/decisions/016-choosing-loss-and-length.md.
"""

from typing import NamedTuple

from pydantic import JsonValue

from tumorseg.planning.decided import Decided
from tumorseg.planning.evidence.independence import FEW_CASES, MANY_CASES, independent_cases
from tumorseg.planning.presets import Preset
from tumorseg.schema.fingerprint import Fingerprint
from tumorseg.schema.plan import Reason
from tumorseg.schema.training import Training

SHORTER, LONGER = 0.5, 2.0
"""Factors of the number of epochs."""
IN_BF16 = Reason(
    source="device",
    rule="bf16, in which this CPU takes less time for a step than in fp32; no loss of accuracy was found",
    alternative="fp32 (--set training.precision.cpu=fp32): more time",
)
FASTER_IN_FP32 = Reason(
    source="device",
    rule="fp32, in which this CPU takes less time for a step than in bf16",
    alternative="bf16 (--set training.precision.cpu=bf16): more time, less memory",
)
IN_FP32 = Reason(
    source="device",
    rule="fp32, as this CPU does not compute in bf16",
    alternative="bf16 on a CPU with AMX, or of AMD with AVX512-BF16 (--set training.precision.cpu=bf16): half the time",
)
HALF_THE_LENGTH = "half of it (--set training.epochs): half the time, a little less accurate"
MORE_HOURS = "more hours: longer until the learning rate has fallen, a little more accurate"


class _Length(NamedTuple):
    """Number of epochs, and what decided it."""

    epochs: int
    reason: Reason


def choose_training(
    fingerprint: Fingerprint, preset: Preset, *, max_hours: float | None, precision: Reason | None = None
) -> Decided[Training]:
    """Choose how long every configuration is trained.

    Args:
        fingerprint: of the cases that are used.
        preset: with the hours that hold: the user's, or its own.
        max_hours: the user's; None where none were given.
        precision: why a CPU trains in the preset's, where the machine decided.
    """
    of_precision = {} if precision is None else {"training.precision.cpu": precision}
    others = f"{'clipping' if of_precision else 'precision and clipping'} of preset {preset.name}"
    if preset.training.max_hours is not None:
        decides = "--max-hours" if max_hours is not None else f"max_hours of preset {preset.name}"
        rule = f"{decides} decides the length; {others}"
        reasons = {"training": Reason(source="preset", rule=rule, alternative=MORE_HOURS), **of_precision}
        if max_hours is not None:
            reasons["training.max_hours"] = Reason(source="user", rule="--max-hours", alternative=MORE_HOURS)
        return Decided(preset.training, reasons)
    epochs, reason = _choose_length(fingerprint, preset, others)
    return Decided(preset.training.changed(epochs=epochs), {"training": reason, **of_precision})


def _choose_length(fingerprint: Fingerprint, preset: Preset, others: str) -> _Length:
    """Return the number of epochs; `others` is what the reason says of the other fields of the training."""
    epochs = preset.training.epochs
    if not preset.adapts:
        rule = f"length of preset {preset.name}; {others}"
        return _Length(epochs, Reason(source="preset", rule=rule, alternative=HALF_THE_LENGTH))
    num_cases = independent_cases(fingerprint)
    inputs: dict[str, JsonValue] = {"independent_cases": num_cases, "preset_epochs": epochs}
    of_preset = f"the length of preset {preset.name}"
    if num_cases < FEW_CASES:
        rule = (
            f"{SHORTER:g} times {of_preset}: under {FEW_CASES} independent cases, more steps fit their noise; {others}"
        )
        alternative = f"{of_preset}: twice the time, more overfitting"
        # Half of one epoch would round to none.
        return _Length(max(1, round(epochs * SHORTER)), Reason(rule=rule, inputs=inputs, alternative=alternative))
    if num_cases > MANY_CASES:
        rule = (
            f"{LONGER:g} times {of_preset}: over {MANY_CASES} independent cases are seen too seldom in less; {others}"
        )
        alternative = f"{of_preset}: half the time, less of the data used"
        return _Length(round(epochs * LONGER), Reason(rule=rule, inputs=inputs, alternative=alternative))
    rule = f"{of_preset}: independent cases are neither under {FEW_CASES} nor over {MANY_CASES}; {others}"
    return _Length(epochs, Reason(source="preset", rule=rule, inputs=inputs, alternative=HALF_THE_LENGTH))
