import pytest

from tests.reports.results.draws import TEN_METRICS, drawn_cases, drawn_report
from tumorseg.ops.subgroups import split
from tumorseg.ops.summaries import metrics_report
from tumorseg.reports.results.sections import Cell, Table, transposed
from tumorseg.reports.results.summaries import intervals_words, subgroups_section, summary_section
from tumorseg.reports.tables import interval_text
from tumorseg.schema.metrics import Intervals, MetricsReport
from tumorseg.schema.score_rules import ScoreRules


def test_the_summary_has_means_with_intervals_and_says_of_how_many(small_report: MetricsReport) -> None:
    (table,) = summary_section(small_report).tables
    assert table.columns[:3] == ["Label", "DSC", "NSD"]
    for row in table.rows:
        found = small_report.summary[row[0].text].metrics["dsc"]
        assert found.mean is not None
        assert row[1].text == f"{found.mean:.3f}"
        of_fewer = "" if found.num == 5 else f", of {found.num}"
        assert row[1].note == interval_text(found, "dsc") + of_fewer


def test_many_metrics_stand_below_each_other() -> None:
    (table,) = summary_section(drawn_report(5, TEN_METRICS)).tables
    assert table.columns == ["Metric", "WT", "TC", "ET"]
    assert [row[0].text for row in table.rows][:2] == ["DSC", "IoU"]
    assert [row[0].text for row in table.rows][-1] == "Invented"


def test_tolerances_are_said_where_they_are_used(small_report: MetricsReport) -> None:
    own = small_report.changed(tolerances_mm={"ET": 0.5})
    assert summary_section(own).tables[0].caption.endswith("NSD at 1 mm, ET at 0.5 mm.")
    assert "NSD" not in summary_section(drawn_report(5, ("dsc", "iou"))).tables[0].caption
    assert summary_section(drawn_report(5, ("boundary_iou",))).tables[0].caption.endswith(" Boundary IoU at 1 mm.")
    assert "NSD" not in summary_section(small_report.changed(tolerance_mm=None)).tables[0].caption


def test_subgroups_have_a_row_for_each_value_and_label_with_its_number_of_cases(small_report: MetricsReport) -> None:
    (table,) = subgroups_section(small_report).tables
    assert table.columns[:3] == ["site", "Label", "Cases"]
    assert [(row[0].text, row[1].text, row[2].text) for row in table.rows][:4] == [
        ("site A", "WT", "2"),
        ("site A", "TC", "2"),
        ("site A", "ET", "2"),
        ("site B", "WT", "2"),
    ]
    assert all(len(row) == len(table.columns) for row in table.rows)


@pytest.mark.parametrize("column", ["age", "age=41,43", "reference_volume_ml"])
def test_groups_that_are_ranges_of_numbers_say_how_many_cases_each_label_has(column: str) -> None:
    cases = drawn_cases(7, ("dsc",), seed=3)
    ages = {f"case_{number:04d}": {"age": str(40 + number)} for number in range(7)}
    report = metrics_report(cases, rules=ScoreRules(metrics=("dsc",)), attributes=ages, subgroup_columns=(column,))
    groups = split(cases, ages, column).groups
    (table,) = subgroups_section(report).tables
    for value, label, num_cases, dsc, *_ in table.rows:
        own = [case for case in groups[value.text] if case.label == label.text]
        num_defined = sum(case.scores["dsc"] is not None for case in own)
        assert num_cases.text == str(len(own)) != "0"
        assert ("of " in dsc.note) == (num_defined < len(own))


def test_intervals_say_what_was_drawn() -> None:
    assert "(BCa bootstrap, values of site drawn 500 times)" in intervals_words(
        Intervals(method="bca", num_resamples=500, cluster="site")
    )


def test_transposing_twice_gives_the_table_back() -> None:
    table = Table(["Label", "A", "B"], [[Cell("x", is_text=True), Cell("1", "a"), Cell("2", "b")]], "words")
    turned = transposed(table, "Metric")
    assert turned.columns == ["Metric", "x"]
    assert [row[0].text for row in turned.rows] == ["A", "B"]
    assert transposed(turned, "Label") == table
