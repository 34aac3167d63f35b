import re
from html.parser import HTMLParser
from typing import Any

import pytest

from tumorseg.reports.overlays import OverlayInput, overlay_png
from tumorseg.reports.page import Picture, ReportInput, report_html
from tumorseg.schema.metrics import MetricsReport


class Balance(HTMLParser):
    """Raises on a tag that closes another."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.fixture
def content(log: list[dict[str, Any]], report: MetricsReport, overlay: OverlayInput) -> ReportInput:
    return ReportInput(
        title="Phantom, fold 0",
        subtitle="3d_fullres, 6 epochs",
        facts={"Dataset": [("Cases", "12"), ("Channels", "T1, FLAIR")], "Plan": [("Patch", "32 × 48 × 48")]},
        log=log,
        metrics=report,
        overlays=[Picture("case_01, worst DSC", overlay_png(overlay))],
    )


def test_the_page_is_whole_and_holds_everything(content: ReportInput) -> None:
    page = report_html(content)
    balance = Balance()
    balance.feed(page)
    assert balance.open == []
    for expected in ("Phantom, fold 0", "T1, FLAIR", "0.910", "case_03", "missed", "invented", "undefined", "at 1 mm"):
        assert expected in page
    assert page.count("data:image/png;base64,") == 2


def test_the_page_asks_nothing_of_any_network(content: ReportInput) -> None:
    page = report_html(content)
    assert re.findall(r"https?:|//[a-z]|url\(|@import|<script|<link", re.sub(r"base64,[^\"]+", "", page)) == []


def test_what_is_missing_is_left_out(content: ReportInput) -> None:
    page = report_html(ReportInput(title="Nothing yet"))
    assert "<section>" not in page
    assert "Scores" not in report_html(content._replace(metrics=None))


def test_names_from_datasets_cannot_write_markup(content: ReportInput, report: MetricsReport) -> None:
    attack = '<img src=x onerror="alert(1)">'
    cases = (report.cases[0].model_copy(update={"case_id": attack, "label": attack}),)
    hostile = report.model_copy(update={"cases": cases, "summary": {attack: report.summary["WT"]}})
    facts = {attack: [(attack, attack)]}
    pictures = [Picture(attack, b"png")]
    page = report_html(ReportInput(attack, attack, facts=facts, metrics=hostile, overlays=pictures))
    assert "<img src=x" not in page
    assert page.count("&lt;img src=x") >= 9


def test_many_cases_are_folded_away_and_many_labels_have_no_tiles(content: ReportInput, report: MetricsReport) -> None:
    many = report.model_copy(
        update={"cases": report.cases * 20, "summary": {f"label {i}": report.summary["WT"] for i in range(9)}}
    )
    page = report_html(content._replace(metrics=many))
    assert "<details>" in page
    assert 'class="tile"' not in page


def test_the_same_content_gives_the_same_page(content: ReportInput) -> None:
    assert report_html(content) == report_html(content)
