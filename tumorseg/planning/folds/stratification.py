"""Iterative stratification: parts that hold similar shares of every column of a table."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tumorseg.types import FloatArray


def stratify(table: FloatArray, num_parts: int, order: Sequence[int]) -> list[int]:
    """Return the part (0 to num_parts - 1) of each row.

    The rows that hold the greatest share of any column come first: they are the hardest to place. Each goes to the part
    in which it adds least to the sum of squared shares, among those that are not full; this is the greedy rule of
    iterative stratification.

    Args:
        table: (N, F), not negative; the first column counts cases.
        num_parts: at most N.
        order: of rows that are equally hard to place.

    References:
        Sechidis et al., On the stratification of multi-label data, ECML PKDD 2011: rare labels are dealt out first.
    """
    totals = table.sum(axis=0)
    shares = table[:, totals > 0] / totals[totals > 0]
    sums = np.zeros((num_parts, shares.shape[1]))
    # Cases of a part that is full: the mean, rounded up.
    most = -(-totals[0] // num_parts)
    parts = [0] * len(table)
    # Rounded here and below, as ties are to be broken by the order, not by the last bit of another machine's sums.
    for row in sorted(order, key=lambda row: -round(float(shares[row].max()), 12)):
        open_parts = _open_parts(sums[:, 0] * totals[0], table[row, 0], most)
        costs = ((sums[open_parts] + shares[row]) ** 2 - sums[open_parts] ** 2).sum(axis=1)
        parts[row] = int(open_parts[int(np.argmin(np.round(costs, 15)))])
        sums[parts[row]] += shares[row]
    return parts


def _open_parts(counts: FloatArray, added: float, most: float) -> NDArray[np.intp]:
    """Return the parts that can take so many cases more; where none can, the smallest one."""
    # Shares times their total are whole numbers, but for the last bits.
    fitting = np.flatnonzero(np.round(counts) + added <= most)
    return fitting if fitting.size else np.flatnonzero(counts == counts.min())[:1]
