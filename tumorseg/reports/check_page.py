"""The page of `data check`: everything that was found, filtered by severity without any script."""

from collections.abc import Sequence

from tumorseg.reports.page import Picture, render_page
from tumorseg.reports.tables import cases_text
from tumorseg.schema.findings import CheckReport, Finding

MOST_THUMBNAILS = 60
"""Pictures on a page; each takes some 30 kB."""


def check_html(report: CheckReport, pictures: Sequence[Picture]) -> str:
    """Return the findings as one HTML page with everything inside it."""
    name = report.dataset.name if report.dataset else report.source
    return render_page(
        "check.html",
        title=f"{name}: data check",
        subtitle=f"{report.num_cases} cases checked; the dataset {_state(report)}",
        report=report,
        rows=[(found, _cases(found)) for found in report.findings],
        kinds=_kinds(report),
        pictures=pictures,
        most_thumbnails=MOST_THUMBNAILS,
    )


def _state(report: CheckReport) -> str:
    """Return what the gravest findings come to; notes alone leave a dataset sound."""
    if report.counts["error"]:
        return "has to be mended"
    if report.counts["warning"]:
        return "wants a look"
    return "is sound"


def _cases(found: Finding) -> tuple[str, str]:
    """Return the cases of a finding in short and, where that leaves some out, in full."""
    short, full = cases_text(found.case_ids), ", ".join(found.case_ids)
    return short, full if full != short and found.case_ids else ""


def _kinds(report: CheckReport) -> list[tuple[str, str, int]]:
    """Return severity, name and number of each kind that was found, in the order of the table."""
    counts: dict[tuple[str, str], int] = {}
    for found in report.findings:
        counts[found.severity, found.kind] = counts.get((found.severity, found.kind), 0) + 1
    return [(severity, kind, count) for (severity, kind), count in counts.items()]
