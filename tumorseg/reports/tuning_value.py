"""The trials of a study as the page's script and its pictures take them: one row a trial, one column a field."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from tumorseg.reports.explanation import plain_text
from tumorseg.reports.tuning_words import DECIMALS, TITLES, ordered_fields, short_field, trial_title
from tumorseg.schema.tuning import MAXIMISED, AnyParameter, ChoiceParameter, TuningResult, Values

MOST_AXES = 10
"""Of the parallel coordinates; more would lie too close to be told apart."""


class Axis(NamedTuple):
    """One field of the space, as an axis."""

    field: str
    title: str
    """In few letters."""
    is_log: bool
    low: float
    high: float
    """Ends of the range; of options the numbers of the first and the last."""
    options: tuple[str, ...]
    """None of a number."""

    def share(self, value: float) -> float:
        """Return where a value lies between the ends, 0 to 1."""
        if self.is_log:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)


def axes_of(result: TuningResult) -> list[Axis]:
    """Return the axes of the fields that matter most, in that order."""
    parameters = {parameter.field: parameter for parameter in result.study.space.parameters}
    return [_axis(parameters[field]) for field in ordered_fields(result, MOST_AXES)]


def _axis(parameter: AnyParameter) -> Axis:
    title = short_field(parameter.field)
    if isinstance(parameter, ChoiceParameter):
        options = tuple(map(plain_text, parameter.options))
        return Axis(parameter.field, title, False, 0.0, len(options) - 1.0, options)
    is_log = parameter.scale == "log"
    return Axis(parameter.field, title, is_log, float(parameter.low), float(parameter.high), ())


def number_on(axis: Axis, values: Values) -> float | None:
    """Return a trial's value as a number of an axis; None where the field did not count in it."""
    if axis.field not in values:
        return None
    value = values[axis.field]
    if axis.options:
        text = plain_text(value)
        return float(axis.options.index(text)) if text in axis.options else None
    return float(value) if isinstance(value, int | float) else None


def study_value(result: TuningResult) -> dict[str, Any]:
    """Return what the script draws: objectives, axes, and every trial that was scored."""
    axes = axes_of(result)
    objectives = []
    for name in result.study.objectives:
        objectives.append({"title": TITLES[name], "decimals": DECIMALS[name], "isMaximised": name in MAXIMISED})
    return {
        "objectives": objectives,
        "axes": [_axis_value(axis) for axis in axes],
        "trials": _trials(result, axes),
        "iterations": result.study.proxy.iterations,
    }


def _axis_value(axis: Axis) -> dict[str, Any]:
    return {
        "field": axis.field,
        "title": axis.title,
        "isLog": axis.is_log,
        "range": [axis.low, axis.high],
        "options": list(axis.options),
    }


def _trials(result: TuningResult, axes: Sequence[Axis]) -> list[dict[str, Any]]:
    rows = []
    for trial in result.trials:
        if not trial.scores:
            continue
        rows.append(
            {
                "number": trial.number,
                "title": trial_title(trial),
                "state": trial.state,
                "scores": list(trial.scores[-1].values),
                "iteration": trial.scores[-1].iteration,
                "values": [number_on(axis, trial.values) for axis in axes],
                "isOnFront": trial.number in result.pareto,
            }
        )
    return rows
