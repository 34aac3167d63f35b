"""Summaries of the scores of many cases: means, spreads and confidence intervals, overall and by subgroup."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from tumorseg.ops.metrics.definitions import definitions
from tumorseg.ops.significance.few import few_warnings, num_units
from tumorseg.ops.significance.intervals import Interval, mean_intervals
from tumorseg.ops.significance.scores import Numbers, check_cluster_column, cluster_numbers, score_table
from tumorseg.ops.significance.words import summary_definitions
from tumorseg.ops.subgroups import Attributes, Subgroups, by_label, split_by
from tumorseg.schema.metric_names import METRICS
from tumorseg.schema.metrics import CaseMetrics, Intervals, LabelSummary, MetricsReport, MetricSummary
from tumorseg.schema.score_rules import ScoreRules
from tumorseg.types import FloatArray


class Summarizing(NamedTuple):
    """How scores are summarised."""

    metrics: Sequence[str]
    intervals: Intervals
    attributes: Attributes
    """What is known of cases; the column of the clusters is looked up in it."""


def metrics_report(
    cases: Sequence[CaseMetrics],
    *,
    rules: ScoreRules,
    intervals: Intervals | None = None,
    attributes: Attributes | None = None,
    subgroup_columns: Sequence[str] = (),
) -> MetricsReport:
    """Return the metrics document of a set of scored cases, with definitions and summaries.

    Args:
        cases: scores of any labels.
        rules: by which they were scored.
        intervals: how intervals are computed; the defaults if None.
        attributes: case to column to value: what is known of cases, scored or not.
        subgroup_columns: columns of `attributes`, or `reference_volume_ml`, each with a summary of its own for every value; `age=40,60`
            states edges.

    Raises:
        InputError: a column of subgroups, or that of clusters, is in no case, or has too many values, or is named twice.
    """
    how = Summarizing(rules.metrics, intervals or Intervals(), attributes or {})
    check_cluster_column([case.case_id for case in cases], how.attributes, how.intervals.cluster)
    found = split_by(cases, how.attributes, subgroup_columns)
    cuts = {f"subgroups by {one.column}": one.rule for one in found}
    few = [
        *few_warnings(_num_units(cases, how), how.intervals),
        *(line for one in found for line in _few_in_groups(one, how)),
    ]
    return MetricsReport(
        definitions=definitions(rules) | summary_definitions(how.intervals) | cuts,
        metrics=rules.metrics,
        tolerance_mm=rules.tolerance_mm,
        tolerances_mm=rules.tolerances_mm,
        intervals=how.intervals,
        cases=tuple(cases),
        attributes={case_id: dict(columns) for case_id, columns in how.attributes.items()},
        summary=summarize(cases, how),
        subgroups={one.column: _summarize_groups(one, how) for one in found},
        warnings=tuple(few),
    )


def summarize(cases: Sequence[CaseMetrics], how: Summarizing) -> dict[str, LabelSummary]:
    """Summarise each label or region, in the order in which they first appear."""
    return {label: _summarize_label(group, how) for label, group in by_label(cases).items()}


def _summarize_groups(found: Subgroups, how: Summarizing) -> dict[str, dict[str, LabelSummary]]:
    return {name: summarize(group, how) for name, group in found.groups.items()}


def _summarize_label(cases: Sequence[CaseMetrics], how: Summarizing) -> LabelSummary:
    table = score_table(cases, how.metrics)
    found = mean_intervals(table, clusters=_clusters(cases, how), intervals=how.intervals)
    metrics = {}
    for name, column, interval in zip(how.metrics, table.T, found, strict=True):
        metrics[name] = _summarize_metric(column, _within_range(name, interval))
    return LabelSummary(
        metrics=metrics,
        num_cases=len({case.case_id for case in cases}),
        num_undefined=sum(case.is_undefined for case in cases),
        num_missed=sum(case.is_missed for case in cases),
        num_invented=sum(case.is_invented for case in cases),
    )


def _clusters(cases: Sequence[CaseMetrics], how: Summarizing) -> Numbers | None:
    return cluster_numbers([case.case_id for case in cases], how.attributes, how.intervals.cluster)


def _summarize_metric(values: FloatArray, interval: Interval | None) -> MetricSummary:
    defined = values[~np.isnan(values)]
    mean = float(defined.mean()) if defined.size else None
    # One value alone has no spread: its n - 1 is 0.
    std = float(defined.std(ddof=1)) if defined.size > 1 else None
    return MetricSummary(mean=mean, std=std, ci95=interval, num=defined.size)


def _within_range(name: str, interval: Interval | None) -> Interval | None:
    """Return the part of an interval that lies where means can be: the studentised one may reach beyond."""
    metric = METRICS[name]
    if interval is None or metric.better == "nearer 0":
        return interval
    most = 1.0 if metric.is_share else np.inf
    lower, upper = (min(max(bound, 0.0), most) for bound in interval)
    return lower, upper


def _num_units(cases: Sequence[CaseMetrics], how: Summarizing) -> dict[str, int]:
    """Return how many cases, or clusters of them, the mean of each metric of each label rests on."""
    counts: dict[str, int] = {}
    for label, group in by_label(cases).items():
        found = num_units(score_table(group, how.metrics), _clusters(group, how))
        counts |= {f"{label} {name}": count for name, count in zip(how.metrics, found, strict=True)}
    return counts


def _few_in_groups(found: Subgroups, how: Summarizing) -> list[str]:
    """Return lines on intervals that rest on few cases of a subgroup, and on cases that are in none."""
    counts: dict[str, int] = {}
    for name, group in found.groups.items():
        counts |= {f"{name} {figure}": count for figure, count in _num_units(group, how).items()}
    lines = few_warnings(counts, how.intervals, where=f"subgroups by {found.column}: ")
    if found.num_left_out:
        lines.append(f"subgroups by {found.column}: cases without a value are in none ({found.num_left_out})")
    return lines
