"""The report of a study."""

import json
import re

import pytest

from tests.reports.markup import Balance
from tests.reports.tuned import differences_of, tuned_plan, tuning_result
from tumorseg.errors import PlanError
from tumorseg.reports.tuning_page import tuning_page


@pytest.fixture(scope="module")
def plan():
    return tuned_plan()


@pytest.fixture(scope="module")
def result():
    return tuning_result()


@pytest.fixture(scope="module")
def html(result, plan):
    return tuning_page(result, plan, differences_of(result))


def data_of(html):
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', html, re.DOTALL)
    return json.loads(found[1])["study"]


def test_the_page_tells_what_may_be_claimed_before_what_was_searched(html, result):
    Balance().feed(html)
    order = [
        "What may be claimed",
        "What candidates change",
        "How trials went",
        "Importances",
        "Cost",
        "Failed trials",
        "Space",
    ]
    places = [html.index(f"<h2>{heading}</h2>") for heading in order]
    assert places == sorted(places)
    for words in ("+0.0123", "+0.0034 to +0.0212", "0.0080", "a gain; chosen", "no gain shown", result.claim):
        assert words in html


def test_what_was_changed_stands_with_its_old_value_and_its_meaning(html, result):
    chosen = next(judged for judged in result.judged if judged.number == result.chosen)
    assert f"<h3>{chosen.title} (chosen)</h3>" in html
    assert f"{chosen.values['optimizer.lr']:.6g}" in html
    assert ">0.002<" in html
    assert "at least one patch, that are centred on a foreground voxel" in html


def test_reasons_of_failed_trials_are_told_and_texts_escaped(html):
    assert html.count("needs 9.1 GB") == 3
    assert "&lt;budget&gt;" in html
    assert "<budget>" not in html


def test_the_share_that_pruning_saved_is_of_the_steps_of_finished_and_pruned_trials(html, result, plan):
    ended = [trial for trial in result.trials if trial.state in ("finished", "pruned")]
    steps = sum(trial.scores[-1].iteration for trial in ended)
    row = f"<td>{100 * (1 - steps / (600 * len(ended))):.0f} %</td>"
    assert f"<td>{steps:,}</td>" in html
    assert row in html
    # What failed or still runs has its scores too, and would have taken nobody knows how long.
    others = [ended[0].changed(number=100 + number, state=("failed", "running")[number % 2]) for number in range(20)]
    page = tuning_page(result.changed(trials=(*result.trials, *others)), plan)
    assert f"<td>{steps:,}</td>" in page
    assert row in page


@pytest.mark.parametrize(
    ("sampler", "words"),
    [("tpe", "near the centre at first"), ("nsga2", "crossed and mutated"), ("random", "drawn evenly from all of it")],
)
def test_the_space_says_how_its_sampler_draws(result, plan, sampler, words):
    page = tuning_page(result.changed(study=result.study.changed(sampler=sampler)), plan)
    section = page.partition("<h2>Space</h2>")[2].partition("<h2>")[0]
    assert words in section
    assert ("near the centre" in section) == (sampler != "random")


def test_the_script_is_given_every_scored_trial_and_the_axes_that_matter_most(html, result):
    found = data_of(html)
    assert [trial["number"] for trial in found["trials"]] == [trial.number for trial in result.trials if trial.scores]
    assert [axis["field"] for axis in found["axes"]][:2] == ["optimizer.lr", "loss.preset"]
    momentum = [axis["field"] for axis in found["axes"]].index("optimizer.momentum")
    for trial, told in zip([trial for trial in result.trials if trial.scores], found["trials"], strict=True):
        assert (told["values"][momentum] is None) == ("optimizer.momentum" not in trial.values)


def test_without_a_gain_the_page_says_so_and_marks_no_candidate(plan):
    html = tuning_page(tuning_result(num_trials=8, is_gain=False), plan)
    assert "(chosen)" not in html
    assert "No candidate was shown to be better" in html
    assert "has the values of its parent" in html


def test_several_objectives_have_a_pareto_front(plan):
    html = tuning_page(tuning_result(("dsc", "nsd", "seconds"), 8), plan)
    Balance().feed(html)
    assert "<h2>Pareto front</h2>" in html
    assert [one["isMaximised"] for one in data_of(html)["objectives"]] == [True, True, False]


@pytest.mark.parametrize("num_trials", [0, 1])
def test_a_study_of_hardly_any_trials_has_a_page_too(plan, num_trials):
    result = tuning_result(num_trials=num_trials, is_gain=False)
    html = tuning_page(result, plan)
    Balance().feed(html)
    assert "Importances" not in re.findall(r"<h2>(.*?)</h2>", html)
    assert ("How trials went" in html) == (num_trials > 0)


def test_the_same_study_gives_the_same_page(html, result, plan):
    assert tuning_page(result, plan, differences_of(result)) == html


def test_a_plan_that_cannot_have_the_values_is_refused(result, plan):
    study = result.study.changed(configuration="2d_lowres")
    with pytest.raises(PlanError, match="there is no such field"):
        tuning_page(result.changed(study=study), plan)
