"""Two models compared over the cases that both were scored on."""

import itertools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from tumorseg.errors import InputError
from tumorseg.ops.significance.effects import holm
from tumorseg.ops.significance.few import few_warnings, num_units
from tumorseg.ops.significance.pairing import Shared, shared_scores
from tumorseg.ops.significance.pairs import Pairs, compare_metrics
from tumorseg.ops.significance.scores import (
    check_cluster_column,
    cluster_numbers,
    differences,
    goodness_table,
    size_table,
)
from tumorseg.ops.significance.words import comparison_definitions
from tumorseg.ops.subgroups import Subgroups, by_label, split_by
from tumorseg.schema.comparisons import CaseDifference, ComparedMetric, Comparison, ComparisonRules
from tumorseg.schema.metrics import MetricsReport


def compare(
    first: MetricsReport,
    second: MetricsReport,
    *,
    names: tuple[str, str] = ("first", "second"),
    rules: ComparisonRules | None = None,
) -> Comparison:
    """Compare two models over the cases, labels and metrics that both reports have.

    Args:
        first: scores of the model that is looked at.
        second: scores of the one that it is held against.
        names: of the two, different.
        rules: how; the defaults if None.

    Raises:
        InputError: the reports have nothing in common, or a column of clusters or subgroups does not fit.
    """
    how = rules or ComparisonRules()
    if names[0] == names[1]:
        raise InputError(f"both models are called {names[0]!r}; expected two names")
    shared = shared_scores(dict(zip(names, (first, second), strict=True)))
    check_cluster_column(shared.case_ids, shared.attributes, how.intervals.cluster)
    groups = split_by(shared.cases[0], shared.attributes, how.subgroup_columns)
    cuts = {f"subgroups by {one.column}": one.rule for one in groups}
    pairs = list(_pairs(shared, how))
    compared = {one.column: _compare_groups(shared, one, how) for one in groups}
    few = [
        *few_warnings(_num_units(pairs), how.intervals),
        *(line for found in compared.values() for line in found.few),
    ]
    return Comparison(
        names=names,
        rules=how,
        definitions=comparison_definitions(shared.metrics, how) | cuts,
        metrics=shared.metrics,
        labels=shared.labels,
        num_cases=shared.num_cases,
        first_only=shared.left_out[0],
        second_only=shared.left_out[1],
        rows=tuple(_adjust(_rows(pairs, how))),
        subgroups={column: found.rows for column, found in compared.items()},
        differences=tuple(sorted(_differences(pairs), key=lambda one: one.case_id)),
        warnings=(*shared.warnings, *few),
    )


def _pairs(shared: Shared, how: ComparisonRules) -> Iterator[Pairs]:
    """Yield the pairs of each label."""
    firsts, seconds = (by_label(cases) for cases in shared.cases)
    for label, first in firsts.items():
        second, metrics = seconds[label], shared.metrics
        ids = [case.case_id for case in first]
        yield Pairs(
            label=label,
            metrics=metrics,
            case_ids=ids,
            first=size_table(first, metrics),
            second=size_table(second, metrics),
            gains=differences(goodness_table(first, metrics), goodness_table(second, metrics)),
            clusters=cluster_numbers(ids, shared.attributes, how.intervals.cluster),
        )


def _rows(pairs: Sequence[Pairs], how: ComparisonRules) -> list[ComparedMetric]:
    return [row for one in pairs for row in compare_metrics(one, how)]


class _Groups(NamedTuple):
    """The subgroups of one column."""

    rows: dict[str, tuple[ComparedMetric, ...]]
    few: list[str]
    """A line on intervals that rest on few pairs, if there are any."""


def _compare_groups(shared: Shared, found: Subgroups, how: ComparisonRules) -> _Groups:
    """Compare within each subgroup of one column; p are adjusted over all of them."""
    rows: list[ComparedMetric] = []
    sizes: dict[str, int] = {}
    counts: dict[str, int] = {}
    for name, cases in found.groups.items():
        pairs = list(_pairs(shared.only(cases), how))
        group = _rows(pairs, how)
        sizes[name] = len(group)
        rows += group
        counts |= {f"{name} {figure}": count for figure, count in _num_units(pairs).items()}
    # They stay in order, so that each group takes back as many as it gave.
    adjusted = iter(_adjust(rows))
    taken = {name: tuple(itertools.islice(adjusted, size)) for name, size in sizes.items()}
    return _Groups(taken, few_warnings(counts, how.intervals, where=f"subgroups by {found.column}: "))


def _adjust(rows: Sequence[ComparedMetric]) -> list[ComparedMetric]:
    """Return rows with their p adjusted over all of them."""
    permutation = holm([row.p_permutation for row in rows])
    wilcoxon = holm([row.p_wilcoxon for row in rows])
    adjusted = []
    for row, of_means, of_ranks in zip(rows, permutation, wilcoxon, strict=True):
        adjusted.append(row.changed(p_permutation_holm=of_means, p_wilcoxon_holm=of_ranks))
    return adjusted


def _differences(pairs: Sequence[Pairs]) -> Iterator[CaseDifference]:
    """Yield what the two differ by in each case and label."""
    for one in pairs:
        for case_id, row in zip(one.case_ids, one.differences, strict=True):
            values = [None if np.isnan(value) else float(value) for value in row]
            yield CaseDifference(
                case_id=case_id, label=one.label, differences=dict(zip(one.metrics, values, strict=True))
            )


def _num_units(pairs: Sequence[Pairs]) -> dict[str, int]:
    """Return how many pairs, or clusters of them, each difference rests on."""
    counts: dict[str, int] = {}
    for one in pairs:
        found = num_units(one.differences, one.clusters)
        counts |= {f"{one.label} {name}": count for name, count in zip(one.metrics, found, strict=True)}
    return counts
