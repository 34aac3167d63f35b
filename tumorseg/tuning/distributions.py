"""How the values of a space stand in Optuna's storage: numbers as they are, options as texts that a person can read."""

import json

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from pydantic import JsonValue

from tumorseg.errors import PlanError
from tumorseg.schema.tuning import AnyParameter, ChoiceParameter, RealParameter, WholeParameter

Held = int | float | str
"""A value as Optuna's storage holds it."""


def distribution_of(parameter: AnyParameter) -> BaseDistribution:
    """Return the range or the options of a parameter in Optuna's form."""
    if isinstance(parameter, ChoiceParameter):
        return CategoricalDistribution(texts_of(parameter))
    is_log = parameter.scale == "log"
    if isinstance(parameter, WholeParameter):
        return IntDistribution(parameter.low, parameter.high, log=is_log)
    return FloatDistribution(parameter.low, parameter.high, log=is_log)


def held(parameter: AnyParameter, value: JsonValue) -> Held:
    """Return a value as the storage holds it.

    Raises:
        PlanError: it is none that the parameter can have.
    """
    if isinstance(parameter, ChoiceParameter):
        return _option(parameter, value)
    return _number(parameter, value)


def value_of(parameter: AnyParameter, value: Held) -> JsonValue:
    """Return the value that the storage holds as `value`."""
    if isinstance(parameter, ChoiceParameter):
        return parameter.options[texts_of(parameter).index(str(value))]
    return value


def texts_of(parameter: ChoiceParameter) -> list[str]:
    """Return the options as texts: by themselves where all are, else as JSON, since Optuna holds no lists and takes 1 for true."""
    if all(isinstance(option, str) for option in parameter.options):
        return [str(option) for option in parameter.options]
    return [json.dumps(option, sort_keys=True, ensure_ascii=False) for option in parameter.options]


def _option(parameter: ChoiceParameter, value: JsonValue) -> str:
    texts = texts_of(parameter)
    if value in parameter.options:
        return texts[parameter.options.index(value)]
    raise PlanError(
        f"{parameter.field} is {json.dumps(value)}, which is none of its options, {', '.join(texts)}; add it to them"
    )


def _number(parameter: RealParameter | WholeParameter, value: JsonValue) -> float:
    is_whole = isinstance(parameter, WholeParameter)
    # Truth values count as numbers in Python, but not in JSON.
    if isinstance(value, bool) or not isinstance(value, int | float) or (is_whole and value != round(value)):
        kind = "whole number" if is_whole else "number"
        raise PlanError(f"{parameter.field} is {json.dumps(value)}; expected a {kind} of its range")
    if not parameter.low <= value <= parameter.high:
        raise PlanError(
            f"{parameter.field} is {value:g}, outside of its range, {parameter.low:g} to {parameter.high:g}; widen it"
        )
    return int(value) if is_whole else value
