"""Numbers of a loss that may change while training."""

import math
from collections.abc import Callable
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from tumorseg.schema.base import Record
from tumorseg.schema.extensions import ByName

JUST_BEFORE = 1e-9
"""A fraction of the training that is less than any step of it."""

Fraction = Annotated[float, Field(ge=0, le=1)]
"""Of the training's length."""


class _Between(Record):
    """Goes from one value to another within a part of the training, and keeps both before and after."""

    start: float
    """Value until `begin`."""
    end: float
    """Value from `until` on."""
    begin: Fraction = 0.0
    """Fraction of the training after which it moves."""
    until: Fraction = 1.0
    """Fraction of the training at which it has arrived."""

    @model_validator(mode="after")
    def _check(self) -> "_Between":
        if self.begin >= self.until:
            raise ValueError(f"begin {self.begin:g} is not before until {self.until:g}")
        return self

    def values(self) -> tuple[float, ...]:
        """Return the values between which it stays."""
        return self.start, self.end

    def moments(self) -> tuple[float, ...]:
        """Return when it begins or ceases to move."""
        return self.begin, self.until

    def _way(self, progress: float) -> float:
        return min(1.0, max(0.0, (progress - self.begin) / (self.until - self.begin)))


class LinearSchedule(_Between):
    """Goes from start to end at a constant pace."""

    name: Literal["linear"] = "linear"

    def at(self, progress: float) -> float:
        """Return the value after a fraction of the training."""
        return self.start + (self.end - self.start) * self._way(progress)


class CosineSchedule(_Between):
    """Goes from start to end along half a cosine: slowly, fast, slowly."""

    name: Literal["cosine"] = "cosine"

    def at(self, progress: float) -> float:
        """Return the value after a fraction of the training."""
        return self.end + (self.start - self.end) * (1 + math.cos(math.pi * self._way(progress))) / 2


class WarmUpSchedule(Record):
    """Rises from 0 to a value at the beginning of the training."""

    name: Literal["warm_up"] = "warm_up"
    value: float
    """Value from `until` on."""
    until: float = Field(default=0.1, gt=0, le=1)
    """Fraction of the training at which it has arrived."""

    def values(self) -> tuple[float, ...]:
        """Return the values between which it stays."""
        return 0.0, self.value

    def moments(self) -> tuple[float, ...]:
        """Return when it ceases to move."""
        return (self.until,)

    def at(self, progress: float) -> float:
        """Return the value after a fraction of the training."""
        return self.value * min(1.0, progress / self.until)


class StepSchedule(Record):
    """Changes at once, at fractions of the training."""

    name: Literal["step"] = "step"
    steps: tuple[float, ...] = Field(min_length=2)
    """The values, one after the other."""
    milestones: tuple[Annotated[float, Field(gt=0, lt=1)], ...]
    """Fractions of the training at which the next value begins; one fewer than values."""

    @model_validator(mode="after")
    def _check(self) -> "StepSchedule":
        if len(self.milestones) != len(self.steps) - 1 or sorted(set(self.milestones)) != list(self.milestones):
            raise ValueError(f"{len(self.steps)} steps need {len(self.steps) - 1} rising milestones between them")
        return self

    def values(self) -> tuple[float, ...]:
        """Return all values."""
        return self.steps

    def moments(self) -> tuple[float, ...]:
        """Return when it changes, and just before."""
        moments: list[float] = []
        for milestone in self.milestones:
            # At a milestone the next value holds already; the one before is last seen just before it.
            moments += (milestone - JUST_BEFORE, milestone)
        return tuple(moments)

    def at(self, progress: float) -> float:
        """Return the value after a fraction of the training."""
        num_passed = sum(progress >= milestone for milestone in self.milestones)
        return self.steps[num_passed]


NumberSchedule = LinearSchedule | CosineSchedule | WarmUpSchedule | StepSchedule
Number = float | NumberSchedule
"""A number, or how it changes."""


def number_at(number: Number, progress: float) -> float:
    """Return a number after a fraction of the training.

    Args:
        number: constant, or a schedule.
        progress: from 0 at the first step to 1 at the end.
    """
    return number if isinstance(number, float | int) else number.at(progress)


def number_values(number: Number) -> tuple[float, ...]:
    """Return the values between which a number stays."""
    return (number,) if isinstance(number, float | int) else number.values()


def breakpoints(*numbers: Number) -> list[float]:
    """Return the moments at which a sum of numbers may be least: in between, they follow lines or half cosines."""
    moments = {0.0, 1.0}
    for number in numbers:
        if not isinstance(number, float | int):
            moments.update(number.moments())
    return sorted(moments)


def _within(is_sound: Callable[[float], bool], bounds: str) -> AfterValidator:
    def check(number: Number) -> Number:
        wrong = [value for value in number_values(number) if not is_sound(value)]
        if wrong:
            reached = "" if isinstance(number, float) else f", but the schedule reaches {wrong[0]:g}"
            raise ValueError(f"must be {bounds}{reached}")
        return number

    return AfterValidator(check)


_AnyNumber = Annotated[Number, ByName("schedule")]
NotNegative = Annotated[_AnyNumber, _within(lambda value: value >= 0, "0 or more")]
Positive = Annotated[_AnyNumber, _within(lambda value: value > 0, "above 0")]
Share = Annotated[_AnyNumber, _within(lambda value: 0 < value <= 1, "above 0 and at most 1")]
Exponent = Annotated[_AnyNumber, _within(lambda value: 0 < value <= 4, "above 0 and at most 4")]
Portion = Annotated[_AnyNumber, _within(lambda value: 0 <= value <= 1, "from 0 to 1")]
Smoothing = Annotated[_AnyNumber, _within(lambda value: 0 <= value < 1, "0 or more and below 1")]
