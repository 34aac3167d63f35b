import json
import shutil
import subprocess
import sys
import time

import nibabel
import numpy as np
import pytest

from tests.stages.crossing.conftest import pair, write_dataset
from tumorseg.errors import InputError, StorageError, TumorsegError
from tumorseg.ops.generalisation import Sample, mean_gap
from tumorseg.schema.metrics import MetricsReport
from tumorseg.schema.score_rules import ScoreRules
from tumorseg.stages.crossing.cells import CellRules, plan_cell
from tumorseg.stages.crossing.cross_evaluate import cross_evaluate
from tumorseg.stages.crossing.report import Matrix, write_report
from tumorseg.stages.crossing.request import CrossEvaluateRequest, Shard
from tumorseg.stages.crossing.run_cell import RunOptions, finished_cell, origin, run_cell
from tumorseg.storage.cross_folders import CrossFolder
from tumorseg.storage.json_files import read_record


def asked(crossing, output, *datasets, models=None, has_pages=False, **options):
    return CrossEvaluateRequest(
        roots=crossing.roots,
        models=crossing.models if models is None else models,
        datasets=datasets or (crossing.own, crossing.other),
        output=output,
        device="cpu",
        jobs=1,
        has_pages=has_pages,
        **options,
    )


@pytest.fixture(scope="module")
def shards(crossing, tmp_path_factory):
    """Return the results of both models on both datasets by two processes, one after the other."""
    output = tmp_path_factory.mktemp("matrix")
    first = cross_evaluate(asked(crossing, output, shard=Shard(number=1, count=2)))
    is_early = (output / "cross.json").exists()
    second = cross_evaluate(asked(crossing, output, shard=Shard(number=2, count=2)))
    return first, is_early, second


@pytest.fixture(scope="module")
def matrix(shards):
    """Return the folder and the document of both models on both datasets."""
    return shards[2].output, shards[2].report


def with_cell(matrix, output):
    """Return a folder in which `other` on `Other` is done already."""
    name = "cells/other/Other"
    shutil.copytree(matrix[0] / name, output / name)
    return output


def cell_of(report, model, dataset, dropped=()):
    (found,) = [cell for cell in report.cells if (cell.model, cell.dataset, cell.dropped) == (model, dataset, dropped)]
    return found


def values(path):
    return np.asanyarray(nibabel.load(path).dataobj)


def test_every_model_is_scored_on_every_dataset(matrix):
    output, report = matrix
    assert [(cell.model, cell.dataset, cell.state) for cell in report.cells] == [
        (model, dataset, "done") for model in ("toy", "other") for dataset in ("Toy", "Other")
    ]
    assert {path.name for path in output.iterdir()} >= {"cross.json", "cross.csv", "report.html", "cells", "shifts"}
    assert json.loads((output / "cross.json").read_text()) == report.model_dump(mode="json")


def test_channels_are_matched_by_what_they_mean(matrix):
    assert cell_of(matrix[1], "other", "Other").channels == {"T1": "T1-weighted", "T2": "t2w"}


def test_labels_are_matched_by_name_whatever_their_numbers(matrix, crossing):
    output, report = matrix
    folder = output / "cells" / "other" / "Other"
    scores = read_record(MetricsReport, folder / "metrics.json")
    assert cell_of(report, "other", "Other").scored == ("shell", "core")
    for case in scores.cases:
        predicted, drawn = {"shell": (2, 4), "core": (7, 1)}[case.label]
        found = values(folder / "predictions" / f"{case.case_id}.nii.gz") == predicted
        reference = values(f"{crossing.other}/{case.case_id}/seg.nii.gz") == drawn
        dsc = 2 * (found & reference).sum() / (found.sum() + reference.sum())
        assert case.scores["dsc"] == pytest.approx(dsc, abs=1e-9)


