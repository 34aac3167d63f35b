"""Length of training, by the number of cases or the hours that were given."""

import pytest

from tests.planning.measured import case, equal_cases, fingerprint, planned
from tumorseg.planning.choices.training import choose_training
from tumorseg.planning.evidence.independence import FEW_CASES, MANY_CASES
from tumorseg.planning.presets import PRESETS


def chosen(cases, preset=PRESETS["optimized"]):
    return choose_training(fingerprint(cases), preset, max_hours=None)


@pytest.mark.parametrize(
    ("count", "epochs"),
    [(1, 500), (FEW_CASES - 1, 500), (FEW_CASES, 1000), (MANY_CASES, 1000), (MANY_CASES + 1, 2000)],
)
def test_the_number_of_cases_decides_the_length(count, epochs):
    found = chosen(equal_cases(count))
    assert found.value.epochs == epochs
    reason = found.reasons["training"]
    assert reason.inputs == {"independent_cases": count, "preset_epochs": 1000}
    assert reason.alternative
    assert reason.source == ("preset" if epochs == 1000 else "rule")


def test_the_reason_tells_length_and_what_the_preset_says_of_the_rest():
    rule = planned(fingerprint(equal_cases(5))).reasons["training"].rule
    assert rule.startswith("0.5 times the length of preset optimized")
    assert rule.endswith("precision and clipping of preset optimized")


def test_cases_of_one_group_count_as_one():
    cases = [case(f"{patient} {frame}", group=f"p{patient}") for patient in range(10) for frame in range(2)]
    assert chosen(cases).reasons["training"].inputs["independent_cases"] == 10


def test_no_training_is_shortened_to_nothing():
    preset = PRESETS["optimized"]
    short = preset.model_copy(update={"training": preset.training.model_copy(update={"epochs": 1})})
    assert chosen(equal_cases(3), short).value.epochs == 1


def test_max_hours_decides_the_length_by_itself():
    plan = planned(fingerprint(equal_cases(5)), max_hours=2.0)
    assert (plan.training.epochs, plan.training.max_hours) == (1000, 2.0)
    assert plan.reasons["training"].rule.startswith("--max-hours decides the length")
    assert plan.reasons["training"].alternative.startswith("more hours")
