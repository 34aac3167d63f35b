"""Scores and findings as plain text and as CSV."""

import csv
import io
from collections.abc import Mapping, Sequence

from tumorseg.errors import escaped
from tumorseg.schema.findings import CheckReport, Finding, PlanReport, Severity
from tumorseg.schema.metric_names import DEFAULT_METRICS, METRICS
from tumorseg.schema.metrics import LabelSummary, MetricsReport, MetricSummary

MOST_NAMED = 3
"""Cases that one line names at most."""
REMARK = "remark"
"""Last column of the scores as CSV."""
FAILED, PREDICTION_MISSING = "failed", "prediction missing"
"""What stands in it, where anything does."""
CSV_START = "case_id,label,"
"""How scores as CSV begin."""
VOLUMES = ("prediction_volume_ml", "reference_volume_ml")
"""Columns of volumes."""
NOTHING = "–"
"""Stands where a value is undefined."""


def terminal_table(rows: Sequence[Mapping[str, object]], columns: Sequence[str] = ()) -> str:
    """Return an aligned text table: a header, a rule, one line per row; no rows give an empty text.

    Args:
        rows: column name to value; None is shown as a dash, floats with three decimals, anything else as text.
        columns: what to show, in this order; the first row's columns if empty.
    """
    if not rows:
        return ""
    names = list(columns) or list(rows[0])
    lines = [names]
    for row in rows:
        lines.append([cell_text(row.get(name)) for name in names])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    rule = ["-" * width for width in widths]
    is_text = [_holds_text(rows, name) for name in names]
    header, *body = [_join_cells(cells, widths, is_text) for cells in lines]
    return "\n".join((header, "  ".join(rule), *body))


def _holds_text(rows: Sequence[Mapping[str, object]], name: str) -> bool:
    """Return whether a column is aligned to the left; numbers are to the right, digit below digit."""
    return any(isinstance(row.get(name), str) for row in rows)


def _join_cells(cells: Sequence[str], widths: Sequence[int], is_text: Sequence[bool]) -> str:
    padded = []
    for cell, width, left in zip(cells, widths, is_text, strict=True):
        padded.append(cell.ljust(width) if left else cell.rjust(width))
    return "  ".join(padded).rstrip()


def cell_text(value: object) -> str:
    """Return one cell's text, on one line."""
    if value is None:
        return NOTHING
    return f"{value:.3f}" if isinstance(value, float) else escaped(" ".join(str(value).split()))


def findings_text(report: CheckReport) -> str:
    """Return the table of all findings and one line that counts them."""
    name = report.dataset.name if report.dataset else report.source
    total = f"{name}: {_counts_text(report.counts)} in {report.num_cases} cases"
    table = terminal_table([_finding_row(found) for found in report.findings])
    return f"{table}\n\n{total}" if table else total


def plan_findings_text(report: PlanReport) -> str:
    """Return the table of what is wrong with a plan, one line that counts it, and what it was compared with."""
    compared = f"the {report.num_cases} cases of {report.dataset} on disk" if report.dataset else "no dataset"
    total = f"{report.plan}: {_counts_text(report.counts)}; compared with {compared}"
    rows = []
    for found in report.findings:
        row = _finding_row(found)
        # Of a dataset, a finding without cases is about all of them; of a plan, about none.
        if not found.case_ids:
            row["case"] = None
        rows.append(row)
    table = terminal_table(rows)
    return f"{table}\n\n{total}" if table else total


def _counts_text(counts: Mapping[Severity, int]) -> str:
    parts = []
    for severity, count in counts.items():
        plural = "" if count == 1 else "s"
        parts.append(f"{count} {severity}{plural}")
    return ", ".join(parts)


def _finding_row(found: Finding) -> dict[str, object]:
    return {
        "severity": found.severity,
        "kind": found.kind,
        "case": cases_text(found.case_ids),
        "file": found.file.replace("\\", "/").rsplit("/", 1)[-1] if found.file else None,
        "message": found.message,
    }


