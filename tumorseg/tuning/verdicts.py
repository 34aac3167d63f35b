"""Whether a candidate is better than the plan as it was, on cases that no trial has seen.

A gain has two kinds of luck in it: which cases the folds hold out, and how a training happens to end. Cases of one fold share their
trainings, so that no number of cases shows the second kind. It shows in how far apart trainings of one plan with different seeds lie.
"""

import math
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import NamedTuple

import numpy as np

from tumorseg.ops.significance.effects import holm
from tumorseg.ops.significance.intervals import Interval, mean_intervals
from tumorseg.ops.significance.paired_tests import permutation_tests
from tumorseg.ops.significance.scores import Numbers, cluster_numbers
from tumorseg.schema.tuning import Objective, Verdict
from tumorseg.tuning.judged_folds import Contender, JudgedFold, judged_folds, shared_folds
from tumorseg.types import FloatArray

LEVEL = 0.025
"""Of a one-sided test, as the interval leaves so much on each side."""


class SeedSpread(NamedTuple):
    """How far apart trainings lie that differ by their seed alone."""

    variance: float
    """Of the mean over the cases of a fold."""
    degrees: int
    """Of freedom."""


class _Gains(NamedTuple):
    """A candidate less the plan as it was, case by case."""

    values: FloatArray
    """(N,), above 0 where the candidate is better."""
    case_ids: list[str]
    trainings: float
    """Factor from the variance of one training to that of the mean gain."""


def verdicts(
    default: Contender, candidates: Sequence[Contender], *, objective: Objective, patients: Mapping[str, str]
) -> tuple[Verdict, ...]:
    """Compare candidates with the plan as it was, in their order.

    The gain is the mean over cases of the difference between means over seeds. It is tested by exchanging the two in cases, all those of a
    patient together (one-sided, Holm over the candidates). Its interval is that of the mean over cases, widened by the spread of trainings
    pooled over all plans and folds. A gain is one that both find. With one training of each nothing shows that spread: the interval is of
    cases alone, and nothing is a gain.

    Args:
        default: the plan as it was.
        candidates: those without a fold that the default was judged on get no verdict.
        objective: that the values are of.
        patients: of cases, by case_id; a case without one stands for itself.

    References:
        Bouthillier et al., Accounting for variance in machine learning benchmarks, MLSys 2021: seeds beside cases.
    """
    folds = judged_folds([default, *candidates], objective)
    spread = seed_spread([table for fold in folds for table in fold.tables.values()])
    compared = {one.number: _gains(folds, one.number, default.number) for one in candidates}
    found = {number: gains for number, gains in compared.items() if gains is not None}
    tests = {number: _one_sided(gains, patients) for number, gains in found.items()}
    adjusted = dict(zip(tests, holm(list(tests.values())), strict=True))
    judged = []
    for number, gains in found.items():
        interval = _interval(gains, patients, spread)
        p_holm = adjusted[number]
        holds = interval is not None and interval[0] > 0 and p_holm is not None and p_holm < LEVEL
        # Cases of one fold share their trainings: without a spread of seeds all of a gain may be their luck.
        is_gain = holds and spread is not None
        mean = float(gains.values.mean())
        verdict = Verdict(number=number, gain=mean, ci95=interval, p=tests[number], p_holm=p_holm, is_gain=is_gain)
        judged.append(verdict)
    return tuple(judged)


def case_gains(
    default: Contender, candidates: Sequence[Contender], *, objective: Objective
) -> dict[int, dict[str, float]]:
    """Return the difference in each case between means over seeds, above 0 where a candidate is better, by its number and case_id."""
    folds = judged_folds([default, *candidates], objective)
    found = {}
    for one in candidates:
        gains = _gains(folds, one.number, default.number)
        if gains is not None:
            found[one.number] = dict(zip(gains.case_ids, gains.values.tolist(), strict=True))
    return found


def best_gain(found: Sequence[Verdict]) -> Verdict | None:
    """Return the largest gain that is one; None if none is."""
    return max((verdict for verdict in found if verdict.is_gain), key=lambda verdict: verdict.gain, default=None)


def seed_spread(tables: Sequence[FloatArray]) -> SeedSpread | None:
    """Return how far apart trainings of one plan on one fold lie, pooled; None where there is one of each.

    Args:
        tables: (trainings, cases) of each plan and fold.
    """
    squares, degrees = 0.0, 0
    for table in tables:
        means = table.mean(axis=1)
        squares += float(((means - means.mean()) ** 2).sum())
        degrees += len(means) - 1
    return SeedSpread(squares / degrees, degrees) if degrees else None


def _gains(folds: Sequence[JudgedFold], number: int, default: int) -> _Gains | None:
    """Return the differences on all folds that both were judged on; None without any."""
    shared = shared_folds(folds, (number, default))
    if not shared:
        return None
    total = sum(len(fold.case_ids) for fold in shared)
    differences, trainings = [], 0.0
    for fold in shared:
        new, old = fold.tables[number], fold.tables[default]
        differences.append(new.mean(axis=0) - old.mean(axis=0))
        # The mean gain is a mean over folds, each weighted by its cases.
        trainings += (len(fold.case_ids) / total) ** 2 * (1 / len(new) + 1 / len(old))
    case_ids = list(chain.from_iterable(fold.case_ids for fold in shared))
    return _Gains(np.concatenate(differences), case_ids, trainings)


def _clusters(gains: _Gains, patients: Mapping[str, str]) -> Numbers | None:
    attributes = {case_id: {"patient": patient} for case_id, patient in patients.items()}
    return cluster_numbers(gains.case_ids, attributes, "patient" if patients else None)


def _one_sided(gains: _Gains, patients: Mapping[str, str]) -> float:
    """Return p of no gain."""
    both = permutation_tests(gains.values[:, None], clusters=_clusters(gains, patients))[0]
    assert both is not None  # there is a case at least
    # Changes of sign are symmetric, so that a side has half of what lies as far out on either.
    return both / 2 if gains.values.mean() > 0 else 1 - both / 2


def _interval(gains: _Gains, patients: Mapping[str, str], spread: SeedSpread | None) -> Interval | None:
    """Return the interval of the mean gain; None of fewer than two cases or patients."""
    from scipy.special import stdtrit

    found = mean_intervals(gains.values[:, None], clusters=_clusters(gains, patients))[0]
    if found is None or spread is None:
        return found
    quantile = float(stdtrit(spread.degrees, 1 - LEVEL))
    by_seeds = quantile * math.sqrt(spread.variance * gains.trainings)
    mean = float(gains.values.mean())
    # Two kinds of luck that have nothing to do with each other: their reaches add up in quadrature.
    return mean - math.hypot(mean - found[0], by_seeds), mean + math.hypot(found[1] - mean, by_seeds)
