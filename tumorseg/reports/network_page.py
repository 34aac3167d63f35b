"""The page of a plan's networks: figures and pictures."""

from collections.abc import Sequence

from tumorseg.planning.reading.costs import Costs
from tumorseg.reports.architecture import Drawing, architecture_svg
from tumorseg.reports.network_tables import costs_rows, measured_text
from tumorseg.reports.page import render_page


def networks_html(plan: str, costs: Sequence[Costs], drawings: Sequence[Drawing]) -> str:
    """Return the networks of a plan as one HTML page with their pictures inside it."""
    rows = []
    for row, drawing in zip(costs_rows(costs), drawings, strict=True):
        rows.append({"configuration": drawing.title, **row})
    pictures = [(drawing.title, architecture_svg([drawing])) for drawing in drawings]
    return render_page(
        "networks.html",
        title=f"{plan}: networks",
        subtitle="What each configuration's network costs, and what it looks like.",
        rows=rows,
        note=measured_text(costs),
        pictures=pictures,
    )
