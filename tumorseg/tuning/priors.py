"""What trials are drawn from before scores say more: the whole space evenly, or the prior around the plan's own values.

Both are functions of a share from 0 to 1, so that the same random numbers serve either, and so that Optuna's samplers can
work on shares of the prior: what they draw evenly then follows the prior.
"""

import math
from typing import NamedTuple

import numpy as np
from pydantic import JsonValue
from scipy.special import ndtr, ndtri

from tumorseg.schema.tuning import AnyParameter, ChoiceParameter, RealParameter, WholeParameter

NumberParameter = RealParameter | WholeParameter
SIGNIFICANT = 4
"""Digits of a real number that is drawn: a person reads them, and more tell trainings apart no better."""


def even_value(parameter: AnyParameter, share: float) -> JsonValue:
    """Return the value below which a share of the range, or of the options, lies.

    Args:
        parameter: of the space.
        share: from 0 to 1.
    """
    if isinstance(parameter, ChoiceParameter):
        count = len(parameter.options)
        return _option(parameter, np.full(count, 1 / count), share)
    return _at(parameter, share)


def prior_value(parameter: AnyParameter, share: float) -> JsonValue:
    """Return the value below which a share of the prior lies.

    A number's prior is a normal distribution around its centre, cut off at the ends of the range.

    Args:
        parameter: of the space.
        share: from 0 to 1.
    """
    if isinstance(parameter, ChoiceParameter):
        return _option(parameter, prior_weights(parameter), share)
    prior = _prior(parameter)
    place = prior.center + prior.spread * float(ndtri(prior.below + share * prior.within))
    return _at(parameter, place)


def prior_share(parameter: NumberParameter, value: float) -> float:
    """Return the share of the prior, from 0 to 1, that lies below a number of the range."""
    prior = _prior(parameter)
    share = (ndtr((_place(parameter, value) - prior.center) / prior.spread) - prior.below) / prior.within
    return min(max(float(share), 0.0), 1.0)


def prior_weights(parameter: ChoiceParameter) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Return the prior shares (options,) of the options of a choice."""
    count = len(parameter.options)
    if parameter.center not in parameter.options:
        return np.full(count, 1 / count)
    weights = np.full(count, (1 - parameter.weight) / (count - 1))
    weights[parameter.options.index(parameter.center)] = parameter.weight
    return weights


class _Prior(NamedTuple):
    """A normal distribution on a range whose ends are 0 and 1."""

    center: float
    spread: float
    below: float
    within: float
    """What of it lies below the range, and within."""


def _prior(parameter: NumberParameter) -> _Prior:
    center = 0.5 if parameter.center is None else _place(parameter, parameter.center)
    below = float(ndtr(-center / parameter.spread))
    within = float(ndtr((1 - center) / parameter.spread)) - below
    return _Prior(center, parameter.spread, below, within)


def _ends(parameter: NumberParameter) -> tuple[float, float]:
    """Return the ends of the range on its scale; each whole number has half a step on either side."""
    margin = 0.5 if isinstance(parameter, WholeParameter) else 0.0
    low, high = parameter.low - margin, parameter.high + margin
    return (math.log(low), math.log(high)) if parameter.scale == "log" else (low, high)


def _place(parameter: NumberParameter, value: float) -> float:
    low, high = _ends(parameter)
    on_scale = math.log(value) if parameter.scale == "log" else value
    return (on_scale - low) / (high - low)


def _at(parameter: NumberParameter, place: float) -> int | float:
    low, high = _ends(parameter)
    on_scale = low + min(max(place, 0.0), 1.0) * (high - low)
    value = math.exp(on_scale) if parameter.scale == "log" else on_scale
    rounded = round(value) if isinstance(parameter, WholeParameter) else float(f"{value:.{SIGNIFICANT}g}")
    # Rounding may step over an end.
    return min(max(rounded, parameter.low), parameter.high)


def _option(
    parameter: ChoiceParameter, weights: np.ndarray[tuple[int], np.dtype[np.float64]], share: float
) -> JsonValue:
    number = int(np.searchsorted(np.cumsum(weights), share, side="right"))
    # Weights may sum to a little less than 1.
    return parameter.options[min(number, len(parameter.options) - 1)]
