"""Outliers among cases, by median and MAD, which the outliers themselves do not move."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

FEWEST_CASES = 5
"""Among fewer there is no telling which one is the odd one out."""
MOST_DEVIATIONS = 6.0
"""Robust standard deviations from the median beyond which a value is an outlier."""
MAD_TO_STD = 1.4826
"""Standard deviation of a normal distribution whose median absolute deviation is 1."""


def find_outliers(values: ArrayLike, *, least_spread: float) -> NDArray[np.bool_]:
    """Return which values (N) are outliers; none among fewer than five that are known.

    Args:
        values: NaN where unknown.
        least_spread: standard deviation to assume at least, so that a set of equal values has no outlier that differs by
            nothing much.
    """
    known = np.asarray(values, np.float64)
    if np.isfinite(known).sum() < FEWEST_CASES:
        return np.zeros(known.shape, np.bool_)
    distances = np.abs(known - np.nanmedian(known))
    spread = max(MAD_TO_STD * float(np.nanmedian(distances)), least_spread)
    # What is unknown is no outlier.
    return np.asarray(np.nan_to_num(distances) > MOST_DEVIATIONS * spread)
