import base64
import html
import json
import re
from typing import Any

import pytest

from tests.reports.markup import Balance
from tests.reports.results.draws import TEN_METRICS, drawn_report
from tumorseg.reports.page import Picture
from tumorseg.reports.results import viewer
from tumorseg.reports.results.page import ROWS_WITHOUT_SCRIPT, ResultsInput, results_page
from tumorseg.reports.results.policy import script_hash
from tumorseg.reports.results.sections import Cell, Section, Table
from tumorseg.reports.results.volumes import ViewerCase
from tumorseg.schema.comparisons import Comparison, Ranking
from tumorseg.schema.metrics import MetricsReport

ATTACK = "</script><img src=x onerror=\"alert('1')\">"


def data_of(page: str) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    assert found
    data: dict[str, Any] = json.loads(found[1])
    return data


def policy_of(page: str) -> str:
    found = re.search(r'<meta http-equiv="Content-Security-Policy" content="([^"]*)">', page)
    assert found
    return html.unescape(found[1])


@pytest.fixture
def full(
    small_content: ResultsInput, small_comparison: Comparison, small_ranking: Ranking, log: list[dict[str, Any]]
) -> ResultsInput:
    return small_content._replace(
        comparison=small_comparison, ranking=small_ranking, log=log, overlays=[Picture("case_0003, worst", b"png")]
    )


def test_the_page_is_whole_and_holds_everything(full: ResultsInput) -> None:
    page, files = results_page(full)
    balance = Balance()
    balance.feed(page)
    assert balance.open == []
    assert len(balance.ids) == len(set(balance.ids))
    assert files == {}
    headings = (
        "Scores",
        "Subgroups",
        "Comparison of ours and theirs",
        "Ranking",
        "Learning curves",
        "Slices",
        "Viewer",
        "Cases",
    )
    for expected in ("Phantom, fold 0", "T1, FLAIR", "case_0003, worst", "site A", "NSD at 1 mm", *headings):
        assert expected in page


def test_the_policy_names_every_script_that_runs_and_no_other(full: ResultsInput) -> None:
    page, _ = results_page(full)
    scripts = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    code, _ = viewer.viewer_code()
    expected = {f"'{script_hash(script)}'" for script in (*scripts, code)}
    assert set(re.findall(r"'sha256-[^']*'", policy_of(page))) == expected
    assert len(scripts) == 8
    assert page.index("Content-Security-Policy") < page.index("<style>")


def test_the_page_asks_nothing_of_any_network(full: ResultsInput) -> None:
    page, _ = results_page(full)
    own = page.replace('"http://www.w3.org/2000/svg"', "")
    own = re.sub(r'<script type="application/octet-stream".*?</script>', "", own, flags=re.DOTALL)
    assert re.findall(r"https?:|url\(|@import|<link|src=\"(?!data:)| on\w+=", own) == []


def test_what_is_missing_is_left_out(small_content: ResultsInput) -> None:
    page, _ = results_page(ResultsInput(title="Nothing yet"))
    assert "<section" not in page
    assert 'id="viewer-code"' not in page
    assert "<h2>Scores" not in results_page(small_content._replace(metrics=None)).html


def test_facts_without_a_plan_are_not_called_one(small_content: ResultsInput) -> None:
    compared = small_content._replace(facts={"Models": [("a", "3d_fullres")], "Datasets": [("b", "5 cases")]})
    assert "<h2>Setting</h2>" in results_page(compared).html
    assert "Dataset and plan" not in results_page(compared).html


def test_names_from_datasets_cannot_write_markup(full: ResultsInput, small_report: MetricsReport) -> None:
    case = small_report.cases[0].model_copy(update={"case_id": ATTACK, "label": ATTACK})
    groups = {ATTACK: {ATTACK: small_report.summary}}
    hostile = small_report.model_copy(
        update={
            "cases": (case,),
            "summary": {ATTACK: small_report.summary["WT"]},
            "subgroups": groups,
            "attributes": {ATTACK: {ATTACK: ATTACK}},
            "warnings": (ATTACK,),
            "missing": (ATTACK,),
        }
    )
    section = Section(
        ATTACK, ATTACK, [Table([ATTACK], [[Cell(ATTACK, ATTACK)]], ATTACK, ATTACK)], [Picture(ATTACK, b"png")]
    )
    volume = ViewerCase(ATTACK, ("background", ATTACK), full.volumes[0].layers, ATTACK)
    content = full._replace(
        title=ATTACK,
        subtitle=ATTACK,
        facts={ATTACK: [(ATTACK, ATTACK)]},
        metrics=hostile,
        sections=[section],
        volumes=[volume],
    )
    page, _ = results_page(content)
    assert "<img src=x" not in page
    assert page.count("</script>") == page.count("<script")
    data = data_of(page)
    assert data["scores"]["cases"] == [ATTACK]
    assert data["viewer"][0]["case"] == ATTACK


