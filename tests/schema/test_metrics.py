import json

import pytest
from pydantic import ValidationError

from tumorseg.schema.base import to_json
from tumorseg.schema.metrics import CaseMetrics, LabelSummary, MetricsReport, MetricSummary

EMPTY = {"dsc": None, "nsd": None, "hd95_mm": None, "volume_error_ml": 0.0}


def case(predicted: float, reference: float, **scores: float | None) -> CaseMetrics:
    values = {**EMPTY, **scores}
    return CaseMetrics(
        case_id="a", label="WT", prediction_volume_ml=predicted, reference_volume_ml=reference, scores=values
    )


def test_a_case_is_undefined_missed_invented_or_none_of_them() -> None:
    kinds = [case(0, 0), case(0, 1, dsc=0.0), case(1, 0, dsc=0.0), case(1, 1, dsc=0.0)]
    assert [(c.is_undefined, c.is_missed, c.is_invented) for c in kinds] == [
        (True, False, False),
        (False, True, False),
        (False, False, True),
        (False, False, False),
    ]


def test_a_report_survives_json() -> None:
    summary = MetricSummary(mean=0.5, std=0.1, ci95=(0.4, 0.6), num=3)
    nothing = MetricSummary(mean=None, std=None, ci95=None, num=0)
    label = LabelSummary(
        metrics={"dsc": summary, "nsd": summary, "hd95_mm": nothing, "volume_error_ml": summary},
        num_cases=4,
        num_undefined=1,
        num_missed=0,
        num_invented=0,
    )
    report = MetricsReport(
        definitions={"dsc": "…"}, tolerance_mm=1.0, cases=(case(1, 1, dsc=0.5),), summary={"WT": label}
    )
    assert MetricsReport.model_validate_json(to_json(report)) == report
    document = json.loads(to_json(report))
    assert document["cases"][0]["dsc"] == 0.5
    assert document["summary"]["WT"]["num_cases"] == 4
    assert document["summary"]["WT"]["hd95_mm"] == {"mean": None, "std": None, "ci95": None, "num": 0}


@pytest.mark.parametrize("wrong", [{"dsc": 1.5}, {"nsd": -0.1}, {"hd95_mm": -1.0}, {"dsc": float("nan")}])
def test_impossible_scores_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        case(1, 1, **wrong)