def test_cases_of_the_training_are_scored_by_folds_that_never_saw_them_or_not_at_all(matrix, toy):
    output, report = matrix
    own = cell_of(report, "toy", "Toy")
    assert own.held_out == toy.plan.folds[0]
    assert set(own.left_out) == {case_id for fold in toy.plan.folds[1:] for case_id in fold}
    masks = (output / "cells" / "toy" / "Toy" / "predictions").glob("**/*.nii.gz")
    assert {path.name.removesuffix(".nii.gz") for path in masks} == set(own.held_out)


def test_a_model_is_not_taken_for_trained_on_cases_that_it_does_not_know(matrix):
    cell = cell_of(matrix[1], "other", "Toy")
    assert (cell.num_cases, cell.held_out, cell.left_out) == (6, (), ())


def test_the_gap_is_between_held_out_cases_and_those_of_the_other_dataset(matrix):
    output, report = matrix
    (gap,) = [gap for gap in report.gaps if (gap.label, gap.metric) == ("core", "dsc")]
    assert (gap.model, gap.own, gap.other) == ("toy", "Toy", "Other")
    sides = []
    for dataset in ("Toy", "Other"):
        cases = read_record(MetricsReport, output / "cells" / "toy" / dataset / "metrics.json").cases
        known = [case.scores["dsc"] for case in cases if case.label == "core"]
        sides.append(Sample(np.array(known, dtype=np.float64)))
    expected = mean_gap(*sides)
    assert (gap.difference, gap.ci95, gap.num) == (expected.difference, expected.ci95, expected.num)


def test_models_of_equal_weights_do_not_differ_where_both_are_scored(matrix):
    rows = [row for row in matrix[1].compared if (row.dataset, row.label, row.metric) == ("Other", "core", "dsc")]
    assert [(row.first, row.second, row.num, row.difference) for row in rows] == [("toy", "other", 2, 0.0)]


def test_what_differs_between_the_datasets_is_measured(matrix):
    output, report = matrix
    spreads = {(shift.dataset, one.what, one.of): one for shift in report.shifts for one in shift.spreads}
    assert spreads["Other", "spacing", "Z"].quantiles["50"] == pytest.approx(1.4)
    assert ("Toy", "volume", "core") in spreads
    assert (output / "shifts" / "Other.png").read_bytes().startswith(b"\x89PNG")


def test_a_second_run_does_nothing_anew(matrix, crossing):
    output, report = matrix
    before = {path: path.stat().st_mtime_ns for path in (output / "cells").glob("**/*") if path.is_file()}
    assert cross_evaluate(asked(crossing, output)).report == report
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_other_rules_score_anew_and_segment_nothing_anew(crossing, matrix, tmp_path):
    with_cell(matrix, tmp_path)
    masks = {path: path.stat().st_mtime_ns for path in tmp_path.glob("cells/**/*.nii.gz")}
    wider = {"metrics": ("dsc", "iou"), "tolerance_mm": 2.0}
    scoring = CrossEvaluateRequest.model_fields["scoring"].default.changed(**wider)
    report = cross_evaluate(
        asked(crossing, tmp_path, crossing.other, models=crossing.models[1:], scoring=scoring, has_pages=True)
    ).report
    assert set(report.cells[0].summary["core"].metrics) == {"dsc", "iou"}
    assert {path: path.stat().st_mtime_ns for path in masks} == masks
    # Its planned files are not at hand, so that nobody can say that it has never seen these cases.
    page = (tmp_path / "cells" / "other" / "Other" / "report.html").read_text()
    assert "copies of these under other names may be among them" in page


def test_shards_share_the_cells_and_the_last_one_reports(shards):
    first, is_early, second = shards
    assert (first.report, first.num_waiting, is_early) == (None, 2, False)
    assert second.num_waiting == 0
    assert len(second.report.cells) == 4


