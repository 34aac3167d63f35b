"""Places of several models, from their ranks within cases: intervals, stability, tests of all pairs."""

import itertools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from tumorseg.ops.significance.effects import holm
from tumorseg.ops.significance.intervals import Interval, mean_intervals
from tumorseg.ops.significance.paired_tests import permutation_tests
from tumorseg.ops.significance.scores import Numbers
from tumorseg.ops.significance.stability import places, stability
from tumorseg.schema.comparisons import ComparisonRules, RankedModel, RankedPair, RankedTask
from tumorseg.types import FloatArray


class Setting(NamedTuple):
    """What all rankings of one call share."""

    names: Sequence[str]
    """R models."""
    clusters: Numbers | None
    """(N,): of the cases."""
    rules: ComparisonRules


class Task(NamedTuple):
    """Ranks within cases, by one metric of one label or by all."""

    label: str | None
    metric: str | None
    ranks: FloatArray
    """(N cases, R models); NaN in cases that are not ranked by it."""
    means: FloatArray
    """(R,): of the metric over the cases that define it for all models; NaN without any, and of several metrics."""
    places_by_mean: FloatArray
    """(R,): ranks of the means, or means of such ranks; NaN without means."""

    @property
    def mean_ranks(self) -> FloatArray:
        """Return the mean rank (R,) of each model."""
        means: FloatArray = np.nanmean(self.ranks, axis=0)
        return means


class _Tested(NamedTuple):
    """Two models by their numbers, with the tests of their ranks."""

    gap: float
    p: float
    adjusted: float


def place_models(tasks: Sequence[Task], setting: Setting) -> list[RankedTask]:
    """Return the ranking by each task; the tests of all pairs in all of them are one family for Holm's method."""
    rules = setting.rules
    # Side by side, so that all share the resamples and the changes of sign.
    ranks = np.concatenate([task.ranks for task in tasks], axis=1)
    intervals = iter(mean_intervals(ranks, clusters=setting.clusters, intervals=rules.intervals))
    tests = _tests(tasks, setting)
    num_models = len(setting.names)
    ranked = []
    for task in tasks:
        bounds = list(itertools.islice(intervals, num_models))
        pairs = {pair: next(tests) for pair in itertools.combinations(range(num_models), 2)}
        ranked.append(_place(task, setting, bounds, pairs))
    return ranked


def _tests(tasks: Sequence[Task], setting: Setting) -> Iterator[_Tested]:
    """Yield the tests of all pairs of models, task by task."""
    gaps = []
    for task in tasks:
        gaps += [task.ranks[:, i] - task.ranks[:, j] for i, j in itertools.combinations(range(len(setting.names)), 2)]
    table = np.stack(gaps, axis=1)
    values = permutation_tests(table, clusters=setting.clusters, num_permutations=setting.rules.num_permutations)
    for gap, value, adjusted in zip(np.nanmean(table, axis=0), values, holm(values), strict=True):
        # A task ranks one case at least, so that there is a test of it.
        assert value is not None
        assert adjusted is not None
        yield _Tested(float(gap), value, adjusted)


def _place(
    task: Task, setting: Setting, bounds: Sequence[Interval | None], pairs: dict[tuple[int, int], _Tested]
) -> RankedTask:
    """Return one ranking, the best model first."""
    known = ~np.isnan(task.ranks).any(axis=1)
    clusters = None if setting.clusters is None else setting.clusters[known]
    firm = stability(task.ranks[known], clusters=clusters, num_resamples=setting.rules.intervals.num_resamples)
    mean_ranks = task.mean_ranks
    ranks = places(mean_ranks)
    order = sorted(range(len(setting.names)), key=lambda model: ranks[model])
    models = []
    for model in order:
        low, high = firm.rank_intervals[model]
        ranked = RankedModel(
            name=setting.names[model],
            mean=_known(task.means[model]),
            rank_by_mean=_known(task.places_by_mean[model]),
            mean_rank=float(mean_ranks[model]),
            ci95=_among_ranks(bounds[model], len(order)),
            rank=float(ranks[model]),
            rank_shares=tuple(firm.rank_shares[model].tolist()),
            rank_interval=(int(low), int(high)),
        )
        models.append(ranked)
    return RankedTask(
        label=task.label,
        metric=task.metric,
        num_cases=int(known.sum()),
        models=tuple(models),
        pairs=tuple(_ordered_pairs(order, setting.names, pairs)),
        kendall_tau=firm.kendall_tau,
    )


def _among_ranks(interval: Interval | None, num_models: int) -> Interval | None:
    """Return the part of an interval that lies where ranks do: the studentised one may reach beyond."""
    if interval is None:
        return None
    lower, upper = (min(max(bound, 1.0), float(num_models)) for bound in interval)
    return lower, upper


def _known(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _ordered_pairs(
    order: Sequence[int], names: Sequence[str], pairs: dict[tuple[int, int], _Tested]
) -> Iterator[RankedPair]:
    """Yield all pairs with the better placed model first."""
    for first, second in itertools.combinations(order, 2):
        tested = pairs[min(first, second), max(first, second)]
        yield RankedPair(
            first=names[first],
            second=names[second],
            mean_rank_difference=tested.gap if first < second else -tested.gap,
            p_permutation=tested.p,
            p_permutation_holm=tested.adjusted,
        )
