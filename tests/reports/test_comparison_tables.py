import numpy as np

from tumorseg.ops.significance.comparing import compare
from tumorseg.ops.significance.ranking import rank
from tumorseg.ops.summaries import metrics_report
from tumorseg.reports.comparison_tables import comparison_lines, p_text, ranking_lines
from tumorseg.reports.tables import subgroup_rows
from tumorseg.schema.comparisons import ComparisonRules
from tumorseg.schema.metrics import CaseMetrics, MetricsReport
from tumorseg.schema.score_rules import ScoreRules


def model(gain: float, num_cases: int = 24) -> MetricsReport:
    values = np.random.default_rng(3).beta(8, 3, num_cases)
    cases = []
    for number, value in enumerate(values):
        scores = {"dsc": float(min(1.0, value + gain))}
        volumes = {"prediction_volume_ml": 1.0, "reference_volume_ml": 2.0 + number}
        cases.append(CaseMetrics(case_id=f"c{number:02d}", label="WT", scores=scores, **volumes))
    attributes = {case.case_id: {"site": "Ulm" if number % 2 else "Bern"} for number, case in enumerate(cases)}
    rules = ScoreRules(metrics=("dsc",))
    return metrics_report(cases, rules=rules, attributes=attributes, subgroup_columns=("site",))


def test_a_comparison_tells_means_tests_and_subgroups() -> None:
    rules = ComparisonRules(subgroup_columns=("site",))
    first, second = model(0.0), model(-0.1)
    lines = comparison_lines(compare(first, second.changed(cases=second.cases[2:]), names=("new", "old"), rules=rules))
    text = "\n".join(lines)
    assert text.startswith(
        "new against old: 22 cases that both have; differences are new minus old\n2 cases that new alone has"
    )
    row = text.splitlines()[4]
    assert row.split()[:3] == ["WT", "dsc", "22"]
    assert "+0.1000" in row
    assert row.endswith("22/0/0        new")
    assert [line.split()[0] for line in text.splitlines() if line.startswith(("Bern", "Ulm"))] == ["Bern", "Ulm"]


def test_a_ranking_tells_places_how_firm_they_are_and_which_models_differ() -> None:
    found = rank({"low": model(-0.2), "high": model(0.0), "middle": model(-0.1)})
    text = "\n".join(ranking_lines(found))
    assert text.startswith("3 models over 24 cases that all have, by dsc\n")
    places = [line.split()[2:4] for line in text.splitlines() if line.startswith("all  ")]
    assert places == [["1", "high"], ["2", "middle"], ["3", "low"]]
    assert "100%" in text
    assert "Kendall's tau between the ranking and those of resamples: 1.00 on average" in text


def test_a_p_that_is_very_small_is_not_shown_as_0() -> None:
    assert [p_text(p) for p in (None, 0.00001, 0.0123, 1.0)] == ["–", "<0.0001", "0.0123", "1.0000"]


def test_subgroups_have_a_row_for_each_value_and_label() -> None:
    rows = subgroup_rows(model(0.0))
    assert [(row["subgroups by"], row["value"], row["label"]) for row in rows] == [
        ("site", "Bern", "WT"),
        ("site", "Ulm", "WT"),
    ]
