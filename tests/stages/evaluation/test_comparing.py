import json
import os

import numpy as np
import pytest

from tumorseg.cli.main import run
from tumorseg.errors import InputError
from tumorseg.ops.summaries import metrics_report
from tumorseg.schema.comparisons import Comparison, Ranking
from tumorseg.schema.metrics import CaseMetrics, MetricsReport
from tumorseg.schema.score_rules import ScoreRules, lesion_preset
from tumorseg.stages.evaluation.comparing import CompareRequest, _defined_otherwise, compare_scores, names_of
from tumorseg.storage.json_files import read_record

SITES = ("Ulm", "Bern", "Graz")


def write_model(
    path, *, gain, num_cases=200, seed=0, header="case_id,label,site,patient,dsc,hd95_mm,reference_volume_ml"
):
    """Write scores of a model that is better than the common difficulty of each case by a gain."""
    generator = np.random.default_rng(seed)
    difficulty = np.random.default_rng(99).beta(8, 2, size=(num_cases, 2))
    lines = [header]
    for number in range(num_cases):
        known = f"{SITES[number % 3]},p{number // 2}"
        for label, ease in zip(("WT", "ET"), difficulty[number], strict=True):
            dsc = float(np.clip(ease + gain * (label == "WT") + generator.normal(0, 0.02), 0, 1))
            lines.append(f"c{number:03d},{label},{known},{dsc:.4f},{20 * (1 - dsc):.3f},{5 + number % 40}")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")
    return path


def test_two_models_over_200_cases_are_compared_from_tables_alone_with_subgroups(tmp_path, capsys):
    first, second = write_model(tmp_path / "A.csv", gain=0.05, seed=1), write_model(tmp_path / "B.csv", gain=0, seed=2)
    places = ["--from", first, "--against", second, "--cluster", "patient", "-o", tmp_path / "out"]
    subgroups = ["--subgroups", "site", "--subgroups", "size"]
    assert run(["evaluate", *map(str, places), *subgroups]) == 0
    told = capsys.readouterr().out
    assert "A against B: 200 cases that both have" in told
    found = read_record(Comparison, tmp_path / "out/comparison.json")
    rows = {(row.label, row.metric): row for row in found.rows}
    assert rows["WT", "dsc"].better == rows["WT", "hd95_mm"].better == "first"
    assert rows["WT", "dsc"].mean_difference == pytest.approx(0.05, abs=0.02)
    assert rows["WT", "dsc"].num_pairs == 200
    assert rows["ET", "dsc"].better is None
    assert rows["ET", "dsc"].p_permutation_holm > 0.05
    assert set(found.subgroups["site"]) == set(SITES)
    assert len(found.subgroups["reference_volume_ml"]) == 3
    assert found.rules.intervals.cluster == "patient"
    assert sorted(os.listdir(tmp_path / "out")) == ["comparison.json", "metrics.csv", "metrics.json", "report.html"]
    report = read_record(MetricsReport, tmp_path / "out/metrics.json")
    assert set(report.subgroups) == {"site", "reference_volume_ml"}
    assert report.tolerance_mm is None
    assert "nsd" not in report.definitions
    assert "table" in report.definitions["scores"]


def test_a_table_alone_is_summarised_and_nothing_need_be_written(tmp_path, capsys):
    table = write_model(tmp_path / "A.csv", gain=0, num_cases=30)
    assert run(["--json", "evaluate", "--from", str(table), "--metrics", "overlap", "--subgroups", "site"]) == 0
    found = json.loads(capsys.readouterr().out)["reports"]["A"]
    assert found["metrics"] == ["dsc"]
    assert set(found["subgroups"]["site"]) == set(SITES)
    assert os.listdir(tmp_path) == ["A.csv"]


def test_several_tables_are_ranked(tmp_path, capsys):
    tables = [write_model(tmp_path / f"{gain}.csv", gain=gain / 100, num_cases=40, seed=gain) for gain in (0, 4, 9)]
    options = [option for table in tables for option in ("--from", str(table))]
    assert run(["evaluate", *options, "--metrics", "dsc", "-o", str(tmp_path / "out")]) == 0
    assert "3 models over 40 cases that all have, by dsc" in capsys.readouterr().out
    ranking = read_record(Ranking, tmp_path / "out/ranking.json")
    assert [model.name for model in ranking.overall.models] == ["9", "4", "0"]
    assert sorted(os.listdir(tmp_path / "out")) == ["ranking.json", "report.html"]


def test_a_metrics_json_keeps_its_definitions_and_is_compared_with_its_own_table(tmp_path):
    table = write_model(tmp_path / "A.csv", gain=0, num_cases=25)
    compare_scores(CompareRequest(tables=(table,), output=tmp_path / "out"))
    document = tmp_path / "out/metrics.json"
    content = json.loads(document.read_text())
    content["definitions"]["dsc"] = "as ever"
    document.write_text(json.dumps(content))
    found = compare_scores(CompareRequest(tables=(tmp_path / "out",), against=tmp_path / "out/metrics.csv"))
    assert found.reports[next(iter(found.reports))].definitions["dsc"] == "as ever"
    assert all(row.mean_difference == 0 and row.ties == row.num_pairs for row in found.comparison.rows)


