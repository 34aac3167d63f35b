"""Bootstrap of means over cases, or over clusters of cases that are drawn as wholes."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from tumorseg.ops.significance.scores import Numbers
from tumorseg.types import FloatArray

SEED = 0
"""Of every bootstrap and every random test: the same scores give the same figures."""

_BLOCK = 1 << 18
"""Counts held at once, so that memory stays small for many cases."""


class Units(NamedTuple):
    """What a bootstrap draws: cases, or clusters of them."""

    sums: FloatArray
    """(K, M): sum of each column's values in a unit, less `shift` for each case."""
    sizes: FloatArray
    """(K,): cases in it, at least one."""
    shift: FloatArray
    """(M,): taken off every value first, so that values that are all alike stay alike to the last bit."""
    lowest: FloatArray
    """(M,): least value of a case."""
    highest: FloatArray
    """(M,): largest one."""

    @property
    def means(self) -> FloatArray:
        """Return the means (M,) over all cases, less `shift`."""
        means: FloatArray = self.sums.sum(axis=0) / self.sizes.sum()
        return means


def to_units(values: FloatArray, clusters: Numbers | None) -> Units:
    """Return the units of a sample.

    Args:
        values: (N, M), N at least 1, all defined.
        clusters: (N,); None where each case is a unit.
    """
    shift = values[0]
    centred = values - shift
    ends = values.min(axis=0), values.max(axis=0)
    if clusters is None:
        return Units(centred, np.ones(len(values)), shift, *ends)
    # Some clusters may have no case in this sample: the others are numbered anew.
    _, numbers = np.unique(clusters, return_inverse=True)
    sums = np.zeros((numbers.max() + 1, values.shape[1]))
    np.add.at(sums, numbers, centred)
    return Units(sums, np.bincount(numbers).astype(np.float64), shift, *ends)


def draws(num_units: int, num_resamples: int, generator: np.random.Generator) -> Iterator[FloatArray]:
    """Yield blocks (b, K) of how often each resample draws each unit, float64; every row sums to K."""
    rows = max(1, _BLOCK // num_units)
    for start in range(0, num_resamples, rows):
        count = min(rows, num_resamples - start)
        drawn = generator.integers(num_units, size=(count, num_units))
        # One bin per resample and unit, so that one pass counts a whole block.
        drawn += np.arange(count)[:, None] * num_units
        counts = np.bincount(drawn.ravel(), minlength=count * num_units)
        yield counts.reshape(count, num_units).astype(np.float64)


def resampled_means(units: Units, num_resamples: int) -> FloatArray:
    """Return the means (B, M) of resamples, less `units.shift`."""
    generator = np.random.default_rng(SEED)
    blocks = []
    for counts in draws(len(units.sizes), num_resamples, generator):
        blocks.append((counts @ units.sums) / (counts @ units.sizes)[:, None])
    return np.concatenate(blocks)


def standard_errors(counts: FloatArray, units: Units) -> tuple[FloatArray, FloatArray]:
    """Return means and their standard errors (B, M) in resamples, less `units.shift`.

    With units of several cases a mean is a ratio of two sums, and its error that of the linearised ratio.

    Args:
        counts: (B, K), how often each resample has each unit.
        units: K units of M columns, at least two.

    References:
        Cochran, Sampling Techniques, 3rd edition 1977, sections 2.11 and 9A.1.
    """
    totals = (counts @ units.sizes)[:, None]
    means = (counts @ units.sums) / totals
    # The sum over units of (sum - mean * size) squared, multiplied out.
    squares = counts @ units.sums**2
    squares -= 2 * means * (counts @ (units.sums * units.sizes[:, None]))
    squares += means**2 * (counts @ units.sizes**2)[:, None]
    num_units = len(units.sizes)
    # Rounding may leave a trace below 0 where all values are alike.
    variances = np.maximum(squares, 0) * num_units / (num_units - 1) / totals**2
    return means, np.sqrt(variances)
