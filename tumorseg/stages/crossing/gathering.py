"""What the cells of a matrix come to: gaps between datasets, and models held against each other."""

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np

from tumorseg.errors import InputError
from tumorseg.ops.generalisation import Sample, mean_gap
from tumorseg.ops.significance.comparing import compare
from tumorseg.ops.significance.effects import holm
from tumorseg.ops.significance.few import few_warnings
from tumorseg.ops.significance.ranking import rank
from tumorseg.ops.significance.scores import Numbers, cluster_numbers, size_table
from tumorseg.schema.comparisons import ComparedMetric, ComparisonRules, Ranking
from tumorseg.schema.crossing import Cell, Compared, Gap
from tumorseg.schema.metrics import CaseMetrics, Intervals, MetricsReport

Key = tuple[str, str]
"""Model and dataset of a cell."""


class ScoredCell(NamedTuple):
    """A cell without dropped channels, and all its scores."""

    cell: Cell
    report: MetricsReport


def gaps(cells: Mapping[Key, ScoredCell], metrics: Sequence[str]) -> list[Gap]:
    """Return how far each model falls from the cases that its folds held out to each dataset that it has never seen.

    Models that were trained without a part have no such cases: everything else they were trained on.

    Args:
        cells: that were scored, but for those of models that were trained here to leave a part out.
        metrics: to look at.
    """
    found: list[Gap] = []
    for model in dict.fromkeys(model for model, _ in cells):
        row = [scored for (name, _), scored in cells.items() if name == model]
        own = [scored for scored in row if scored.cell.held_out]
        others = [scored for scored in row if not scored.cell.held_out]
        if own:
            for other in others:
                found += _gaps_to(own, other, metrics)
    return found


def _gaps_to(own: Sequence[ScoredCell], other: ScoredCell, metrics: Sequence[str]) -> list[Gap]:
    known: list[Gap] = []
    name = ", ".join(scored.cell.dataset for scored in own)
    for label in other.cell.labels:
        sides = (_held_out_scores(own, label, metrics), _scores(other, label, metrics=metrics))
        for number, metric in enumerate(metrics):
            first, second = (Sample(side.values[:, number], side.clusters) for side in sides)
            gap = mean_gap(first, second, num_resamples=other.report.intervals.num_resamples)
            if gap is not None:
                known.append(
                    Gap(
                        model=other.cell.model,
                        own=name,
                        other=other.cell.dataset,
                        label=label,
                        metric=metric,
                        own_mean=gap.own_mean,
                        other_mean=gap.other_mean,
                        difference=gap.difference,
                        ci95=gap.ci95,
                        num=gap.num,
                        num_units=gap.num_units,
                    )
                )
    return known


def few_in(found: Sequence[Gap], intervals: Intervals) -> list[str]:
    """Return a line that names the gaps whose intervals rest on too little, or no line."""
    units = {f"{gap.model} to {gap.other}, {gap.label}, {gap.metric}": min(gap.num_units) for gap in found}
    return few_warnings(units, intervals, where="gaps: ")


def _held_out_scores(own: Sequence[ScoredCell], label: str, metrics: Sequence[str]) -> Sample:
    """Return the scores (N, metrics) of held-out cases over all datasets that hold some."""
    tables, clusters, offset = [], [], 0
    for scored in own:
        side = _scores(scored, label, metrics=metrics, only=frozenset(scored.cell.held_out))
        # Patients of different datasets are different ones, whatever their numbers.
        clusters.append(side.clusters + offset)
        offset += len(side.values)
        tables.append(side.values)
    return Sample(np.concatenate(tables), np.concatenate(clusters))


class _Clustered(NamedTuple):
    """Scores, or their sizes where nearer 0 is better, with a number for each case's cluster."""

    values: np.ndarray
    clusters: Numbers


def _scores(
    scored: ScoredCell, label: str, *, metrics: Sequence[str], only: frozenset[str] | None = None
) -> _Clustered:
    """Return the scores (N, metrics) of one label, of some cases or all."""
    report = scored.report
    cases: list[CaseMetrics] = []
    for case in report.cases:
        if case.label == label and (only is None or case.case_id in only):
            cases.append(case)
    ids = [case.case_id for case in cases]
    # Without a column each case is a cluster of its own.
    numbers = cluster_numbers(ids, report.attributes, report.intervals.cluster if ids else None)
    return _Clustered(size_table(cases, metrics), np.arange(len(ids)) if numbers is None else numbers)


FEWEST_RANKED = 3
"""Models on a dataset that are ranked; two are compared."""


class Comparisons(NamedTuple):
    """Every two models on every dataset."""

    rows: tuple[Compared, ...]
    warnings: tuple[str, ...]


def compare_models(cells: Mapping[Key, ScoredCell], intervals: Intervals) -> Comparisons:
    """Compare every two models over the cases of each dataset that both were scored on.

    Args:
        cells: that were scored.
        intervals: of mean differences; clusters are those of each dataset.
    """
    rows: list[Compared] = []
    tests: list[float | None] = []
    warnings: list[str] = []
    for dataset in dict.fromkeys(dataset for _, dataset in cells):
        column = [scored for (_, name), scored in cells.items() if name == dataset]
        for first, second in combinations(column, 2):
            try:
                found = compare(
                    first.report,
                    second.report,
                    names=(first.cell.model, second.cell.model),
                    rules=ComparisonRules(intervals=intervals.changed(cluster=first.report.intervals.cluster)),
                )
            except InputError as error:
                warnings.append(f"{_pair(first, second)}: not compared: {error}")
                continue
            rows += [_row(dataset, found.names, row) for row in found.rows]
            tests += [row.p_permutation for row in found.rows]
            warnings += (f"{_pair(first, second)}: {warning}" for warning in found.warnings)
    adjusted = [row.changed(p_adjusted=p) for row, p in zip(rows, holm(tests), strict=True)]
    return Comparisons(tuple(adjusted), tuple(warnings))


def _pair(first: ScoredCell, second: ScoredCell) -> str:
    return f"{first.cell.model} and {second.cell.model} on {first.cell.dataset}"


def _row(dataset: str, names: tuple[str, str], row: ComparedMetric) -> Compared:
    return Compared(
        dataset=dataset,
        first=names[0],
        second=names[1],
        label=row.label,
        metric=row.metric,
        num=row.num_pairs,
        difference=row.mean_difference,
        ci95=row.ci95,
        p=row.p_permutation,
        p_adjusted=None,
    )


def rank_models(cells: Mapping[Key, ScoredCell], intervals: Intervals) -> dict[str, Ranking]:
    """Rank the models of each dataset on which at least three were scored, over the cases that all were scored on.

    Args:
        cells: that were scored.
        intervals: of mean ranks; clusters are those of each dataset.
    """
    rankings = {}
    for dataset in dict.fromkeys(dataset for _, dataset in cells):
        reports = {model: scored.report for (model, name), scored in cells.items() if name == dataset}
        if len(reports) < FEWEST_RANKED:
            continue
        cluster = next(iter(reports.values())).intervals.cluster
        try:
            rankings[dataset] = rank(reports, rules=ComparisonRules(intervals=intervals.changed(cluster=cluster)))
        # Models that have nothing in common are told of where they are compared two by two.
        except InputError:
            continue
    return rankings
