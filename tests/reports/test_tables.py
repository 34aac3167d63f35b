import csv
import io

from tumorseg.reports.tables import VOLUMES, interval_text, metrics_csv, number_text, summary_rows, terminal_table
from tumorseg.schema.metrics import MetricsReport


def test_a_table_is_aligned_text_left_and_numbers_right() -> None:
    rows = [{"label": "WT", "dsc": 0.91234, "missed": 2}, {"label": "long name", "dsc": None, "missed": 10}]
    assert terminal_table(rows).splitlines() == [
        "label        dsc  missed",
        "---------  -----  ------",
        "WT         0.912       2",
        "long name      –      10",
    ]


def test_a_table_shows_the_columns_asked_for_each_on_one_line() -> None:
    assert terminal_table([{"a": "x\ny", "b": 1}, {"b": 2}], ["b", "a"]) == "b  a\n-  ---\n1  x y\n2  –"


def test_no_rows_make_no_table() -> None:
    assert terminal_table([]) == ""


def test_the_summary_has_a_row_per_label(report: MetricsReport) -> None:
    rows = summary_rows(report)
    assert [(row["label"], row["undefined"], row["missed"], row["invented"]) for row in rows] == [
        ("WT", 0, 1, 0),
        ("ET", 1, 0, 1),
    ]
    assert interval_text(report.summary["WT"].metrics["dsc"], "dsc") in terminal_table(rows)


def test_metrics_without_a_value_or_an_interval_are_dashes(report: MetricsReport) -> None:
    (row,) = summary_rows(report.model_copy(update={"summary": {"ET": report.summary["ET"]}}))
    assert (number_text(None, "dsc"), number_text(1.23456, "hd95_mm")) == ("–", "1.23")
    assert row["hd95 mm"] == 3.25
    metrics = report.summary["ET"].metrics
    single = report.summary["ET"].model_copy(update={"metrics": metrics | {"dsc": metrics["hd95_mm"]}})
    assert summary_rows(report.model_copy(update={"summary": {"ET": single}}))[0]["dsc 95 % ci"] == "–"


def test_csv_holds_every_score_in_full_and_nothing_where_undefined(report: MetricsReport) -> None:
    rows = list(csv.DictReader(io.StringIO(metrics_csv(report))))
    assert len(rows) == 6
    assert (rows[0]["case_id"], rows[0]["label"], float(rows[0]["dsc"])) == ("case_01", "WT", 0.91)
    assert (rows[3]["dsc"], rows[3]["hd95_mm"], rows[3]["volume_error_ml"]) == ("", "", "0.0")


def test_csv_has_a_column_for_what_is_known_of_cases_but_none_twice(report: MetricsReport) -> None:
    known = {"case_01": {"site": "Ulm", "dsc": "by hand", "remark": "odd"}, "case_02": {"label": "x"}}
    rows = list(csv.reader(io.StringIO(metrics_csv(report.changed(attributes=known, failed=("case_09",))))))
    assert rows[0] == [*["case_id", "label", "dsc", "nsd", "hd95_mm", "volume_error_ml"], *VOLUMES, "site", "remark"]
    assert [row[-2:] for row in rows[1:]] == [["Ulm", ""]] * 2 + [["", ""]] * 4 + [["", "failed"]]
    assert rows[1][2] == "0.91"
