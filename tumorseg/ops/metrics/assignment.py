"""Pairs of parts of two masks, each part in one pair at most, that gain the most together."""

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components, min_weight_full_bipartite_matching

from tumorseg.ops.metrics.components import Overlaps

_LARGEST_TABLE = 2**21
"""Possible pairs of a block up to which a table of all of them, 16 MiB, is solved sooner than the pairs that there are."""


def assigned(pairs: Overlaps, gains: NDArray[np.float64]) -> NDArray[np.intp]:
    """Return the pairs, each number at most once, that have the largest sum of gains.

    Args:
        pairs: the pairs (P,) that may be chosen.
        gains: (P,); pairs that gain nothing are left out.

    Returns:
        (N,): indices of pairs, rising.

    References:
        Crouse, On implementing 2D rectangular assignment algorithms, TAES 2016; Jonker & Volgenant, Computing 1987 (sparse).
    """
    worth = np.flatnonzero(gains > 0)
    block = _blocks(pairs.first[worth], pairs.second[worth])
    # Specks overlap in thousands of blocks of a pair or a few: a table of all would have a hundred million places.
    is_alone = np.bincount(block)[block] == 1
    chosen = [worth[is_alone]]
    worth, block = worth[~is_alone], block[~is_alone]
    order = np.argsort(block, kind="stable")
    for members in np.split(worth[order], np.flatnonzero(np.diff(block[order])) + 1):
        chosen.append(members[_solved(pairs.first[members], pairs.second[members], gains[members])])
    return np.sort(np.concatenate(chosen))


def _blocks(first: NDArray[np.int64], second: NDArray[np.int64]) -> NDArray[np.int32]:
    """Return the number of each pair's block (P,): pairs in different blocks share no part, nor do those that they lead to."""
    # As one graph: numbers of the second mask go on where those of the first end.
    num = int(first.max(initial=0)) + 1
    size = num + int(second.max(initial=0)) + 1
    edges = coo_array((np.ones(first.size, np.int8), (first, num + second)), shape=(size, size))
    block: NDArray[np.int32] = connected_components(edges, directed=False)[1]
    return block[first]


def _solved(first: NDArray[np.int64], second: NDArray[np.int64], gains: NDArray[np.float64]) -> NDArray[np.intp]:
    """Return the best pairs of one block; all gain something."""
    rows, row = np.unique(first, return_inverse=True)
    columns, column = np.unique(second, return_inverse=True)
    if rows.size * columns.size > _LARGEST_TABLE:
        return _solved_sparsely(row, column, gains)
    table, place = np.zeros((rows.size, columns.size)), np.full((rows.size, columns.size), -1)
    table[row, column], place[row, column] = gains, np.arange(gains.size)
    chosen: NDArray[np.intp] = place[linear_sum_assignment(table, maximize=True)]
    return chosen[chosen >= 0]


def _solved_sparsely(row: NDArray[np.intp], column: NDArray[np.intp], gains: NDArray[np.float64]) -> NDArray[np.intp]:
    num_rows, num_columns = int(row.max(initial=-1)) + 1, int(column.max(initial=-1)) + 1
    # A column for each row that stays alone, so that every row has one. All cost something, as what costs 0 is taken for no pair.
    spare = np.arange(num_rows)
    costs = np.concatenate((1 + gains.max() - gains, np.full(num_rows, 1 + gains.max())))
    ends = np.concatenate((row, spare)), np.concatenate((column, num_columns + spare))
    shape = (num_rows, num_columns + num_rows)
    chosen = np.stack(min_weight_full_bipartite_matching(coo_array((costs, ends), shape=shape).tocsr()))
    place = coo_array((np.arange(1, gains.size + 1), (row, column)), shape=shape).tocsr()
    found: NDArray[np.intp] = np.asarray(place[chosen[0], chosen[1]]).reshape(-1)
    return found[found > 0] - 1
