import logging

import pytest

from tumorseg.errors import InputError
from tumorseg.ops.summaries import metrics_report
from tumorseg.reports.tables import metrics_csv
from tumorseg.schema.metrics import CaseMetrics
from tumorseg.schema.score_rules import ScoreRules
from tumorseg.stages.evaluation.comparing import CompareRequest, compare_scores
from tumorseg.stages.evaluation.tables_in import read_scores

PLAIN = "case_id,label,dsc,hd95_mm\na,WT,0.5,3\nb,WT,,\n"


def written(folder, content, name="scores.csv"):
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def scored(case_id, label, dsc, hd95_mm):
    scores = {"dsc": dsc, "hd95_mm": hd95_mm}
    return CaseMetrics(case_id=case_id, label=label, prediction_volume_ml=1.25, reference_volume_ml=2.0, scores=scores)


def test_what_evaluate_wrote_comes_back_as_it_was(tmp_path):
    cases = [scored("a", "WT", 1 / 3, 2.5), scored("a", "E, T", None, None), scored("b", "WT", 0.1, 7.0)]
    attributes = {"a": {"site": "Ulm", "age": "70"}, "b": {"site": "=Bern"}}
    report = metrics_report(cases, rules=ScoreRules(metrics=("dsc", "hd95_mm")), attributes=attributes)
    report = report.changed(failed=("d",), missing=("c", "b"))
    found = read_scores(written(tmp_path, metrics_csv(report)))
    assert (found.cases, found.metrics, found.report) == (report.cases, report.metrics, None)
    assert found.attributes == attributes
    assert (set(found.failed), set(found.missing)) == ({"d"}, {"b", "c"})


@pytest.mark.parametrize(
    "content",
    [
        PLAIN,
        "\ufeff" + PLAIN,
        PLAIN.replace(",", ";").replace("0.5", "0,5"),
        PLAIN.replace(",", "\t"),
        "sep=;\n" + PLAIN.replace(",", ";"),
        "label,HD95 (mm),Dice,Case ID\nWT,3.0,.5,a\nWT,inf,nan,b\n",
        "case,label,dice_score,HD95,\na,WT,5e-1,3,\n,,,,\nb,WT,N/A,-,\n",
    ],
)
def test_tables_of_many_hands_say_the_same(tmp_path, content):
    found = read_scores(written(tmp_path, content))
    assert found.metrics == ("dsc", "hd95_mm")
    assert [(case.case_id, case.label, case.scores) for case in found.cases] == [
        ("a", "WT", {"dsc": 0.5, "hd95_mm": 3.0}),
        ("b", "WT", {"dsc": None, "hd95_mm": None}),
    ]
    assert found.cases[0].reference_volume_ml is None
    flags = [found.cases[1].is_undefined, found.cases[1].is_missed, found.cases[1].is_invented]
    assert not any(flags)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("", "found the columns of nothing, expected 'case_id' and 'label' too"),
        ("case_id,dsc\na,1\n", "expected 'label' too; mend line 1"),
        ("case_id,label,age\na,WT,7\n", "expected a metric among them, such as dsc"),
        ("case_id,label,dsc,Dice\na,WT,1,1\n", "of which several are dsc"),
        ("case_id,label,dsc\n", "found no line below the header"),
        ("case_id,label,dsc\na,WT,good\n", "line 2: found 'good' in the column dsc, expected a number"),
        ("case_id;label;dsc\na;WT;1.234,5\n", r"line 2: found '1\.234,5' in the column dsc"),
        ("case_id,label,dsc\na,WT,0,8\n", "line 2: found 4 cells, expected 3"),
        ("case_id,label,dsc\na,WT,81.2\n", "dsc is 81.2; expected 0 to 1; divide percentages by 100"),
        ("case_id,label,dsc\na,WT,1\nb,WT,1\n\na,WT,1\n", "found WT of case a in the lines 2 and 5, expected it once"),
        ("case_id,label,dsc\n,WT,1\n", "line 2: the cell of case_id is empty"),
        ("case_id,label,dsc\na,,1\n", "line 2: the cell of label is empty"),
        ("case_id,label,dsc\n../a,WT,1\n", "line 2: "),
        ("case_id,label,dsc,remark\na,,0.5,looks fine\n", "line 2: the cell of label is empty"),
        ("case_id,label,dsc,remark\na,,,looks fine\n", "line 2: the cell of label is empty"),
        ("case_id,label,dsc,remark\na,,0.5,failed\n", "line 2: the cell of label is empty"),
        ("case_id,label,dsc,remark\n,,,failed\n", "line 2: the cell of case_id is empty"),
        ("case_id,label,hd95_mm\na,WT,1_000\n", "found '1_000' in the column hd95_mm, expected a number"),
        ("case_id,label,dsc\na,WT,1_0e-1\n", "found '1_0e-1' in the column dsc"),
        ("case_id,label,dsc\na,WT,٠.٥\n", "in the column dsc, expected a number"),
        ("case_id,label,dsc\na,WT,1e999\n", "found '1e999' in the column dsc"),
        ("case_id;label;hd95_mm\na;WT;1,234\n", "hd95_mm, which may be 1.234 or 1234; write it as one of these"),
        ("case_id\tlabel\tvolume_error_ml\na\tWT\t-12,345\n", "which may be -12.345 or -12345"),
        ('case_id,label,hd95_mm\na,WT,"1,234"\n', "found '1,234' in the column hd95_mm, expected a number"),
        ("case_id,label,dsc\na,WT,1\n".encode("utf-16"), "is in UTF-16"),
    ],
)
def test_an_odd_table_is_refused_in_one_line_that_names_the_place(tmp_path, content, told):
    with pytest.raises(InputError, match=told) as refused:
        read_scores(written(tmp_path, content))
    assert "scores.csv" in str(refused.value)
    assert "\n" not in str(refused.value)


