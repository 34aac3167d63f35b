import json
import logging

import numpy as np
import pytest

from tests.stages.evaluation.cohort_files import AFFINE, NUM_CASES, drawn, request, save
from tumorseg.cli.main import run
from tumorseg.errors import InputError, TumorsegError
from tumorseg.schema.comparisons import Comparison
from tumorseg.schema.metrics import MetricsReport
from tumorseg.stages.evaluation.evaluate import evaluate, evaluate_against
from tumorseg.storage.json_files import read_record


def test_what_a_manifest_says_of_cases_makes_clusters_and_subgroups(cohort):
    report = evaluate(request(cohort, subgroups=("site", "age=42", "size")))
    assert report.attributes["c3"] == {"group": "p1", "site": "Bern", "age": "43"}
    assert report.intervals.cluster == "group"
    assert [len(report.subgroups[name]) for name in ("site", "age", "reference_volume_ml")] == [2, 2, 3]
    assert report.subgroups["site"]["Ulm"]["label_1"].metrics["dsc"].num == 3
    assert evaluate(request(cohort, cluster="none")).intervals.cluster is None
    with pytest.raises(InputError, match="no case has a value of 'scanner'"):
        evaluate(request(cohort, subgroups=("scanner",)))


def test_metrics_tolerances_and_rules_are_those_asked_for(cohort, capsys):
    places = [
        "-i",
        cohort / "predictions",
        "-r",
        cohort / "set",
        "-d",
        cohort / "set",
        "-o",
        cohort / "out.json",
        "--jobs",
        1,
    ]
    options = ["--metrics", "iou,nsd,lesions", "--tolerance", 2, "--tolerance", "core=0", "--lesions", "plain"]
    assert run(["evaluate", *map(str, (*places, *options))]) == 0
    report = read_record(MetricsReport, cohort / "out.json")
    assert report.metrics[:2] == ("iou", "nsd")
    assert "lesion_f1" in report.metrics
    assert (report.tolerance_mm, report.tolerances_mm) == (2.0, {"core": 0.0})
    # One voxel off by 0.8 mm: within 2 mm, beyond 0 mm.
    assert report.summary["edema"].metrics["nsd"].mean == 1
    assert report.summary["core"].metrics["nsd"].mean < 1
    capsys.readouterr()
    assert run(["evaluate", *map(str, places), "--tolerance", "tumour=1"]) == 1
    assert "--tolerance names tumour, scored are core, edema" in capsys.readouterr().err
    for wrong, told in (("--tolerance=core=x", "'x' is not a valid float"), ("--tolerance==1", "names no label")):
        assert run(["evaluate", *map(str, places), wrong]) == 2
        assert told in capsys.readouterr().err
    assert run(["evaluate", *map(str, places), "--tolerance", "1", "--tolerance", "2"]) == 2
    assert "is given twice" in capsys.readouterr().err
    assert run(["evaluate", *map(str, places), "--lesions", "mine"]) == 1
    assert "--lesions: there are no rules for lesions called 'mine'" in capsys.readouterr().err


def test_a_prediction_on_another_grid_is_refused_unless_resampling_is_asked_for(cohort):
    # Every voxel of the first case in two along x, the outer edges the same: nothing is lost.
    fine = np.repeat(drawn(0), 2, axis=0)
    affine = np.diag([0.4, 1.2, 3.0, 1.0])
    affine[0, 3] = -0.2
    save(cohort / "predictions/c0.nii.gz", fine, affine)
    with pytest.raises(TumorsegError, match="--resample nearest scores it on the grid of its reference"):
        evaluate(request(cohort))
    report = evaluate(request(cohort, resample="nearest"))
    told = "1 of 4 predictions lay on another grid than their reference and were resampled onto it by nearest neighbour: c0"
    assert told in report.warnings
    assert report.warnings.count(told) == 1
    assert {case.scores["dsc"] for case in report.cases if case.case_id == "c0"} == {1.0}
    assert report.is_complete


