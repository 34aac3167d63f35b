"""The summary of scores, over all cases and over subgroups, as tables."""

from collections.abc import Mapping

from tumorseg.reports.results.sections import Cell, Section, Table, transposed
from tumorseg.reports.tables import interval_text, number_text
from tumorseg.schema.metric_names import METRICS
from tumorseg.schema.metrics import Intervals, LabelSummary, MetricsReport

_MOST_COLUMNS = 7  # metrics beside each other that a page holds without being pushed sideways
_COUNTS = ("Undefined", "Missed", "Invented")


def summary_section(report: MetricsReport) -> Section:
    """Return the means of every metric and label with their intervals."""
    num_cases = len({case.case_id for case in report.cases})
    table = Table(
        ["Label", *(METRICS[name].title for name in report.metrics), *_COUNTS],
        [_row(label, summary, report.metrics, num_cases) for label, summary in report.summary.items()],
        caption=f"{_cases_words(num_cases)}. {intervals_words(report.intervals)} {_tolerance_words(report)}".strip(),
    )
    is_wide = len(report.metrics) > _MOST_COLUMNS and len(report.summary) <= _MOST_COLUMNS
    return Section("Scores", tables=[transposed(table, "Metric") if is_wide else table])


def subgroups_section(report: MetricsReport) -> Section:
    """Return a table for each column by which the cases were divided."""
    tables = [_subgroup_table(report, column, groups) for column, groups in report.subgroups.items()]
    text = "Means of the cases of each subgroup with their intervals, which are the wider the fewer cases there are."
    return Section("Subgroups", text, tables)


def intervals_words(intervals: Intervals) -> str:
    """Return how the intervals of a report were computed, as a sentence."""
    method = "BCa" if intervals.method == "bca" else intervals.method
    drawn = f"values of {intervals.cluster}" if intervals.cluster else "cases"
    return f"Means; below each its 95 % interval ({method} bootstrap, {drawn} drawn {intervals.num_resamples} times)."


def _tolerance_words(report: MetricsReport) -> str:
    measured = [METRICS[name].title for name in report.metrics if METRICS[name].has_tolerance]
    if not measured or report.tolerance_mm is None:
        return ""
    own = [f"{label} at {millimetres:g} mm" for label, millimetres in report.tolerances_mm.items()]
    return f"{' and '.join(measured)} at {report.tolerance_mm:g} mm" + "".join(f", {words}" for words in own) + "."


def _cases_words(num_cases: int) -> str:
    return "1 case" if num_cases == 1 else f"{num_cases} cases"


def _subgroup_table(report: MetricsReport, column: str, groups: Mapping[str, Mapping[str, LabelSummary]]) -> Table:
    rows = []
    for value, summaries in groups.items():
        for label, summary in summaries.items():
            # By size a case may be in one group with one label and in another with the next, so that each label counts its own.
            cells = _row(label, summary, report.metrics, summary.num_cases)
            rows.append([Cell(value or "(none)", is_text=True), cells[0], Cell(str(summary.num_cases)), *cells[1:]])
    columns = [column, "Label", "Cases", *(METRICS[name].title for name in report.metrics), *_COUNTS]
    return Table(columns, rows, heading=f"By {column}")


def _row(label: str, summary: LabelSummary, metrics: tuple[str, ...], num_cases: int) -> list[Cell]:
    counts = (summary.num_undefined, summary.num_missed, summary.num_invented)
    scores = [_mean(summary, name, num_cases) for name in metrics]
    return [Cell(label, is_text=True), *scores, *(Cell(str(count)) for count in counts)]


def _mean(summary: LabelSummary, name: str, num_cases: int) -> Cell:
    metric = summary.metrics[name]
    notes = [interval_text(metric, name)] if metric.ci95 else []
    # Where a metric is undefined in some cases, its mean is of the others, which has to be seen beside it.
    if metric.num != num_cases:
        notes.append(f"of {metric.num}")
    return Cell(number_text(metric.mean, name), ", ".join(notes))
