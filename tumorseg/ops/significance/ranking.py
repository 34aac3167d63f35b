"""Several models ranked over the cases that all were scored on."""

from collections.abc import Mapping, Sequence

import numpy as np

from tumorseg.errors import InputError
from tumorseg.ops.significance.few import few_warnings, num_units
from tumorseg.ops.significance.pairing import Shared, shared_scores
from tumorseg.ops.significance.placing import Setting, Task, place_models
from tumorseg.ops.significance.scores import (
    check_cluster_column,
    cluster_numbers,
    goodness_table,
    size_table,
    without_rounding,
)
from tumorseg.ops.significance.stability import case_ranks, places
from tumorseg.ops.significance.words import ranking_definitions
from tumorseg.ops.subgroups import by_label
from tumorseg.schema.comparisons import ComparisonRules, Ranking
from tumorseg.schema.metric_names import DEFAULT_METRICS, METRICS
from tumorseg.schema.metrics import MetricsReport
from tumorseg.types import FloatArray


def rank(
    reports: Mapping[str, MetricsReport], *, rules: ComparisonRules | None = None, metrics: Sequence[str] = ()
) -> Ranking:
    """Rank models over the cases and labels that all reports have: ranks within cases are averaged over cases.

    Ranks within cases need no common unit, and a failure without a value ranks last. The ranking of the means is told beside them.

    Args:
        reports: by the name of their model, at least two.
        rules: how; the defaults if None. Subgroups are left aside.
        metrics: to rank by; if none are given the default ones that all measured, else all that all measured.

    Raises:
        InputError: fewer than two reports, or they have nothing in common, or not these metrics.

    References:
        Bakas et al., Identifying the best machine learning algorithms for brain tumor segmentation, 2018 (ranks within cases, permutation
        tests); Maier-Hein et al., Why rankings of biomedical image analysis competitions should be interpreted with care, Nature
        Communications 2018; Wiesenfarth et al., Scientific Reports 2021 (challengeR).
    """
    how = rules or ComparisonRules()
    if len(reports) < 2:
        raise InputError(f"found {len(reports)} models; a ranking takes at least two")
    shared = shared_scores(reports)
    ids, cluster = shared.case_ids, how.intervals.cluster
    check_cluster_column(ids, shared.attributes, cluster)
    chosen = _chosen(shared, metrics)
    tasks = _tasks(shared, chosen)
    if not tasks:
        raise InputError(f"no case can be ranked by {', '.join(chosen)}: in every case it is undefined for a model")
    setting = Setting(tuple(reports), cluster_numbers(ids, shared.attributes, cluster), how)
    overall = _join(tasks)
    counts = {"mean ranks": _num_units(overall, setting)}
    counts |= {f"ranks by {task.label} {task.metric}": _num_units(task, setting) for task in tasks}
    return Ranking(
        names=tuple(reports),
        rules=how,
        definitions=ranking_definitions(chosen, how),
        metrics=chosen,
        labels=shared.labels,
        num_cases=len(ids),
        left_out=dict(zip(reports, shared.left_out, strict=True)),
        overall=place_models([overall], setting)[0],
        tasks=tuple(place_models(tasks, setting)),
        warnings=(*shared.warnings, *few_warnings(counts, how.intervals)),
    )


def _num_units(task: Task, setting: Setting) -> int:
    """Return how many cases, or clusters of them, a ranking rests on."""
    # A case ranks all models or none.
    return num_units(task.ranks[:, :1], setting.clusters)[0]


def _chosen(shared: Shared, metrics: Sequence[str]) -> tuple[str, ...]:
    """Return the metrics to rank by."""
    missing = [name for name in metrics if name not in shared.metrics]
    if missing:
        raise InputError(f"{', '.join(missing)}: not measured in all; expected some of {', '.join(shared.metrics)}")
    wanted = metrics or DEFAULT_METRICS
    return tuple(name for name in shared.metrics if name in wanted) or shared.metrics


def _tasks(shared: Shared, metrics: Sequence[str]) -> list[Task]:
    """Return the ranks by each metric of each label, but for those that rank no case."""
    place = {case_id: row for row, case_id in enumerate(shared.case_ids)}
    tables = [by_label(cases) for cases in shared.cases]
    tasks = []
    for label, first in tables[0].items():
        rows = [place[case.case_id] for case in first]
        # (N, M, R), so that models stand side by side.
        goodness = np.stack([goodness_table(table[label], metrics) for table in tables], axis=-1)
        sizes = np.stack([size_table(table[label], metrics) for table in tables], axis=-1)
        for column, name in enumerate(metrics):
            ranks = np.full((len(place), len(tables)), np.nan)
            ranks[rows] = _ranks(goodness[:, column])
            if not np.isnan(ranks).all():
                tasks.append(Task(label, name, ranks, *_by_mean(sizes[:, column], METRICS[name].sign)))
    return tasks


def _ranks(goodness: FloatArray) -> FloatArray:
    """Return the ranks (N, R) within cases; NaN in cases where one model cannot be ordered."""
    # All models by one column, so that rounding is the same for all.
    ranks = case_ranks(without_rounding(goodness.reshape(-1, 1)).reshape(goodness.shape))
    ranks[np.isnan(goodness).any(axis=1)] = np.nan
    return ranks


def _by_mean(values: FloatArray, sign: int) -> tuple[FloatArray, FloatArray]:
    """Return the means (R,) of a metric over the cases (N, R) that define it for all, and their ranks (R,)."""
    defined = values[~np.isnan(values).any(axis=1)]
    if not len(defined):
        return np.full(values.shape[1], np.nan), np.full(values.shape[1], np.nan)
    means = defined.mean(axis=0)
    return means, places(-sign * means)


def _join(tasks: Sequence[Task]) -> Task:
    """Return the mean of the ranks of all tasks, in each case over those that rank it."""
    ranks = np.stack([task.ranks for task in tasks])
    counts = (~np.isnan(ranks)).sum(axis=0)
    joined = np.divide(np.nansum(ranks, axis=0), counts, out=np.full(counts.shape, np.nan), where=counts > 0)
    nothing = np.full(joined.shape[1], np.nan)
    by_mean = [task.places_by_mean for task in tasks if not np.isnan(task.places_by_mean).any()]
    return Task(None, None, joined, nothing, np.mean(by_mean, axis=0) if by_mean else nothing)