def test_a_prediction_of_another_place_is_refused_even_if_resampling_is_asked_for(cohort):
    away = AFFINE.copy()
    away[:3, 3] = 300
    save(cohort / "predictions/c0.nii.gz", drawn(0), away)
    with pytest.raises(TumorsegError, match="have 0% of the smaller one's field of view in common"):
        evaluate(request(cohort, resample="nearest"))


def test_a_file_says_which_labels_are_the_same(cohort):
    for number in range(NUM_CASES):
        other = np.array([0, 7, 5], np.uint8)[np.roll(drawn(number), 1, axis=0)]
        save(cohort / f"renumbered/c{number}.nii.gz", other)
    mapping = cohort / "same.json"
    mapping.write_text(json.dumps({"tumour": {"prediction": [5, 7], "reference": ["core", "edema"]}}))
    plain = evaluate(request(cohort, dataset=str(cohort / "set")))
    with pytest.raises(InputError, match=r"none in common.*give --labels FILE"):
        evaluate(request(cohort, predictions=(cohort / "renumbered",)))
    options = {"predictions": (cohort / "renumbered",), "labels": mapping}
    whole = evaluate(request(cohort, dataset=str(cohort / "set"), **options))
    assert {case.label for case in whole.cases} == {"tumour"}
    mapping.write_text(
        json.dumps({"core": {"prediction": 7, "reference": 1}, "edema": {"prediction": 5, "reference": 2}})
    )
    parts = evaluate(request(cohort, **options))
    assert [case.scores for case in parts.cases] == [case.scores for case in plain.cases]
    mapping.write_text('{"core": {"prediction": 7}}')
    with pytest.raises(InputError, match=r"same\.json: "):
        evaluate(request(cohort, **options))


def test_other_predictions_or_their_scores_are_compared_case_by_case(cohort):
    for number in range(NUM_CASES):
        save(cohort / f"others/c{number}.nii.gz", drawn(number))
    # Of plain files no image is known, so that no picture is drawn.
    plain = {"references": (cohort / "set/label",), "output": cohort / "out"}
    found = evaluate_against(request(cohort, against=cohort / "others", **plain))
    assert found.comparison.names == ("predictions", "others")
    written = read_record(Comparison, cohort / "out/comparison.json")
    assert written == found.comparison
    rows = {(row.label, row.metric): row for row in written.rows}
    assert rows["label_2", "dsc"].second_mean == 1
    assert rows["label_2", "dsc"].losses == NUM_CASES
    others = read_record(MetricsReport, cohort / "out/against/metrics.json")
    assert {case.scores["dsc"] for case in others.cases} == {1.0}
    again = evaluate_against(request(cohort, against=cohort / "out/against", **plain | {"output": cohort / "again"}))
    assert [row.changed(label=row.label) for row in again.comparison.rows] == list(found.comparison.rows)
    # What belongs to other scores does not stay beside new ones.
    evaluate(request(cohort, **plain))
    assert not (cohort / "out/comparison.json").exists()
    assert not (cohort / "out/against/metrics.json").exists()
    with pytest.raises(InputError, match="is one file, and a comparison has several"):
        evaluate(request(cohort, against=cohort / "others", output=cohort / "all.json"))


def test_the_report_shows_the_worst_and_the_best_cases_on_their_images(cohort, caplog):
    options = {"dataset": str(cohort / "set"), "output": cohort / "out"}
    with caplog.at_level(logging.WARNING):
        evaluate(request(cohort, **options))
    page = (cohort / "out/report.html").read_text()
    assert page.count("data:image/png;base64,") == NUM_CASES
    assert "is not shown" not in caplog.text
    # An image of another grid is no ground to draw on, and no reason to fail.
    save(cohort / "set/t1gd/c1.nii.gz", np.zeros((5, 5, 5), np.float32))
    with caplog.at_level(logging.WARNING):
        evaluate(request(cohort, **options))
    page = (cohort / "out/report.html").read_text()
    assert page.count("data:image/png;base64,") == NUM_CASES - 1
    assert "case c1 is not shown in the report" in caplog.text