def test_only_what_holds_for_the_whole_case_becomes_an_attribute(tmp_path, caplog):
    table = "case_id,label,dsc,site,reader\na,WT,1,Ulm,x\na,ET,1,Ulm,y\nb,WT,1,,x\n"
    with caplog.at_level(logging.WARNING):
        found = read_scores(written(tmp_path, table))
    assert found.attributes == {"a": {"site": "Ulm"}, "b": {}}
    assert "column 'reader' is left out, as it differs between the lines of case a" in caplog.text


def test_a_metrics_json_that_is_none_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"metrics\.json: .*definitions"):
        read_scores(written(tmp_path, '{"cases": []}', "metrics.json"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no such file"):
        read_scores(tmp_path / "empty")


def test_a_decimal_comma_is_one_where_it_cannot_be_of_thousands(tmp_path):
    found = read_scores(written(tmp_path, "case_id;label;dsc;hd95_mm\na;WT;0,812;0,234\nb;WT;1,000;12,34\n"))
    assert [case.scores for case in found.cases] == [{"dsc": 0.812, "hd95_mm": 0.234}, {"dsc": 1.0, "hd95_mm": 12.34}]


@pytest.mark.parametrize(("heading", "is_told"), [("HD95", True), ("Hausdorff95", True), ("HD95 (mm)", False)])
def test_distances_without_a_unit_are_taken_for_millimetres_and_that_is_told(tmp_path, heading, is_told):
    table = written(tmp_path, f"case_id,label,{heading}\na,WT,3\nb,WT,4\n")
    found = compare_scores(CompareRequest(tables=(table,), against=table))
    told = f"{heading} is taken for millimetres, as its heading states no unit"
    assert (told in found.reports["1: scores"].warnings) == is_told
    assert (f"2: scores: {told}" in found.comparison.warnings) == is_told
    ranked = compare_scores(CompareRequest(tables=(table, table)))
    assert (f"1: scores: {told}" in ranked.ranking.warnings) == is_told
