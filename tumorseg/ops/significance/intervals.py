"""Confidence intervals of means by the bootstrap: percentile, BCa and studentised."""

from collections.abc import Callable, Iterator

import numpy as np
from scipy.special import ndtr, ndtri, stdtrit

from tumorseg.ops.significance.estimates import Estimate, mean_estimate
from tumorseg.ops.significance.resampling import SEED, to_units
from tumorseg.ops.significance.scores import Numbers
from tumorseg.schema.metrics import IntervalMethod, Intervals
from tumorseg.types import FloatArray

Interval = tuple[float, float]

_LEVELS = np.array([0.025, 0.975])
_LEAST_RESAMPLED = 5
"""Units from which resamples differ enough for studentised quantiles; of three or four, too many are one unit over and over."""
_LEAST_FOR_BCA = 10
"""Units from which BCa stands in where studentised quantiles are out of reach; of fewer it is far too narrow, and t less so."""
_SMALL_SPREAD = 0.1
"""A resample whose standard error is below this share of the sample's lacks what made most of the spread."""
_MOST_OF_SMALL_SPREAD = 0.005
"""Share of such resamples up to which the studentised quantiles are out of their reach."""
_ENDLESS = 1e100
"""In the place of infinity, which cannot be interpolated."""


def mean_intervals(
    values: FloatArray, *, clusters: Numbers | None = None, intervals: Intervals | None = None
) -> list[Interval | None]:
    """Return the 95 % interval of each column's mean over the cases that define it; the same values give the same intervals.

    Args:
        values: (N cases, M columns), NaN where undefined.
        clusters: (N,), the cluster of each case; None where cases are drawn by themselves.
        intervals: how; the defaults of `Intervals` if None.

    Returns:
        M intervals; None where fewer than two cases, or clusters, define the column.

    References:
        Efron & Tibshirani, An Introduction to the Bootstrap, 1993, chapters 12 to 14; Davison & Hinkley, Bootstrap Methods and their
        Application, 1997, section 3.8 (clusters drawn as wholes).
    """
    rules = intervals or Intervals()
    found: list[Interval | None] = [None] * values.shape[1]
    for cases, columns in _alike(~np.isnan(values)):
        chosen = values[np.ix_(cases, columns)]
        units = to_units(chosen, None if clusters is None else clusters[cases]) if len(cases) else None
        if units is None or len(units.sizes) < 2:
            continue
        generator = np.random.default_rng(SEED)
        estimate = mean_estimate(units, num_resamples=rules.num_resamples, generator=generator)
        for column, (lower, upper) in zip(columns, bounds(estimate, rules.method).T, strict=True):
            found[column] = float(lower), float(upper)
    return found


def _alike(defined: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the cases (n,) and the columns (m,) that share a pattern of what is defined, so that they share resamples."""
    patterns, which = np.unique(defined, axis=1, return_inverse=True)
    for number, pattern in enumerate(patterns.T):
        yield np.flatnonzero(pattern), np.flatnonzero(which == number)


def bounds(estimate: Estimate, method: IntervalMethod) -> FloatArray:
    """Return the bounds (2, M) of the 95 % intervals of M figures."""
    return _METHODS[method](estimate)


def _percentile(estimate: Estimate) -> FloatArray:
    """Return the bounds (2, M) between which the middle 95 % of resamples lie."""
    found: FloatArray = np.quantile(estimate.values, _LEVELS, axis=0)
    return found


def _bca(estimate: Estimate) -> FloatArray:
    """Return the bounds (2, M) at levels that are corrected for bias and for an error that changes with the figure."""
    values = estimate.values
    below = ((values < estimate.value).mean(axis=0) + (values <= estimate.value).mean(axis=0)) / 2
    # A share of 0 or 1 has no finite quantile; half a resample stands for what they did not show.
    margin = 0.5 / len(values)
    bias = ndtri(np.clip(below, margin, 1 - margin))
    from_bias = bias + ndtri(_LEVELS)[:, None]
    levels = ndtr(bias + from_bias / (1 - _acceleration(estimate.influences) * from_bias))
    found = [np.quantile(column, level) for column, level in zip(values.T, levels.T, strict=True)]
    return np.stack(found, axis=1)


def _acceleration(influences: FloatArray) -> FloatArray:
    """Return how fast the standard error changes with the figure (M,), from the influences of units (K, M)."""
    spread = (influences**2).sum(axis=0) ** 1.5
    # Means that are all alike have neither skew nor spread.
    found: FloatArray = np.divide((influences**3).sum(axis=0), 6 * spread, out=np.zeros_like(spread), where=spread > 0)
    return found


def _students_t(estimate: Estimate) -> FloatArray:
    """Return the bounds (2, M) of Student's t."""
    found: FloatArray = estimate.value + estimate.error * stdtrit(estimate.degrees, _LEVELS[:, None])
    return found


def _studentised(estimate: Estimate) -> FloatArray:
    """Return the bounds (2, M) from resampled deviations in units of each resample's own standard error.

    Of few units they are those of Student's t. Where a value or two make most of the spread, those of t or BCa stand in.
    """
    value, error = estimate.value, estimate.error
    if estimate.num_units < _LEAST_RESAMPLED:
        # Not cut to the range of the values: that of two holds the mean half of the time.
        return _students_t(estimate)
    has_spread = estimate.errors > _SMALL_SPREAD * error
    # In units of next to nothing a resample is off by more than any other.
    endless = _ENDLESS * np.sign(estimate.values - value)
    ratios = np.divide(estimate.values - value, estimate.errors, out=endless, where=has_spread)
    upper, lower = np.quantile(ratios, _LEVELS, axis=0)
    found = np.stack([value - lower * error, value - upper * error])
    is_sparse = np.count_nonzero(~has_spread, axis=0) > _MOST_OF_SMALL_SPREAD * len(has_spread)
    if is_sparse.any():
        stand_in = _students_t if estimate.num_units < _LEAST_FOR_BCA else _bca
        found[:, is_sparse] = stand_in(estimate)[:, is_sparse]
    # What was never seen cannot be the end of an interval, however far an error times a quantile reaches.
    within: FloatArray = np.clip(found, estimate.lowest, estimate.highest)
    return within


_METHODS: dict[IntervalMethod, Callable[[Estimate], FloatArray]] = {
    "percentile": _percentile,
    "bca": _bca,
    "studentised": _studentised,
}
