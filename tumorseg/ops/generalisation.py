"""What a model loses from the dataset that it was trained on to one that it has never seen."""

from typing import NamedTuple

import numpy as np

from tumorseg.ops.significance.estimates import difference, mean_estimate
from tumorseg.ops.significance.intervals import bounds
from tumorseg.ops.significance.resampling import SEED, to_units
from tumorseg.ops.significance.scores import Numbers
from tumorseg.schema.metrics import IntervalMethod
from tumorseg.types import FloatArray


class Sample(NamedTuple):
    """Scores of the cases of one dataset."""

    values: FloatArray
    """(N,); NaN where undefined, which is left out."""
    clusters: Numbers | None = None
    """(N,), the cluster of each case, such as its patient; None where cases are drawn by themselves."""

    def defined(self) -> "Sample":
        """Return the cases that define the score."""
        known = ~np.isnan(self.values)
        return Sample(self.values[known], None if self.clusters is None else self.clusters[known])


class MeanGap(NamedTuple):
    """Difference of the means of two datasets."""

    own_mean: float
    other_mean: float
    ci95: tuple[float, float] | None
    """Of own less other; None where one of them has fewer than two units to draw."""
    num: tuple[int, int]
    """Cases on each side that define the score."""
    num_units: tuple[int, int]
    """Cases, or clusters of them, that were drawn."""

    @property
    def difference(self) -> float:
        """Return own less other."""
        return self.own_mean - self.other_mean


def mean_gap(
    own: Sample, other: Sample, *, num_resamples: int = 2000, method: IntervalMethod = "studentised"
) -> MeanGap | None:
    """Return how far the means of two datasets lie apart, with the interval of a bootstrap of both.

    The datasets have no case in common, so that each is resampled by itself; the same scores give the same interval.

    Args:
        own: scores on the dataset of the training.
        other: scores on another one.
        num_resamples: of the bootstrap.
        method: of the interval, as those of means have it.

    Returns:
        None where no case of one of them defines the score.

    References:
        Efron & Tibshirani, An Introduction to the Bootstrap, 1993, section 8.3 (two samples).
    """
    own, other = own.defined(), other.defined()
    if not own.values.size or not other.values.size:
        return None
    num = len(own.values), len(other.values)
    means = float(own.values.mean()), float(other.values.mean())
    first, second = (to_units(side.values[:, None], side.clusters) for side in (own, other))
    num_units = len(first.sizes), len(second.sizes)
    if min(num_units) < 2:
        return MeanGap(*means, None, num, num_units)
    # Streams of their own: from one stream, datasets of one size would draw the same places.
    streams = map(np.random.default_rng, np.random.SeedSequence(SEED).spawn(2))
    estimates = []
    for units, generator in zip((first, second), streams, strict=True):
        estimates.append(mean_estimate(units, num_resamples=num_resamples, generator=generator))
    lower, upper = bounds(difference(*estimates), method)[:, 0]
    return MeanGap(*means, (float(lower), float(upper)), num, num_units)
