from pathlib import Path

import pytest

from tests.chromium import PROGRAM, Chromium
from tests.reports.results.browsing import FIRST, ROWS, STATE, STATUS, column, opens_within, ready_ms
from tests.reports.results.draws import TEN_METRICS, drawn_report
from tumorseg.reports.results.page import ResultsInput, results_page
from tumorseg.reports.results.writing import write_page
from tumorseg.schema.comparisons import Comparison

pytestmark = [pytest.mark.slow, pytest.mark.skipif(PROGRAM is None, reason="Chromium is not installed")]


def test_a_small_page_opens_quickly_sorts_and_filters(browser: Chromium, page: Path) -> None:
    assert opens_within(browser, page, 2000)
    browser.click("#cases thead th:nth-child(3) button")
    scores = [float(text) for text in browser.evaluate(column(3)) if text != "–"]
    assert scores == sorted(scores)
    assert (
        browser.evaluate("document.querySelector('#cases thead th:nth-child(3)').getAttribute('aria-sort')")
        == "ascending"
    )
    browser.click("#cases thead th:nth-child(3) button")
    falling = [float(text) for text in browser.evaluate(column(3)) if text != "–"]
    assert falling == scores[::-1]
    browser.type("#cases input[type=search]", "site b")
    assert set(browser.evaluate(column(1))) == {"case_0001", "case_0004"}
    browser.choose("#cases label:nth-of-type(2) select", "0")
    assert browser.evaluate(column(2)) == ["WT", "WT"]
    assert browser.evaluate(STATUS) == "1 to 2 of 2 scores, filtered from 15"
    assert browser.complaints() == []


def test_the_table_is_sorted_by_keyboard_alone(browser: Chromium, page: Path) -> None:
    browser.open(page)
    ready_ms(browser)
    browser.evaluate("document.querySelector('#cases thead button').focus()")
    for _ in range(2):
        browser.press("Tab")
    browser.press("Enter")
    assert browser.evaluate("document.querySelector('#cases [aria-sort]').textContent") == "DSC"
    assert browser.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"


def test_the_first_stop_of_the_keyboard_leads_to_the_content(browser: Chromium, page: Path) -> None:
    browser.open(page)
    browser.press("Tab")
    assert browser.evaluate("document.activeElement.textContent") == "Skip to the content"
    assert browser.evaluate("document.activeElement.getBoundingClientRect().x") >= 0


def test_points_of_a_plot_are_reached_by_keyboard(browser: Chromium, page: Path) -> None:
    browser.open(page)
    ready_ms(browser)
    plot = "document.querySelectorAll('#plots .plot svg')[1]"
    tip = "(() => { const e = document.querySelectorAll('#plots .plot .tip')[1]; return e.hidden ? '' : e.textContent; })()"
    browser.press("Tab")
    browser.evaluate(f"{plot}.focus()")
    seen = [browser.evaluate(tip)]
    for _ in range(3):
        browser.press("ArrowRight", 39)
        seen.append(browser.evaluate(tip))
    assert len(set(seen)) == 4
    sizes = [float(words.split("reference ")[1].split()[0]) for words in seen]
    assert sizes == sorted(sizes)
    browser.press("ArrowLeft", 37)
    assert browser.evaluate(tip) == seen[2]
    browser.press("End", 35)
    assert browser.evaluate(tip) not in seen
    browser.press("Home", 36)
    assert browser.evaluate(tip) == seen[0]
    browser.press("Enter")
    case = seen[0].split(",")[0]
    assert set(browser.evaluate(column(1))) == {case}
    assert browser.evaluate("document.activeElement.value") == case
    assert browser.evaluate(tip) == ""
    assert browser.complaints() == []


def test_the_plot_of_volume_errors_says_which_side_is_better(
    browser: Chromium, tmp_path: Path, small_content: ResultsInput, small_comparison: Comparison
) -> None:
    path = tmp_path / "report.html"
    write_page(path, results_page(small_content._replace(comparison=small_comparison)))
    browser.open(path)
    ready_ms(browser)
    browser.choose("#differences label:nth-of-type(1) select", str(small_comparison.metrics.index("volume_error_ml")))
    words = browser.evaluate("document.querySelector('#differences figcaption').textContent")
    assert words.startswith("Size of the volume error (ml) of WT, ours minus theirs, in ")
    assert words.endswith("; below 0 ours is better.")