def test_further_columns_come_from_a_table_of_their_own(tmp_path):
    table = write_model(tmp_path / "A.csv", gain=0, num_cases=30)
    (tmp_path / "known.csv").write_text("case_id;scanner\n" + "".join(f"c{n:03d};{'XY'[n % 2]}\n" for n in range(30)))
    request = CompareRequest(tables=(table,), table=tmp_path / "known.csv", subgroups=("scanner", "site"))
    (report,) = compare_scores(request).reports.values()
    assert set(report.subgroups["scanner"]) == {"X", "Y"}
    assert report.attributes["c001"]["scanner"] == "Y"
    (tmp_path / "known.csv").write_text("case_id,scanner\nother,X\n")
    with pytest.raises(InputError, match=r"knows none of the cases: it has other, scored are c000, c001"):
        compare_scores(request)


def test_what_does_not_fit_is_refused_in_a_line(tmp_path, capsys):
    first, second = (
        write_model(tmp_path / "A.csv", gain=0, num_cases=9),
        write_model(tmp_path / "B.csv", gain=0, num_cases=9),
    )
    with pytest.raises(InputError, match="--against compares two models, and --from names 2"):
        compare_scores(CompareRequest(tables=(first, second), against=first))
    with pytest.raises(InputError, match=r"one\.json: is one file, and a comparison has several"):
        compare_scores(CompareRequest(tables=(first,), against=second, output=tmp_path / "one.json"))
    with pytest.raises(InputError, match="have none of nsd; they have dsc, hd95_mm"):
        compare_scores(CompareRequest(tables=(first,), metrics=("nsd",)))
    assert run(["evaluate", "--from", str(first), "-r", "x", "--missing", "skip"]) == 2
    assert "--missing, -r mean nothing beside it" in capsys.readouterr().err
    assert run(["evaluate", "-i", str(first)]) == 2
    assert "Missing option -r" in capsys.readouterr().err
    assert run(["evaluate", "--from", str(first), "--metrics", "dcs"]) == 2
    assert "there is no metric 'dcs'" in capsys.readouterr().err


def test_models_are_called_by_as_much_of_their_path_as_tells_them_apart(tmp_path):
    (tmp_path / "one/unet.v2").mkdir(parents=True)
    assert names_of([tmp_path / "A.csv", tmp_path / "B.json"]) == ("A", "B")
    assert names_of([tmp_path / "one/metrics.json", tmp_path / "two/metrics.csv"]) == ("one", "two")
    assert names_of([tmp_path / "one/unet.v2", tmp_path / "two/unet.v2.csv"]) == ("one/unet.v2", "two/unet.v2")
    assert names_of([tmp_path / "A.csv", tmp_path / "A.csv"]) == ("1: A", "2: A")


@pytest.mark.parametrize(
    ("table", "told"),
    [
        ("id,scanner\nc000,X\n", "found the columns 'id', 'scanner', expected `case_id` and others, each once"),
        ("", "found the columns of nothing"),
        ("case_id,a,a\nc000,1,2\n", "found the columns 'case_id', 'a', 'a', expected"),
        ("case_id,scanner\nc000,X,Y\n", "line 2: found 3 cells, expected 2 as in the header"),
        ("case_id,scanner\n,X\n", "line 2: the cell of case_id is empty"),
        ("case_id,scanner\nc000,X,\n\nc000,Y\n", "line 4: found the case c000 again"),
    ],
)
def test_an_odd_table_of_columns_is_refused_in_one_line(tmp_path, table, told):
    scores = write_model(tmp_path / "A.csv", gain=0, num_cases=3)
    (tmp_path / "known.csv").write_text(table)
    with pytest.raises(InputError, match=told) as refused:
        compare_scores(CompareRequest(tables=(scores,), table=tmp_path / "known.csv"))
    assert "\n" not in str(refused.value)


def test_what_a_table_does_not_say_is_neither_guessed_nor_held_against_it(tmp_path):
    table = tmp_path / "A.csv"
    table.write_text("case_id,label,nsd\n" + "".join(f"c{number},WT,0.{number}\n" for number in range(1, 9)))
    compare_scores(CompareRequest(tables=(table,), output=tmp_path / "out"))
    document = tmp_path / "out/metrics.json"
    document.write_text(document.read_text().replace('"tolerance_mm": null', '"tolerance_mm": 2.0'))
    found = compare_scores(CompareRequest(tables=(document,), against=table)).comparison
    assert found.metrics == ("nsd",)
    assert found.warnings[0] == "tolerance not known of A: nsd"
    with pytest.raises(InputError, match="the table does not say how large structures are"):
        compare_scores(CompareRequest(tables=(table,), subgroups=("size",)))


def test_metrics_and_lesions_that_are_defined_otherwise_are_told():
    reports = {}
    for name, preset in (("ours", "brats_gli"), ("theirs", "brats_2024_met")):
        rules = ScoreRules(metrics=("dsc", "lesion_dsc"), lesions=lesion_preset(preset).rules)
        scores = {"dsc": 0.5, "lesion_dsc": 0.5}
        volumes = {"prediction_volume_ml": 1.0, "reference_volume_ml": 1.0}
        cases = [CaseMetrics(case_id=f"c{number}", label="WT", scores=scores, **volumes) for number in range(3)]
        reports[name] = metrics_report(cases, rules=rules)
    told = _defined_otherwise(reports)
    assert any(line.startswith("lesions is defined otherwise for ours than for theirs") for line in told)
    assert not any(line.startswith("dsc") for line in told)
    assert _defined_otherwise({"ours": reports["ours"], "again": reports["ours"]}) == []
