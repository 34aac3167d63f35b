"""What a bootstrap shows of a mean, or of the difference of two: its resamples, and their standard errors."""

from typing import NamedTuple

import numpy as np

from tumorseg.ops.significance.resampling import Units, draws, standard_errors
from tumorseg.types import FloatArray


class Estimate(NamedTuple):
    """M figures of one sample, or of two, and of B resamples."""

    value: FloatArray
    """(M,)"""
    error: FloatArray
    """(M,): its standard error."""
    values: FloatArray
    """(B, M): of the resamples."""
    errors: FloatArray
    """(B, M)"""
    influences: FloatArray
    """(K, M): by how much each unit moves the figure, up to a factor that all share."""
    degrees: FloatArray
    """(M,): degrees of freedom of the standard error."""
    lowest: FloatArray
    """(M,): least that the figure could be, whatever was drawn."""
    highest: FloatArray
    """(M,): the most, likewise."""
    num_units: int
    """Cases, or clusters, that were drawn from; of two samples those of the smaller one."""


def mean_estimate(units: Units, *, num_resamples: int, generator: np.random.Generator) -> Estimate:
    """Return the means of a sample and of its resamples.

    Args:
        units: K units of M columns, at least two.
        num_resamples: B.
        generator: that draws them.
    """
    num_units = len(units.sizes)
    value, error = standard_errors(np.ones((1, num_units)), units)
    blocks = [standard_errors(counts, units) for counts in draws(num_units, num_resamples, generator)]
    values, errors = (np.concatenate(parts) for parts in zip(*blocks, strict=True))
    values += units.shift
    return Estimate(
        value=value[0] + units.shift,
        error=error[0],
        values=values,
        errors=errors,
        influences=_influences(units),
        degrees=np.full(len(units.shift), num_units - 1.0),
        lowest=units.lowest,
        highest=units.highest,
        num_units=num_units,
    )


def _influences(units: Units) -> FloatArray:
    """Return by how much the mean without each unit falls short of the mean of these means (K, M)."""
    num_units = len(units.sizes)
    left = (units.sums.sum(axis=0) - units.sums) / (units.sizes.sum() - units.sizes)[:, None]
    influences: FloatArray = (left.mean(axis=0) - left) * (num_units - 1) / num_units
    return influences


def difference(first: Estimate, second: Estimate) -> Estimate:
    """Return first less second, of two samples that were drawn by themselves.

    References:
        Welch, The generalization of Student's problem when several different population variances are involved, Biometrika 1947;
        Efron & Tibshirani, An Introduction to the Bootstrap, 1993, section 8.3.
    """
    return Estimate(
        value=first.value - second.value,
        error=np.hypot(first.error, second.error),
        values=first.values - second.values,
        errors=np.hypot(first.errors, second.errors),
        influences=np.concatenate([first.influences, -second.influences]),
        degrees=_welch(first, second),
        lowest=first.lowest - second.highest,
        highest=first.highest - second.lowest,
        num_units=min(first.num_units, second.num_units),
    )


def _welch(first: Estimate, second: Estimate) -> FloatArray:
    """Return the degrees of freedom (M,) of the error of a difference."""
    both = first.error**2 + second.error**2
    parts = first.error**4 / first.degrees + second.error**4 / second.degrees
    # Without any spread no degree matters, but there has to be one.
    degrees: FloatArray = np.divide(both**2, parts, out=np.ones_like(parts), where=parts > 0)
    return degrees
