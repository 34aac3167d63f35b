"""The report: one HTML file with everything inside it, which asks nothing of any network."""

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from tumorseg.ops.summaries import METRICS
from tumorseg.reports.figures import LogEntry, progress_png
from tumorseg.reports.tables import interval_text, number_text
from tumorseg.schema.metrics import LabelSummary, MetricsReport

TITLES = {"dsc": "DSC", "nsd": "NSD", "hd95_mm": "HD95 (mm)", "volume_error_ml": "Volume error (ml)"}
_MOST_OPEN_ROWS = 60  # a longer table of cases is folded up


class Picture(NamedTuple):
    """A figure with its words."""

    caption: str
    png: bytes


class ReportInput(NamedTuple):
    """Contents of a report; what is empty is left out."""

    title: str
    subtitle: str = ""
    facts: Mapping[str, Sequence[tuple[str, str]]] = {}
    """Heading, such as `Dataset` or `Plan`, to (name, value) pairs."""
    log: Sequence[LogEntry] = ()
    """Entries of log.jsonl."""
    metrics: MetricsReport | None = None
    overlays: Sequence[Picture] = ()


def report_html(content: ReportInput) -> str:
    """Return the report as one HTML page, styles and images inside it; every text is escaped."""
    return render_page(
        "report.html",
        title=content.title,
        subtitle=content.subtitle,
        content=content,
        curve=progress_png(content.log) if content.log else None,
        highlights=_highlights(content.metrics),
        metrics=METRICS,
        titles=TITLES,
        most_open_rows=_MOST_OPEN_ROWS,
    )


def render_page(template: str, **values: Any) -> str:
    """Return a template of this folder as a page, every text in it escaped.

    Args:
        template: extends `base.html`.
        values: what it shows; `title` and `subtitle` stand at its head.
    """
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,  # a misspelt name in a template is an error, not an empty place
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update(data_uri=data_uri, svg_uri=svg_uri, number=number_text, interval=interval_text)
    return environment.get_template(template).render(**values)


def data_uri(png: bytes) -> str:
    """Return PNG bytes as an address that holds them."""
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")


def svg_uri(svg: bytes) -> str:
    """Return SVG bytes as an address that holds them."""
    return "data:image/svg+xml;base64," + base64.b64encode(svg).decode("ascii")


def _highlights(report: MetricsReport | None) -> list[tuple[str, LabelSummary]]:
    """Return the labels whose mean DSC stands in large figures, unless there are too many to take in."""
    summary = list(report.summary.items()) if report else []
    return summary if len(summary) <= 6 else []