@pytest.mark.slow
def test_channels_are_left_out_in_turn(crossing, matrix, tmp_path):
    request = asked(
        crossing, with_cell(matrix, tmp_path), crossing.other, models=crossing.models[1:], drop_channels=True
    )
    report = cross_evaluate(request).report
    assert [(cell.dropped, cell.filling) for cell in report.cells] == [
        ((), None),
        (("T1",), "zero"),
        (("T2",), "zero"),
    ]
    assert cell_of(report, "other", "Other", ("T1",)).channels == {"T2": "t2w"}


def test_options_that_contradict_each_other_are_refused(crossing, toy, tmp_path):
    with pytest.raises(InputError, match="0 times -m and 2 times -d"):
        cross_evaluate(asked(crossing, tmp_path, models=()))
    with pytest.raises(InputError, match="--leave-out and -p belong together"):
        cross_evaluate(asked(crossing, tmp_path, plan=toy.plan))
    with pytest.raises(InputError, match="given twice"):
        cross_evaluate(asked(crossing, tmp_path, models=crossing.models[:1] * 2))


def test_a_kill_while_other_rules_are_scored_leaves_no_cell_beside_scores_of_others(crossing, models, matrix, tmp_path):
    folder = CrossFolder(with_cell(matrix, tmp_path)).cell("other", "Other")
    task = plan_cell(pair(crossing, models["other"], crossing.other), CellRules())
    assert finished_cell(task, folder) is not None
    before, wider = folder.scores.metrics.read_bytes(), CellRules(scoring=ScoreRules(metrics=("iou",)))
    # A folder in the place of the page ends the writing between the scores and the cell, where a kill may.
    (folder.scores.report / "taken").mkdir(parents=True)
    other = plan_cell(pair(crossing, models["other"], crossing.other), wider)
    assert run_cell(other, folder, wider, RunOptions("cpu", 1)).state == "failed"
    assert folder.scores.metrics.read_bytes() != before
    assert finished_cell(task, folder) is None
    assert finished_cell(other, folder) is None


def test_a_cell_beside_scores_that_are_not_its_own_is_not_done(crossing, models, matrix, tmp_path):
    folder = CrossFolder(with_cell(matrix, tmp_path)).cell("other", "Other")
    pairing = pair(crossing, models["other"], crossing.other)
    task = plan_cell(pairing, CellRules())
    cell = finished_cell(task, folder)
    shutil.copy(matrix[0] / "cells" / "toy" / "Other" / "metrics.json", folder.scores.metrics)
    folder.scores.metrics.write_text(folder.scores.metrics.read_text() + "\n")
    assert finished_cell(task, folder) is None
    with pytest.raises(StorageError, match="other scores than those of its cell"):
        write_report(
            Matrix([pairing.model], {"Other": pairing.found}, [cell], [task], CellRules()),
            CrossFolder(tmp_path),
            jobs=1,
        )


def test_a_cell_says_which_of_its_cases_are_held_out(matrix):
    _, report = matrix
    held_out = cell_of(report, "toy", "Toy")
    assert origin(held_out).startswith(f"{len(held_out.held_out)} of {held_out.num_cases} cases by the folds that held")
    assert origin(cell_of(report, "toy", "Other")) == "Cases that the model was not trained on"
    doubtful = held_out.changed(known_by="case_id", num_cases=held_out.num_cases + 1)
    assert "The others: cases that are not called like those" in origin(doubtful)


def test_cases_that_failed_in_another_shard_are_reported_by_the_last_one(crossing, tmp_path):
    damaged = write_dataset(tmp_path / "Damaged", {"T1": 0, "T2": 1}, {"shell": 1, "core": 2}, first=30)
    (damaged / "other_30" / "0.nii.gz").write_bytes(b"no image")
    datasets, models = (str(damaged), crossing.other), crossing.models[1:]
    first, last = (
        asked(crossing, tmp_path / "out", *datasets, models=models, shard=Shard(number=number, count=2))
        for number in (1, 2)
    )
    with pytest.raises(TumorsegError, match="1 of 1 cells have cases that failed"):
        cross_evaluate(first)
    assert not (tmp_path / "out" / "cross.json").exists()
    with pytest.raises(TumorsegError, match="1 of 2 cells have cases that failed") as failed:
        cross_evaluate(last)
    assert "other on Damaged: other_30" in str(failed.value)
    written = json.loads((tmp_path / "out" / "cross.json").read_text())
    assert [(cell["state"], cell["num_cases"]) for cell in written["cells"]] == [("failed", 1), ("done", 2)]


