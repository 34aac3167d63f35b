from tests.reports.results.draws import drawn_report
from tumorseg.reports.results.choosing import worst_and_best
from tumorseg.schema.metrics import CaseMetrics, MetricsReport


def report_of(means: dict[str, float | None], metric: str) -> MetricsReport:
    cases = []
    for case_id, value in means.items():
        cases.append(
            CaseMetrics(
                case_id=case_id, label="WT", prediction_volume_ml=1, reference_volume_ml=1, scores={metric: value}
            )
        )
    return drawn_report(3, ("dsc",)).model_copy(update={"cases": tuple(cases), "metrics": (metric,)})


def chosen(means: dict[str, float | None], metric: str, num_worst: int, num_best: int) -> list[str]:
    shown = worst_and_best(report_of(means, metric), num_worst=num_worst, num_best=num_best)
    return [f"{case.case_id} {case.remark.split(',')[0]}" for case in shown]


def test_the_worst_come_first_and_undefined_ones_not_at_all() -> None:
    means = {"a": 0.5, "b": None, "c": 0.9, "d": 0.1, "e": 0.7}
    assert chosen(means, "dsc", 2, 1) == ["d among the worst of 4", "a among the worst of 4", "c among the best of 4"]


def test_of_a_distance_much_is_bad_and_of_an_error_its_size_counts() -> None:
    assert chosen({"a": 3.0, "b": 20.0, "c": 0.0}, "hd95_mm", 1, 1) == [
        "b among the worst of 3",
        "c among the best of 3",
    ]
    assert chosen({"a": -9.0, "b": 4.0, "c": 0.5}, "volume_error_ml", 1, 1)[0] == "a among the worst of 3"


def test_few_cases_are_shown_once_each() -> None:
    assert chosen({"a": 0.5, "b": 0.6}, "dsc", 3, 3) == ["a among the worst of 2", "b among the best of 2"]
    assert chosen({"a": 0.5, "b": 0.6}, "dsc", 0, 0) == []


def test_the_remark_tells_the_mean_over_labels() -> None:
    report = drawn_report(4)
    case = worst_and_best(report)[0]
    values = [found.scores["dsc"] for found in report.cases if found.case_id == case.case_id]
    known = [value for value in values if value is not None]
    assert case.remark.endswith(f"mean DSC {sum(known) / len(known):.3f}")
