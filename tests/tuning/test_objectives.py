import pytest

from tumorseg.errors import InputError
from tumorseg.schema.metrics import CaseMetrics
from tumorseg.schema.tuning import CaseScores
from tumorseg.tuning.objectives import case_scores, case_value, is_better, metrics_of, objective_values, sign_of


def scored(label, dsc, hd95_mm, prediction_ml=1.0, reference_ml=1.0, **scores):
    return CaseMetrics(
        case_id="a",
        label=label,
        prediction_volume_ml=prediction_ml,
        reference_volume_ml=reference_ml,
        scores={"dsc": dsc, "hd95_mm": hd95_mm, **scores},
    )


def test_a_label_that_only_one_of_the_two_has_counts_the_diagonal():
    found = case_scores(
        [
            scored("found", 0.9, 2.0),
            scored("missed", 0.0, None, prediction_ml=0.0),
            scored("invented", 0.0, None, reference_ml=0.0),
            scored("nowhere", None, None, prediction_ml=0.0, reference_ml=0.0),
        ],
        diagonal_mm=50.0,
    )
    assert found.hd95 == {"found": 2.0, "missed": 50.0, "invented": 50.0, "nowhere": None}
    assert case_value(found, "hd95") == pytest.approx(34.0)
    assert case_value(found, "dsc") == pytest.approx(0.3)


def test_what_nobody_asks_for_is_not_there():
    found = case_scores(
        [CaseMetrics(case_id="a", label="x", prediction_volume_ml=1, reference_volume_ml=1, scores={"dsc": 0.5})]
    )
    assert found == CaseScores(dsc={"x": 0.5})
    assert case_value(found, "hd95") is None
    assert case_value(found, "seconds") is None


def test_an_objective_is_the_mean_over_cases_of_the_mean_over_labels():
    cases = {
        "a": CaseScores(dsc={"x": 0.8, "y": 0.6}, nsd={"x": 1.0, "y": None}, seconds=2.0),
        "b": CaseScores(dsc={"x": 0.5, "y": None}, nsd={"x": 0.5, "y": None}, seconds=4.0),
        "nothing there": CaseScores(dsc={"x": None, "y": None}, nsd={"x": None, "y": None}, seconds=6.0),
    }
    assert objective_values(cases, ("dsc", "nsd", "seconds")) == pytest.approx((0.6, 0.75, 4.0))


def test_an_objective_that_no_case_defines_is_refused():
    with pytest.raises(InputError, match="dsc is defined in none of 1 scored cases"):
        objective_values({"a": CaseScores(dsc={"x": None})}, ("dsc",))


def test_only_metrics_that_are_asked_for_are_measured_and_the_dsc_always():
    assert metrics_of(("seconds",)) == ("dsc",)
    assert metrics_of(("hd95", "dsc", "nsd")) == ("dsc", "hd95_mm", "nsd")


def test_more_overlap_is_better_and_less_distance_and_time():
    assert [sign_of(objective) for objective in ("dsc", "nsd", "hd95", "seconds")] == [1, 1, -1, -1]


def test_which_of_two_values_is_better_goes_by_the_objective():
    assert is_better("seconds", 1.0, 2.0)
    assert is_better("nsd", 0.2, 0.1)
    assert not is_better("hd95", 2.0, 1.0)
    assert not is_better("dsc", 0.5, 0.5)
