"""The report of a study in a real browser: what its script draws, and that it asks nothing of any network."""

import pytest

from tests.chromium import PROGRAM, Chromium
from tests.reports.tuned import differences_of, tuned_plan, tuning_result
from tumorseg.reports.tuning_page import tuning_page

pytestmark = [pytest.mark.slow, pytest.mark.skipif(PROGRAM is None, reason="Chromium is not installed")]
LINES = "document.querySelectorAll('#study path.trial').length"
CAPTIONS = "[...document.querySelectorAll('#study .plot figcaption')].map((caption) => caption.textContent)"


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with Chromium(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


def opened(browser, folder, result):
    page = folder / "report.html"
    page.write_text(tuning_page(result, tuned_plan(), differences_of(result)), encoding="utf-8")
    browser.open(page)
    browser.wait("document.documentElement.dataset.readyMs")
    return page


def test_every_finished_trial_is_a_line_and_pictures_give_way(browser, tmp_path):
    result = tuning_result()
    page = opened(browser, tmp_path, result)
    finished = [trial for trial in result.trials if trial.state == "finished"]
    assert browser.evaluate(LINES) == len(finished)
    assert browser.evaluate("document.querySelector('#study .static').offsetHeight") == 0
    assert len(browser.evaluate(CAPTIONS)) == 2
    assert browser.complaints() == []
    assert {address for address in browser.requests() if not address.startswith("data:")} == {page.resolve().as_uri()}


def test_fewer_lines_are_shown_on_request(browser, tmp_path):
    result = tuning_result()
    opened(browser, tmp_path, result)
    finished = [trial for trial in result.trials if trial.state == "finished"]
    browser.choose("#study .controls select", "0.25")
    assert browser.evaluate(LINES) == round(len(finished) * 0.25)


def test_three_objectives_are_traded_two_by_two(browser, tmp_path):
    opened(browser, tmp_path, tuning_result(("dsc", "nsd", "seconds")))
    assert len(browser.evaluate(CAPTIONS)) == 3
    browser.choose("#study .controls label:nth-of-type(4) select", "2")
    assert "less Seconds a case" in browser.evaluate(CAPTIONS)[2]
    assert browser.complaints() == []


def test_one_trial_is_shown_without_axes(browser, tmp_path):
    opened(browser, tmp_path, tuning_result(num_trials=1, is_gain=False))
    assert len(browser.evaluate(CAPTIONS)) == 1
    assert browser.complaints() == []
