"""Which trials are among the best: by one objective, or by several that are traded against each other."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tumorseg.schema.tuning import Objective
from tumorseg.tuning.objectives import sign_of
from tumorseg.types import FloatArray

ETA = 3
"""One of so many trials at least goes on at each rung of successive halving."""


def losses_of(objectives: Sequence[Objective], values: Sequence[Sequence[float]]) -> FloatArray:
    """Return scores (trials, objectives) as numbers of which less is better."""
    signs = [-sign_of(objective) for objective in objectives]
    return np.array(values, dtype=np.float64).reshape(-1, len(signs)) * signs


def domination_ranks(losses: FloatArray) -> list[int]:
    """Return the rank of each trial: 0 where none is better, 1 where none is once these are left out, and so on.

    A trial is better than another if it is no worse in any objective and better in one.

    Args:
        losses: (trials, objectives), float; less is better.

    References:
        Deb et al. 2002, A fast and elitist multiobjective genetic algorithm: NSGA-II, section III.A.
    """
    is_no_worse = np.all(losses[:, None] <= losses[None], axis=-1)
    is_better: NDArray[np.bool_] = is_no_worse & np.any(losses[:, None] < losses[None], axis=-1)
    found = np.full(len(losses), -1)
    rank = 0
    while (found < 0).any():
        is_left = found < 0
        found[is_left & ~is_better[is_left].any(axis=0)] = rank
        rank += 1
    return [int(one) for one in found]


def front(losses: FloatArray) -> list[int]:
    """Return the places of the trials that no other is better than, ascending."""
    return [place for place, rank in enumerate(domination_ranks(losses)) if rank == 0]


def goes_on(losses: FloatArray, place: int, eta: int = ETA) -> bool:
    """Return whether a trial is among the best of those that reached a rung, so that it goes on to the next.

    The best are those of the lowest rank of non-domination, and of one rank those of the lowest first objective. A trial that none is better
    than always goes on: it may be what is looked for.

    Args:
        losses: (trials, objectives), float, of the trials that reached the rung so far; less is better.
        place: of the trial among them.
        eta: one of so many goes on at least, rounded up.

    References:
        Li et al. 2020, A System for Massively Parallel Hyperparameter Tuning, algorithm 2.
    """
    ranks = domination_ranks(losses)
    order = sorted(range(len(losses)), key=lambda one: (ranks[one], float(losses[one, 0]), one))
    return ranks[place] == 0 or order.index(place) < math.ceil(len(losses) / eta)
