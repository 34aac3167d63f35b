"""One interval at a time."""

import numpy as np

from tumorseg.ops.significance.intervals import Interval, mean_intervals
from tumorseg.ops.significance.scores import Numbers
from tumorseg.schema.metrics import Intervals


def mean_interval(
    values: np.ndarray, *, clusters: Numbers | None = None, intervals: Intervals | None = None
) -> Interval | None:
    """Return the 95 % interval of the mean of values (N,)."""
    return mean_intervals(values[:, None], clusters=clusters, intervals=intervals)[0]