def test_the_table_without_scripts_holds_the_first_scores() -> None:
    report = drawn_report(30)
    page, _ = results_page(ResultsInput("Thirty", metrics=report))
    table = page[page.index('id="cases"') : page.index('id="definitions"')]
    assert table.count("<tr>") == 1 + ROWS_WITHOUT_SCRIPT
    assert "The first 50 of 90 scores" in table


def test_data_for_the_script_holds_every_score(small_content: ResultsInput, small_report: MetricsReport) -> None:
    scores = data_of(results_page(small_content).html)["scores"]
    assert len(scores["rows"]) == len(small_report.cases) == 15
    for row, case in zip(scores["rows"], small_report.cases, strict=True):
        assert (scores["cases"][row[0]], scores["labels"][row[1]]["name"]) == (case.case_id, case.label)
        assert row[2] == pytest.approx(case.prediction_volume_ml, abs=1e-4)
        assert row[4:] == pytest.approx([case.scores[name] for name in small_report.metrics], abs=1e-4)
    site, scanner = scores["columns"]
    assert site == {"name": "site", "values": ["site A", "site B", "site C", "site A", "site B"]}
    assert scanner["values"] == ["S0", "S1", "S0", "S1", "S0"]


def test_volumes_stand_in_the_page_and_are_whole(small_content: ResultsInput, small_volume: ViewerCase) -> None:
    page, files = results_page(small_content)
    for layer, expected in small_volume.layers.items():
        found = re.search(rf'id="volume-0-{layer}">([^<]*)<', page)
        assert found
        assert base64.b64decode(found[1]) == expected
    assert files == {}
    assert "strict-dynamic" not in policy_of(page)


def test_large_volumes_lie_beside_the_page(small_content: ResultsInput, small_volume: ViewerCase) -> None:
    first = small_volume._replace(layers={"image": bytes(viewer.INLINE_BYTES // 2 + 1)})
    second = small_volume._replace(layers={"image": b"1" * (viewer.INLINE_BYTES // 2)})
    page, files = results_page(small_content._replace(volumes=[first, second]))
    assert 'id="volume-' not in page
    assert "'strict-dynamic'" in policy_of(page)
    assert [entry["file"] for entry in data_of(page)["viewer"]] == list(files)
    for (name, content), volume in zip(files.items(), (first, second), strict=True):
        text = content.decode()
        assert json.loads(text.removeprefix(f'tumorsegVolumes("{name}", ').removesuffix(");\n")) == {
            "image": base64.b64encode(volume.layers["image"]).decode()
        }


def test_files_beside_the_page_are_named_by_what_they_hold(
    small_content: ResultsInput, small_volume: ViewerCase
) -> None:
    def names(*letters: bytes) -> list[str]:
        volumes = [small_volume._replace(layers={"image": letter * viewer.INLINE_BYTES}) for letter in letters]
        return list(results_page(small_content._replace(volumes=volumes)).files)

    # A page of an earlier run, whose second case is the first of the next.
    first, second = names(b"1", b"2")
    assert names(b"2", b"3")[0] == second
    assert first not in names(b"2", b"3")


def test_a_comparison_says_how_volume_errors_are_compared(
    small_content: ResultsInput, small_comparison: Comparison
) -> None:
    page, _ = results_page(small_content._replace(comparison=small_comparison))
    definitions = page[page.index('id="definitions"') :]
    assert "Compared by its size" in definitions
    # Of all others that of the scores counts, which says more.
    assert "Always defined" in results_page(small_content).html
    assert "Tolerance: 1 mm" in definitions


def test_the_page_names_no_table_that_its_verb_may_not_have_written(small_content: ResultsInput) -> None:
    assert "metrics.csv" not in results_page(small_content).html


def test_the_vendored_viewer_is_the_one_that_its_readme_names() -> None:
    readme = (viewer._CODE.parent / "README.md").read_text("utf-8")
    code, packed = viewer.viewer_code()
    found = re.search(r"sha256 is `([0-9a-f]{64})`", readme)
    assert found
    digest = base64.b64decode(script_hash(code).removeprefix("sha256-")).hex()
    assert digest == found[1]
    assert "</script" not in packed


def test_a_page_of_two_thousand_cases_stays_small() -> None:
    report = drawn_report(20, TEN_METRICS)
    cases = []
    for number in range(2000):
        for case in report.cases[(number % 20) * 3 : (number % 20) * 3 + 3]:
            cases.append(case.model_copy(update={"case_id": f"case_{number:04d}"}))
    page, _ = results_page(ResultsInput("Many", metrics=report.model_copy(update={"cases": tuple(cases)})))
    assert len(data_of(page)["scores"]["rows"]) == 6000
    assert len(page.encode()) < 1.5e6


def test_the_same_content_gives_the_same_page(full: ResultsInput) -> None:
    assert results_page(full) == results_page(full)
