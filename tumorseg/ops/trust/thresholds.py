"""Quantiles of calibration cases that promise a share of new ones: split conformal prediction.

References:
    Vovk, Gammerman, Shafer (2005). Algorithmic Learning in a Random World.
    Angelopoulos, Bates (2023). Conformal Prediction: A Gentle Introduction. Foundations and Trends in Machine Learning 16.
"""

import math

import numpy as np

from tumorseg.types import FloatArray

LEAST_TAIL = 0.3
"""Mean excess that is assumed at least where the tail of a few scores is guessed."""


def rank_above(count: int, share: float) -> int:
    """Return the rank (1 is the smallest) of so many exchangeable values that a new one exceeds with at most a given probability.

    It is above `count` where there are too few.
    """
    # A hair less, as .95 x 20 is 19.000000000000004.
    return math.ceil((count + 1) * (1 - share) - 1e-9)


def upper_threshold(scores: FloatArray, share: float) -> float:
    """Return what a new score exceeds with a probability of at most `share`, if it is exchangeable with those that are known.

    Of fewer than 1 / share - 1 scores none does. Then the largest is taken for what it is, the quantile n / (n + 1), and the rest of
    the way is guessed from an exponential tail, whose scale is the mean score: wider the fewer there are.

    Args:
        scores: (N,), at least 0.
        share: above 0.

    Returns:
        At least 1, from which on a score is unusual by itself.
    """
    ordered = np.sort(scores)
    rank = rank_above(len(ordered), share)
    if rank <= len(ordered):
        return max(1.0, float(ordered[rank - 1]))
    largest = float(ordered[-1]) if len(ordered) else 0.0
    scale = max(float(ordered.mean()) if len(ordered) else 1.0, LEAST_TAIL)
    return max(1.0, largest) + scale * math.log(1 / (share * (len(ordered) + 1)))
