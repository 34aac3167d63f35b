"""What this machine can train in time: width and patch, and on a processor the precision, by steps timed on it."""

import math
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

from tumorseg.errors import TrainingError
from tumorseg.planning.choices.training import FASTER_IN_FP32, IN_BF16, IN_FP32
from tumorseg.planning.memory.rehearsal import Setting
from tumorseg.planning.overrides import Override, training_as_set
from tumorseg.planning.search.configurations import Brief, draft_default, fits_budget
from tumorseg.planning.search.ladder import Trial, choose_pace, grown
from tumorseg.schema.plan import Configuration, Reason
from tumorseg.schema.training import Training

OnCpu = Literal["bf16", "fp32"]
"""Precisions of a processor."""
Clock = Callable[[Configuration, Setting], float]
"""Times a training step on this machine, in seconds."""


class Pacing(NamedTuple):
    """What is to be searched, and the time that was measured."""

    brief: Brief
    """With the preset of the rung and the precision that were taken."""
    step_s: float
    precision: Reason | None = None
    """Why a processor trains in its precision; None for a GPU, or where the preset or the user decides."""


def pace_on_gpu(brief: Brief, clock: Clock, overrides: Sequence[Override]) -> Pacing:
    """Return what a GPU can train in time.

    Args:
        brief: to search by.
        clock: times the steps.
        overrides: fields that the user sets, which may be the hours.
    """
    return _climb(brief._replace(limits="GPU"), clock, training_as_set(brief.preset.training, overrides).max_hours)


def pace_on_cpu(brief: Brief, clock: Clock, overrides: Sequence[Override], *, has_bf16: bool) -> Pacing:
    """Return what a processor can train in time, in bf16 unless it does not compute in it or takes longer for a step in it.

    Processors of Intel without AMX take longer.

    Args:
        brief: to search by.
        clock: times the steps.
        overrides: fields that the user sets, which may be the hours or the precision.
        has_bf16: whether the processor computes in bf16.
    """
    training = brief.preset.training
    max_hours = training_as_set(training, overrides).max_hours
    if not has_bf16:
        return _climb(_in_precision(brief, "fp32"), clock, max_hours)._replace(precision=IN_FP32)
    possible = _precisions(training, overrides)
    first = _climb(_in_precision(brief, possible[0]), clock, max_hours)
    if len(possible) == 1:
        return first
    if _seconds_in_fp32(first.brief, clock) >= first.step_s:
        return first._replace(precision=IN_BF16)
    return _climb(_in_precision(brief, "fp32"), clock, max_hours)._replace(precision=FASTER_IN_FP32)


def _precisions(training: Training, overrides: Sequence[Override]) -> list[OnCpu]:
    """Return those that a preset and the user leave to choose from: fp32 alone where the preset has it, or the one that is set."""
    if training.precision.cpu == "fp32":
        return [training_as_set(training, overrides).precision.cpu]
    in_fp32 = training.changed(precision=training.precision.changed(cpu="fp32"))
    left = [training_as_set(one, overrides).precision.cpu for one in (training, in_fp32)]
    return list(dict.fromkeys(left))


def _in_precision(brief: Brief, precision: OnCpu) -> Brief:
    """Return a brief for a processor, whose memory and time are those of a precision."""
    training = brief.preset.training
    preset = brief.preset.changed(training=training.changed(precision=training.precision.changed(cpu=precision)))
    return brief._replace(preset=preset, setting=brief.setting._replace(precision=precision), limits="CPU")


def _seconds_in_fp32(brief: Brief, clock: Clock) -> float:
    """Return the time of a step in fp32 of what was taken in bf16; endless where its memory is not there."""
    in_fp32 = _in_precision(brief, "fp32")
    configuration = draft_default(in_fp32)
    if not fits_budget(in_fp32, configuration):
        return math.inf
    try:
        return clock(configuration, in_fp32.setting)
    except TrainingError:
        return math.inf


def _climb(brief: Brief, clock: Clock, max_hours: float | None) -> Pacing:
    trial = Trial(
        plan=lambda preset: draft_default(brief._replace(preset=preset)),
        fits=lambda configuration: fits_budget(brief, configuration),
        seconds=lambda configuration: clock(configuration, brief.setting),
    )
    may_grow = brief.preset.follows_machine and max_hours is not None
    paced = choose_pace(grown(brief.preset) if may_grow else brief.preset, trial, max_hours)
    return Pacing(brief._replace(preset=paced.preset), paced.step_s)
