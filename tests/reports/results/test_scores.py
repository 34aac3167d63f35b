from typing import Any

from tests.reports.results.draws import drawn_report
from tumorseg.reports.results.scores import log_value, scores_value
from tumorseg.schema.metrics import MetricsReport


def test_names_stand_once_and_rows_refer_to_them(small_report: MetricsReport) -> None:
    value = scores_value(small_report)
    assert value["cases"] == [f"case_{number:04d}" for number in range(5)]
    assert [label["name"] for label in value["labels"]] == ["WT", "TC", "ET"]
    assert len({label["color"] for label in value["labels"]}) == 3
    assert [metric["title"] for metric in value["metrics"]] == ["DSC", "NSD", "HD95 (mm)", "Volume error (ml)"]


def test_a_metric_that_a_case_lacks_is_null() -> None:
    report = drawn_report(2)
    bare = report.cases[0].model_copy(update={"scores": {"dsc": 0.5}})
    (row,) = scores_value(report.model_copy(update={"cases": (bare,)}))["rows"]
    assert row[4:] == [0.5, None, None, None]


def test_cases_of_which_nothing_is_known_have_null_in_every_column(small_report: MetricsReport) -> None:
    known = {"case_0001": {"site": "B"}}
    (site,) = scores_value(small_report.changed(attributes=known))["columns"]
    assert site["values"] == [None, "B", None, None, None]


def test_curves_have_a_value_an_epoch_and_null_where_none_was_measured(log: list[dict[str, Any]]) -> None:
    value = log_value(log)
    losses, dsc, _ = value["panels"]
    assert value["epochs"] == [0, 1, 2, 3, 4, 5]
    assert dict(losses["curves"])["held out"][2] is None
    assert dict(dsc["curves"])["ET"] == [0.4, None, 0.4, 0.4, 0.4, 0.4]
