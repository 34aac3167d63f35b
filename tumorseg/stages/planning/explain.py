"""Tell why each value of a plan is what it is."""

from pathlib import Path

from tumorseg.planning.reading.explanation import Explanation, explain
from tumorseg.schema.base import Record
from tumorseg.schema.plan import Plan
from tumorseg.storage.atomic import HTML_ENDINGS, require_file_name, write_bytes, write_text


class ExplainPlanRequest(Record):
    """Options of `plan explain`."""

    plan: Plan
    """The plan."""
    html: Path | None = None
    """Where to write a page too."""
    picture: Path | None = None
    """Where to draw the networks of all configurations, as SVG or PNG."""


def explain_plan(request: ExplainPlanRequest) -> Explanation:
    """Explain every value of a plan, and write the page and the picture that are asked for.

    Raises:
        InputError: `html` is no HTML file, or `picture` neither SVG nor PNG.
        StorageError: one of them cannot be written.
    """
    if request.html is not None:
        require_file_name("--html", request.html, HTML_ENDINGS)
    if request.picture is not None:
        require_file_name("--picture", request.picture, (".svg", ".png"))
    explanation = explain(request.plan)
    if request.html is not None:
        from tumorseg.reports.explanation import explanation_html

        write_text(request.html, explanation_html(explanation))
    if request.picture is not None:
        _write_picture(request.picture, explanation)
    return explanation


def _write_picture(path: Path, explanation: Explanation) -> None:
    from tumorseg.reports.architecture import architecture_png, architecture_svg
    from tumorseg.reports.explanation import drawings_of

    draw = architecture_svg if path.suffix.lower() == ".svg" else architecture_png
    write_bytes(path, draw(drawings_of(explanation)))
