import pytest

from tests.reports.markup import Balance
from tumorseg.reports.selection import selection_page
from tumorseg.reports.selection_words import step_text
from tumorseg.schema.ensembles import Combination, FillHoles, KeepLargest, RemoveSmall, ReplaceSmall
from tumorseg.schema.selection import (
    CalibrationEntry,
    CandidateEntry,
    CaseScores,
    ChoiceEntry,
    GainEntry,
    PartEntry,
    Selection,
    TrialEntry,
)

STEPS = (KeepLargest(labels=("a", "b")), RemoveSmall(labels=("b",), least_mm3=30.0))


def trial(verdict, gain, text="2 x <one>", harmed=None):
    return TrialEntry(
        stage="ensemble", round=0, text=text, name=None, gain=gain, error=0.01, p=0.2, verdict=verdict, harmed=harmed
    )


@pytest.fixture
def selection():
    choice = ChoiceEntry(
        members={"<one>": (2, 1), "two": (1, 0)}, thresholds={"core": 0.4}, steps=STEPS, text="2 x <one> + two"
    )
    candidates = [
        CandidateEntry(
            name=name,
            plan=name,
            configuration="2d",
            folds=("0", "1"),
            weights=("x", "y"),
            dsc={"whole": 0.8, "core": 0.6},
        )
        for name in ("<one>", "two")
    ]
    gains = [
        GainEntry(
            name=name, num_cases=9, baseline=0.7, selected=0.75, gain=0.05, ci95=(0.01, 0.09), is_claimed=name is None
        )
        for name in (None, "whole", "core")
    ]
    return Selection(
        identity="i",
        dataset="Toy",
        names=("whole", "core"),
        has_regions=True,
        candidates=tuple(candidates),
        num_left_out=2,
        cases=(CaseScores(case_id="c", part=0, baseline=(0.7, 0.7), selected=(0.8, 0.7)),),
        choice=choice,
        combination=Combination(weights={"whole": (2, 1), "core": (1, 0)}, thresholds={"core": 0.4}),
        dsc={"whole": 0.85, "core": 0.7},
        baseline="two",
        by_part=(PartEntry(part=0, num_cases=9, choice=choice, baseline="two"),),
        gains=tuple(gains),
        claim="The choice is better than <none>.",
        trials=(trial("taken", 0.05), trial("harms", 0.04, "three", "core"), trial("no gain", -0.01, "four")),
        calibration=CalibrationEntry(
            temperature=1.25, num_voxels=100, nll=(0.5, 0.4), ece=(0.2, 0.1), fitted_nll=None, fitted_ece=None
        ),
    )


def test_the_page_tells_what_may_be_claimed_what_was_chosen_and_what_was_rejected(selection):
    html = selection_page(selection, None, None)
    Balance().feed(html)
    for words in ("+0.0500", "+0.0100 to +0.0900", "harms core", "no gain", "1.250", "0.8500", "Painted above"):
        assert words in html
    assert html.index("What may be claimed") < html.index("What was rejected, and why")
    assert "only the largest part of a and b" in html


def test_names_are_escaped_and_what_is_not_there_is_left_out(selection):
    html = selection_page(selection, None, None)
    assert "&lt;one&gt;" in html
    assert "<one>" not in html
    assert "What settings bring" not in html
    assert "Trust" not in html


def test_the_same_selection_gives_the_same_page(selection):
    assert selection_page(selection, None, None) == selection_page(selection, None, None)


@pytest.mark.parametrize(
    ("step", "words"),
    [
        (KeepLargest(labels=("a", "b", "c")), "only the largest part of a, b and c"),
        (RemoveSmall(labels=("a",), least_mm3=30), "no parts of a below 30 mm3"),
        (FillHoles(label="a"), "holes of a filled"),
        (ReplaceSmall(label="et", by="background", least_mm3=1000), "et below 1000 mm3 becomes background"),
    ],
)
def test_steps_are_told_in_words(step, words):
    assert step_text(step) == words