def test_names_never_share_the_folder_of_a_cell(tmp_path):
    folder = CrossFolder(tmp_path)
    names = [("a__b", "c"), ("a", "b__c"), ("m", "d", ("a+b",)), ("m", "d", ("a", "b")), ("m", "d", ("a%2Bb",))]
    assert len({folder.cell(*name).root for name in names}) == len(names)
    assert folder.cell("m", "d", ("T1/../../y",)).root.parent == folder.cell("m", "d").root


@pytest.mark.slow
def test_a_run_that_was_killed_goes_on_and_segments_nothing_twice(crossing, tmp_path):
    output = tmp_path / "out"
    command = [sys.executable, "-m", "tumorseg", "--data-root", str(crossing.roots.data_root)]
    command += ["--work", str(crossing.roots.work), "cross-evaluate", "-m", str(crossing.models[0])]
    command += ["-d", crossing.own, "-d", crossing.other, "--device", "cpu", "--jobs", "1", "-o", str(output)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    cell = output / "cells" / "toy" / "Toy" / "cell.json"
    deadline_s = time.monotonic() + 100
    while not cell.is_file() and process.poll() is None and time.monotonic() < deadline_s:
        time.sleep(0.005)
    process.kill()
    process.wait()
    assert cell.is_file()
    assert not (output / "cross.json").exists()
    times = {path: path.stat().st_mtime_ns for path in cell.parent.glob("**/*") if path.is_file()}
    report = cross_evaluate(asked(crossing, output, models=crossing.models[:1])).report
    assert [one.state for one in report.cells] == ["done", "done"]
    assert {path: path.stat().st_mtime_ns for path in times} == times


@pytest.mark.slow
@pytest.mark.parametrize("filling", ["zero", "mean"])
def test_what_stands_in_for_a_missing_channel_is_told_in_the_document(crossing, tmp_path, filling):
    place = write_dataset(tmp_path / "OnlyT1", {"T1w": 0}, {"shell": 1, "core": 2})
    request = asked(crossing, tmp_path / "out", str(place), models=crossing.models[1:], missing_channels=filling)
    (cell,) = cross_evaluate(request).report.cells
    assert (cell.state, cell.missing_channels, cell.filling, cell.num_cases) == ("done", ("T2",), filling, 2)


@pytest.mark.slow
def test_each_case_is_segmented_by_the_fold_that_held_it_out(crossing, toy, tmp_path):
    model = tmp_path / "models" / "3d_fullres"
    for fold in ("0", "1"):
        folder = shutil.copytree(crossing.models[0], model / f"fold_{fold}")
        run = json.loads((folder / "run.json").read_text())
        (folder / "run.json").write_text(json.dumps(run | {"fold": fold}))
    (cell,) = cross_evaluate(asked(crossing, tmp_path / "out", crossing.own, models=(model,))).report.cells
    folders = (tmp_path / "out" / "cells" / "toy" / "Toy" / "predictions").glob("held_out_of_*")
    masks = {folder.name: {path.name.removesuffix(".nii.gz") for path in folder.glob("*.gz")} for folder in folders}
    assert masks == {f"held_out_of_{fold}": set(toy.plan.folds[fold]) for fold in (0, 1)}
    assert cell.held_out == tuple(sorted((*toy.plan.folds[0], *toy.plan.folds[1])))
