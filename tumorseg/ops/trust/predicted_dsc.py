"""The DSC to be expected of a mask, learned from out-of-fold cases, with an interval that holds the real one in 90 % of them.

A ridge regression of the log odds of the DSC on a few features of the prediction; the interval is CV+, the jackknife+ with parts left
out instead of cases, here with signed residuals, so that either end is missed as often.

References:
    Hoebel et al. (2020). An exploration of uncertainty information for segmentation quality assessment. SPIE Medical Imaging. What is
    predicted from.
    Barber, Candès, Ramdas, Tibshirani (2021). Predictive inference with the jackknife+. Annals of Statistics 49. The interval.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from tumorseg.ops.trust.measures import Positions, evenly
from tumorseg.schema.trust import NUM_DSC_FEATURES, DscRule, ImageProfile, Linear, NameFeatures, PredictedDsc
from tumorseg.types import FloatArray

MISCOVERAGE = 0.1
"""Of the interval."""
FEWEST_CASES = 10
"""From fewer nothing is predicted."""
MOST_RESIDUALS = 1000
"""Kept of each part, at even distances of their order."""
EASE = 0.05
"""Added to both sides of the odds, so that a DSC of 0 or 1 has some."""
PENALTIES = (0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
"""Of the ridge, among which leaving out chooses; features are standardised."""
WEIGHT_OF_RANKS = 2.0
"""Rank correlations below so many over the root of the number of cases are chance."""
EXPECTED = 0
"""Position of the expected DSC among the features."""


class Known(NamedTuple):
    """Out-of-fold cases of one label or region."""

    features: FloatArray
    """(N, F)."""
    dsc: FloatArray
    """(N,), real."""
    parts: Positions
    """(N,)."""


class FittedDsc(NamedTuple):
    """A rule, and what it says of the cases that it was learned from."""

    rule: DscRule
    predicted: FloatArray
    """(N,), each from the other parts."""


def to_odds(dsc: FloatArray) -> FloatArray:
    """Return the logarithm of the odds of DSC, with some ease at either end: near 1 differences count more."""
    odds: FloatArray = np.log((dsc + EASE) / (1 - dsc + EASE))
    return odds


def from_odds(odds: FloatArray) -> FloatArray:
    """Return the DSC of log odds, between 0 and 1."""
    # Beyond ±30 there is nothing but 0 and 1.
    ratio = np.exp(np.clip(odds, -30, 30))
    dsc: FloatArray = np.clip((ratio * (1 + EASE) - EASE) / (1 + ratio), 0.0, 1.0)
    return dsc


def feature_row(features: NameFeatures, image: ImageProfile) -> FloatArray | None:
    """Return what a DSC is predicted from (F,): log odds of the expected DSC, entropy, logarithms of the volumes of mask and image.

    Args:
        features: of the prediction.
        image: that it is of.

    Returns:
        None if nothing was found.
    """
    if features.expected_dsc is None or features.entropy is None:
        return None
    expected = float(to_odds(np.array(features.expected_dsc)))
    image_mm3 = math.prod(image.spacing_mm) * math.prod(image.shape)
    return np.array([expected, features.entropy, math.log10(max(features.volume_mm3, 1e-6)), math.log10(image_mm3)])


def fit_dsc_rule(known: Known) -> FittedDsc | None:
    """Learn how the DSC follows from the features.

    Args:
        known: cases in which something was found.

    Returns:
        None where there are too few cases; the rule has no threshold yet.
    """
    _, sizes = np.unique(known.parts, return_counts=True)
    # What the others teach of a part that holds nearly all cases is worth nothing.
    if len(known.dsc) < FEWEST_CASES or len(known.dsc) - sizes.max() < FEWEST_CASES // 2:
        return None
    centers, scales = known.features.mean(axis=0), known.features.std(axis=0)
    scales = np.where(scales > 1e-9, scales, 1.0)
    table, odds = (known.features - centers) / scales, to_odds(known.dsc)
    parts, residuals, predicted = [], [], np.empty_like(odds)
    for part in np.unique(known.parts):
        inside = known.parts == part
        linear = _ridge(table[~inside], odds[~inside])
        predicted[inside] = _apply(linear, table[inside])
        parts.append(linear)
        residuals.append(_kept(odds[inside] - predicted[inside]))
    found = from_odds(predicted)
    rule = DscRule(
        num_cases=len(odds),
        centers=_rounded(centers),
        scales=_rounded(scales),
        lows=_rounded(known.features.min(axis=0)),
        highs=_rounded(known.features.max(axis=0)),
        linear=_ridge(table, odds),
        parts=tuple(parts),
        residuals=tuple(residuals),
        spearman=_spearman(found, known.dsc),
        mean_error=round(float(np.abs(found - known.dsc).mean()), 6),
        threshold=None,
    )
    return FittedDsc(rule, found)


def predict_dsc(rule: DscRule, features: NameFeatures, image: ImageProfile) -> PredictedDsc | None:
    """Return the DSC that is to be expected, with its 90 % interval; None where nothing was found."""
    row = feature_row(features, image)
    if row is None:
        return None
    scaled = _scaled(rule, row)
    value = float(from_odds(_apply(rule.linear, scaled)))
    ends = _interval(rule, scaled)
    if ends is None:
        return PredictedDsc(value=round(value, 4), low=None, high=None)
    low, high = (float(end) for end in from_odds(np.array(ends)))
    # Other parts may be of another mind than all together.
    return PredictedDsc(value=round(value, 4), low=round(min(low, value), 4), high=round(max(high, value), 4))


def is_telling(rule: DscRule) -> bool:
    """Tell whether predictions go with real DSC by more than chance."""
    return rule.spearman is not None and rule.spearman > WEIGHT_OF_RANKS / math.sqrt(rule.num_cases)


def _interval(rule: DscRule, scaled: FloatArray) -> tuple[float, float] | None:
    """Return the ends of the CV+ interval in log odds; None where cases are too few for any."""
    around = [
        float(_apply(linear, scaled)) + np.array(left) for linear, left in zip(rule.parts, rule.residuals, strict=True)
    ]
    ordered = np.sort(np.concatenate(around))
    tail = MISCOVERAGE / 2
    # Ranks from either end; a hair of slack, as .05 x 20 is not exactly 1.
    rank = math.floor(tail * (len(ordered) + 1) + 1e-9)
    return None if rank < 1 else (float(ordered[rank - 1]), float(ordered[-rank]))


def _scaled(rule: DscRule, row: FloatArray) -> FloatArray:
    """Return standardised features; but for the expected DSC, no further out than any case that was seen."""
    limited = np.clip(row, rule.lows, rule.highs)
    limited[EXPECTED] = row[EXPECTED]
    scaled: FloatArray = (limited - np.array(rule.centers)) / np.array(rule.scales)
    return scaled


def _ridge(table: FloatArray, odds: FloatArray) -> Linear:
    """Return the ridge regression whose cases are predicted best if left out one by one."""
    center, mean = table.mean(axis=0), float(odds.mean())
    left, right = table - center, odds - mean
    gram = left.T @ left
    best: tuple[float, FloatArray] | None = None
    # From the largest penalty on: of equal ones the most cautious.
    for penalty in sorted(PENALTIES, reverse=True):
        inverse = np.linalg.inv(gram + penalty * np.eye(len(gram)))
        weights = inverse @ (left.T @ right)
        # The share of itself that each case has in its prediction, the mean's included.
        leverage = np.einsum("nf,fg,ng->n", left, inverse, left) + 1 / len(odds)
        error = float(np.square((right - left @ weights) / (1 - leverage)).mean())
        if best is None or error < best[0] - 1e-12:
            best = error, weights
    assert best is not None
    coefficients = best[1]
    return Linear(
        intercept=_rounded(np.array([mean - float(center @ coefficients)]))[0], coefficients=_rounded(coefficients)
    )


def _apply(linear: Linear, table: FloatArray) -> FloatArray:
    """Return predictions (...,) for standardised features (..., F)."""
    predicted: FloatArray = linear.intercept + table @ np.array(linear.coefficients)
    return predicted


def _kept(residuals: FloatArray) -> tuple[float, ...]:
    ordered = np.sort(residuals)
    return _rounded(ordered[evenly(len(ordered), MOST_RESIDUALS)])


def _spearman(predicted: FloatArray, real: FloatArray) -> float | None:
    """Return the rank correlation; None where either side is all alike."""
    if np.ptp(predicted) == 0 or np.ptp(real) == 0:
        return None
    from scipy.stats import rankdata

    ranks = np.corrcoef(rankdata(predicted), rankdata(real))
    return round(float(ranks[0, 1]), 6)


def _rounded(values: FloatArray) -> tuple[float, ...]:
    # To what another processor computes, too.
    return tuple(float(f"{value:.6g}") for value in values)


def stack_rows(rows: Sequence[FloatArray]) -> FloatArray:
    """Return rows (F,) as a table (N, F), of any number of rows."""
    return np.stack(rows) if rows else np.zeros((0, NUM_DSC_FEATURES))