def test_a_page_of_two_thousand_cases_opens_sorts_and_filters_quickly(browser: Chromium, tmp_path: Path) -> None:
    path = tmp_path / "many.html"
    write_page(path, results_page(ResultsInput("Many", metrics=drawn_report(2000, TEN_METRICS))))
    assert path.stat().st_size < 5e6
    assert opens_within(browser, path, 2000)
    assert browser.evaluate(ROWS) == 50
    took_ms = "(() => { const start = performance.now(); document.querySelector('#cases thead th:nth-child(4) button').click(); return performance.now() - start; })()"
    assert min(browser.evaluate(took_ms) for _ in range(3)) < 500
    browser.type("#cases input[type=search]", "case_1999")
    assert browser.evaluate(STATUS) == "1 to 3 of 3 scores, filtered from 6000"
    assert browser.complaints() == []


def test_plots_of_many_labels_look_through_the_scores_once(browser: Chromium, tmp_path: Path) -> None:
    report = drawn_report(20)
    cases = []
    for number in range(40):
        for label in range(1000):
            drawn = report.cases[(7 * number + label) % len(report.cases)]
            cases.append(drawn.changed(case_id=f"case_{number:02d}", label=f"label {label}"))
    path = tmp_path / "labels.html"
    summary = {f"label {label}": report.summary["WT"] for label in range(1000)}
    many = report.changed(cases=tuple(cases), summary=summary, subgroups={}, attributes={})
    write_page(path, results_page(ResultsInput("Many", metrics=many)))
    browser.open(path)
    ready_ms(browser)
    timed = "(() => { const start = performance.now(); WHAT; return performance.now() - start; })()"
    chosen = "const e = document.querySelector('#plots select'); e.value = '1'; e.dispatchEvent(new Event('change'))"
    by_label = "const { scores } = window.report; scores.labels.map((_, index) => scores.rows.filter((row) => row[1] === index))"
    # Two plots drawn anew take less than to look through all rows for each label of one.
    assert browser.evaluate(timed.replace("WHAT", chosen)) < browser.evaluate(timed.replace("WHAT", by_label))


def test_markup_from_a_dataset_runs_nothing(browser: Chromium, tmp_path: Path, small_content: ResultsInput) -> None:
    attack = "</script><script>window.hacked = 1</script><img src=x onerror='window.hacked = 1'>"
    assert small_content.metrics is not None
    cases = [case.model_copy(update={"case_id": attack, "label": attack}) for case in small_content.metrics.cases]
    hostile = small_content.metrics.model_copy(update={"cases": tuple(cases), "attributes": {attack: {attack: attack}}})
    volume = small_content.volumes[0]._replace(case_id=attack, class_names=("background", attack, attack))
    path = tmp_path / "hostile.html"
    write_page(path, results_page(small_content._replace(title=attack, metrics=hostile, volumes=[volume])))
    browser.open(path)
    ready_ms(browser)
    browser.click(f"{FIRST} button")
    browser.wait(f"{STATE} === 'loaded'")
    assert browser.evaluate("window.hacked") is None
    assert browser.evaluate("document.querySelector('#cases tbody th').textContent") == attack
    # Even where markup got in, the policy would not run it.
    browser.evaluate("document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=\"window.hacked = 1\">')")
    browser.evaluate("new Promise((resolve) => setTimeout(resolve, 200))")
    assert browser.evaluate("window.hacked") is None


def test_without_scripts_summaries_and_first_scores_remain(
    request: pytest.FixtureRequest, browser: Chromium, page: Path
) -> None:
    browser.call("Emulation.setScriptExecutionDisabled", value=True)
    request.addfinalizer(lambda: browser.call("Emulation.setScriptExecutionDisabled", value=False))
    browser.open(page)
    shown = "[...document.querySelectorAll('section')].filter(e => e.offsetHeight).map(e => e.querySelector('h2').textContent)"
    assert browser.evaluate(shown) == [
        "To bear in mind",
        "Dataset and plan",
        "Scores",
        "Subgroups",
        "Cases",
        "Definitions",
    ]
    assert browser.evaluate(ROWS) == 15
    assert browser.evaluate("document.querySelector('noscript').offsetHeight") > 0


def test_a_phone_shows_the_page_without_pushing_it_sideways(
    request: pytest.FixtureRequest,
    browser: Chromium,
    tmp_path: Path,
    small_content: ResultsInput,
    small_comparison: Comparison,
) -> None:
    path = tmp_path / "report.html"
    write_page(path, results_page(small_content._replace(comparison=small_comparison)))
    browser.emulate(width=360, height=740, is_phone=True)
    request.addfinalizer(lambda: browser.call("Emulation.clearDeviceMetricsOverride"))
    browser.open(path)
    ready_ms(browser)
    assert browser.evaluate("document.documentElement.scrollWidth") <= 360
    assert (
        browser.evaluate(
            "Math.max(...[...document.querySelectorAll('.plot svg')].map(e => e.getBoundingClientRect().right))"
        )
        <= 360
    )