def cases_text(case_ids: Sequence[str]) -> str:
    """Return the cases of a finding in a few words."""
    if not case_ids:
        return "all"
    named, more = case_ids[:MOST_NAMED], len(case_ids) - MOST_NAMED
    return ", ".join(named) + (f" and {more} more" if more > 0 else "")


def number_text(value: float | None, metric: str) -> str:
    """Return a metric's value with its own number of decimals, or a dash."""
    return NOTHING if value is None else f"{value:.{METRICS[metric].decimals}f}"


def interval_text(summary: MetricSummary, metric: str) -> str:
    """Return the confidence interval of a metric's mean as `0.812 to 0.874`, or a dash."""
    if summary.ci95 is None:
        return NOTHING
    lower, upper = (number_text(bound, metric) for bound in summary.ci95)
    return f"{lower} to {upper}"


def summary_rows(report: MetricsReport) -> list[dict[str, object]]:
    """Return one row per label or region for `terminal_table`: means, the interval of the DSC, counts."""
    return [_summary_row(label, summary) for label, summary in report.summary.items()]


def subgroup_rows(report: MetricsReport) -> list[dict[str, object]]:
    """Return one row per column, value and label for `terminal_table`; none where there are no subgroups."""
    rows: list[dict[str, object]] = []
    for column, groups in report.subgroups.items():
        for value, labels in groups.items():
            rows += [{"subgroups by": column, "value": value, **_summary_row(*item)} for item in labels.items()]
    return rows


def _summary_row(label: str, summary: LabelSummary) -> dict[str, object]:
    return {
        "label": label,
        **_shown(summary),
        "undefined": summary.num_undefined,
        "missed": summary.num_missed,
        "invented": summary.num_invented,
    }


def _shown(summary: LabelSummary) -> dict[str, object]:
    """Return the cells of what is measured by default, as the others have no room on a terminal, or of all if none of it is."""
    measured = [name for name in DEFAULT_METRICS if name in summary.metrics] or list(summary.metrics)
    cells: dict[str, object] = {}
    for name in measured:
        cells[name.replace("_", " ")] = summary.metrics[name].mean
        if name == measured[0]:
            cells[f"{name.replace('_', ' ')} 95 % ci"] = interval_text(summary.metrics[name], name)
    return cells


def metrics_csv(report: MetricsReport) -> str:
    """Return the scores of all cases as CSV: a header, a line per case and label, nothing where undefined.

    The last column says what is missing or damaged; a case that is not scored for that has one line without label and scores.
    """
    # Of a case that is in both, the graver remark stays: the latter replaces the former.
    remarks = dict.fromkeys(report.missing, PREDICTION_MISSING) | dict.fromkeys(report.failed, FAILED)
    own = ["case_id", "label", *report.metrics, *VOLUMES]
    # A column of the dataset that bears the name of one of ours says something else, and stands in metrics.json alone.
    known = {name: None for found in report.attributes.values() for name in found if name not in (*own, REMARK)}
    columns = [*own, *known, REMARK]
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    # The writer leaves a cell empty for None, and for what a row does not name.
    for case in report.cases:
        known_of_case = {name: report.attributes.get(case.case_id, {}).get(name) for name in known}
        writer.writerow(known_of_case | case.model_dump() | {REMARK: remarks.get(case.case_id, "")})
    writer.writerows({"case_id": case_id, REMARK: remarks[case_id]} for case_id in report.unscored())
    return text.getvalue()


def missing_text(report: MetricsReport) -> str:
    """Return how many predictions are missing and what became of them, or an empty text."""
    if not report.missing:
        return ""
    left = set(report.unscored())
    became = "left out" if left.issuperset(report.missing) else "scored as empty masks"
    return f"predictions missing: {len(report.missing)}, {became} ({cases_text(report.missing)})"
