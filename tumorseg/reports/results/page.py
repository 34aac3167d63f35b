"""The report of scores as one page that asks nothing of any network."""

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from markupsafe import Markup

from tumorseg.reports.figures import LogEntry
from tumorseg.reports.page import Picture, render_page
from tumorseg.reports.results.comparing import comparison_section, differences_value, ranking_section
from tumorseg.reports.results.policy import content_policy, script_json
from tumorseg.reports.results.scores import log_value, scores_value
from tumorseg.reports.results.sections import Section
from tumorseg.reports.results.summaries import subgroups_section, summary_section
from tumorseg.reports.results.viewer import Viewer, viewer_code, viewer_of
from tumorseg.reports.results.volumes import ViewerCase
from tumorseg.reports.tables import missing_text, number_text
from tumorseg.schema.comparisons import Comparison, Ranking
from tumorseg.schema.metric_names import METRICS
from tumorseg.schema.metrics import MetricsReport

ROWS_WITHOUT_SCRIPT = 50
"""Of the table of cases, which stand in the page itself; the others are data that its script shows."""
_MOST_TILES = 6  # labels whose score stands in large figures; more are too many to take in
_HERE = Path(__file__).parent
_SCRIPTS = ("core.js", "axes.js", "table.js", "plots.js", "series.js")
_VIEWER_SCRIPTS = ("layers.js", "viewer.js")
_LAST_SCRIPT = "ready.js"


class ResultsInput(NamedTuple):
    """Contents of a report; what is empty is left out."""

    title: str
    subtitle: str = ""
    facts: Mapping[str, Sequence[tuple[str, str]]] = {}
    """Heading, such as `Dataset` or `Plan`, to (name, value) pairs."""
    metrics: MetricsReport | None = None
    comparison: Comparison | None = None
    ranking: Ranking | None = None
    log: Sequence[LogEntry] = ()
    """Entries of log.jsonl."""
    overlays: Sequence[Picture] = ()
    """Slices of the worst and the best cases; they remain where the viewer cannot run."""
    volumes: Sequence[ViewerCase] = ()
    """Cases to open in the viewer."""
    sections: Sequence[Section] = ()
    """Whatever else there is, shown before the scores."""


class Page(NamedTuple):
    """A page, and what has to lie beside it."""

    html: str
    files: dict[str, bytes]
    """By path from the page's folder; empty where everything stands in the page."""


def results_page(content: ResultsInput) -> Page:
    """Return the report; every text in it is escaped, and the same content gives the same page."""
    viewer = viewer_of(content.volumes)
    viewer_scripts = _VIEWER_SCRIPTS if content.volumes else ()
    scripts = [_read(name) for name in (*_SCRIPTS, *viewer_scripts, _LAST_SCRIPT)]
    # The viewer's code waits as data until a case is opened, and then runs as a script that the policy knows as well.
    code, packed_code = viewer_code() if content.volumes else ("", "")
    allowed = [*scripts, code] if code else scripts
    html = render_page(
        "results/results.html",
        title=content.title,
        subtitle=content.subtitle,
        content=content,
        policy=content_policy(allowed, loads_files=bool(viewer.files)),
        style=Markup(_read("results.css")),
        scripts=[Markup(script) for script in scripts],
        data=Markup(script_json(_data(content, viewer))),
        blocks=[*viewer.blocks, ("viewer-code", packed_code)] if code else [],
        tiles=_tiles(content.metrics),
        warnings=_warnings(content),
        # What models and datasets are compared is no plan.
        facts_heading="Dataset and plan" if "Plan" in content.facts else "Setting",
        definitions=_definitions(content),
        sections=_sections(content),
        metric_titles={name: metric.title for name, metric in METRICS.items()},
        first_cases=content.metrics.cases[:ROWS_WITHOUT_SCRIPT] if content.metrics else (),
    )
    return Page(html, viewer.files)


def _data(content: ResultsInput, viewer: Viewer) -> dict[str, Any]:
    return {
        "scores": scores_value(content.metrics) if content.metrics else None,
        "differences": differences_value(content.comparison) if content.comparison else None,
        "log": log_value(content.log) if content.log else None,
        "viewer": viewer.cases,
    }


def _sections(content: ResultsInput) -> list[Section]:
    sections = list(content.sections)
    if content.metrics:
        sections.append(summary_section(content.metrics))
        if content.metrics.subgroups:
            sections.append(subgroups_section(content.metrics))
    if content.comparison:
        sections.append(comparison_section(content.comparison))
    if content.ranking:
        sections.append(ranking_section(content.ranking))
    return sections


def _tiles(report: MetricsReport | None) -> list[tuple[str, str, str]]:
    """Return label, figure and what it is, of the first metric."""
    if report is None or not report.metrics or len(report.summary) > _MOST_TILES:
        return []
    name = report.metrics[0]
    words = f"mean {METRICS[name].title}"
    return [(label, number_text(found.metrics[name].mean, name), words) for label, found in report.summary.items()]


def _definitions(content: ResultsInput) -> dict[str, str]:
    """Return what each figure means, that of a score before what comparisons make of it."""
    found: dict[str, str] = {}
    for part in (content.metrics, content.comparison, content.ranking):
        if part is not None:
            found = {**part.definitions, **found}
    # Of what should be near 0 models are compared by the size, which the definition of the score does not say.
    for name, words in (content.comparison.definitions if content.comparison else {}).items():
        if name in METRICS and METRICS[name].better == "nearer 0":
            found[name] = words
    return found


def _warnings(content: ResultsInput) -> list[str]:
    words: list[str] = []
    if content.metrics:
        failed = content.metrics.failed
        damaged = f"damaged: {', '.join(failed)}" if failed else ""
        words += [missing_text(content.metrics), damaged, *content.metrics.warnings]
    for compared in (content.comparison, content.ranking):
        words += compared.warnings if compared else ()
    # A comparison may repeat what its metrics already said.
    return [text for text in dict.fromkeys(words) if text]


@cache
def _read(name: str) -> str:
    return (_HERE / name).read_text(encoding="utf-8")
