"""How large a difference is, and how it is told from chance where many were looked at."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from tumorseg.ops.significance.paired_tests import signed_ranks
from tumorseg.types import FloatArray

_ALIKE = 1e-10
"""Share of the largest gain by which gains differ that are alike up to rounding."""


class Outcomes(NamedTuple):
    """Pairs by which model is the better one."""

    wins: int
    ties: int
    losses: int

    @property
    def superiority(self) -> float | None:
        """Return the share of pairs that are won, ties by half."""
        total = sum(self)
        return (self.wins + self.ties / 2) / total if total else None


def outcomes(gains: FloatArray, tolerance: float) -> Outcomes:
    """Count wins, ties and losses.

    Args:
        gains: (N,), by how much the first is better; infinite where only the other failed.
        tolerance: the largest gain that is a tie, itself included.
    """
    # The last bit of a difference is no difference.
    limit = tolerance * (1 + 1e-9)
    wins, losses = int(np.count_nonzero(gains > limit)), int(np.count_nonzero(gains < -limit))
    return Outcomes(wins, len(gains) - wins - losses, losses)


def cohens_dz(gains: FloatArray) -> float | None:
    """Return the mean of gains (N,) over their sample standard deviation; None for fewer than two, or without spread.

    References:
        Lakens, Calculating and reporting effect sizes, Frontiers in Psychology 2013.
    """
    # Gains that are all alike have a deviation of a rounding, not of 0.
    if gains.size < 2 or np.ptp(gains) <= _ALIKE * np.abs(gains).max():
        return None
    return float(gains.mean() / gains.std(ddof=1))


def rank_biserial(gains: FloatArray) -> float | None:
    """Return the sum of the signed ranks of gains (N,) over the sum of their sizes, -1 to 1; None where all are 0.

    References:
        Kerby, The simple difference formula, Comprehensive Psychology 2014.
    """
    ranks = signed_ranks(gains)
    total = np.abs(ranks).sum()
    return float(ranks.sum() / total) if total else None


def holm(values: Sequence[float | None]) -> list[float | None]:
    """Return p adjusted by Holm's step-down method, each in its place; None is no test, and stays.

    References:
        Holm, A simple sequentially rejective multiple test procedure, Scandinavian Journal of Statistics 1979.
    """
    tests = [(value, place) for place, value in enumerate(values) if value is not None]
    adjusted: list[float | None] = [None] * len(values)
    highest = 0.0
    for rank, (value, place) in enumerate(sorted(tests)):
        # No p may be below that of a test that was the more extreme.
        highest = max(highest, min(1.0, value * (len(tests) - rank)))
        adjusted[place] = highest
    return adjusted
