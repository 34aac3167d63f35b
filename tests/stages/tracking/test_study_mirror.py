"""Studies on a real MLflow, in a database."""

import math
import os

import pytest

from tests.reports.tuned import tuned_plan, tuning_result
from tests.stages.tracking.test_track import files_of, runs_of
from tumorseg.cli.main import run
from tumorseg.errors import PlanError, StorageError
from tumorseg.schema.tuning import TrialsSoFar
from tumorseg.stages.opening.environment import begin_environment
from tumorseg.stages.opening.loaded import Roots
from tumorseg.stages.tracking.study_contents import (
    RUNGS,
    TRIALS,
    judged_points,
    study_parameters,
    study_points,
    trial_parameters,
    trial_points,
    trial_tags,
)
from tumorseg.stages.tracking.study_mirror import StudyMirror
from tumorseg.stages.tracking.study_track import is_study, track_study
from tumorseg.stages.tracking.track import TrackRequest
from tumorseg.storage.json_files import write_record
from tumorseg.storage.study_folder import StudyFolder, begin_study

# MLflow's own packages warn of each other.
mlflow = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def result():
    return tuning_result(num_trials=12)


@pytest.fixture
def folder(tmp_path, result):
    found = StudyFolder(tmp_path / "studies" / "BrainTumour")
    begin_study(found, result.study, tuned_plan())
    begin_environment(found, "cpu")
    return found


@pytest.fixture
def request_of(folder, tmp_path):
    return TrackRequest(
        roots=Roots(work=tmp_path / "work"), model=folder.root, mlflow=f"sqlite:///{tmp_path / 'runs.db'}"
    )


def client_of(uri):
    from mlflow.tracking import MlflowClient

    return MlflowClient(uri)


def test_a_rung_is_a_point_of_each_objective_and_the_one_that_says_so_comes_last(result):
    trial = result.trials[0]
    points = list(trial_points(trial, result.study, 1_000))
    last = points[-3:]
    assert [point.name for point in last] == ["dsc", "rung_seconds", RUNGS]
    assert [point.value for point in last] == [trial.scores[-1].values[0], 42.0, 3.0]
    assert {point.step for point in last} == {600}
    assert last[0].time_ms == 1_000 + 3 * 42_000


def test_the_best_so_far_is_told_as_far_as_trials_are_over(result):
    points = list(study_points(result.trials, result.study, 0))
    best = [point.value for point in points if point.name == "best/dsc"]
    assert best == sorted(best)
    assert [point.step for point in points if point.name == TRIALS] == list(range(12))
    waiting = result.trials[4].model_copy(update={"state": "running"})
    some = study_points((*result.trials[:4], waiting, *result.trials[5:]), result.study, 0)
    assert [point.step for point in some if point.name == TRIALS] == [0, 1, 2, 3]


def test_of_distances_the_least_is_the_best():
    result = tuning_result(("hd95",), num_trials=9)
    best = [point.value for point in study_points(result.trials, result.study, 0) if point.name == "best/hd95"]
    assert best == sorted(best, reverse=True)
    assert len(set(best)) > 1


def test_a_trial_says_where_its_values_come_from_and_why_it_failed(result):
    sources = [trial_tags(trial, result.study)["tumorseg.source"] for trial in result.trials[:3]]
    assert sources == ["plan", "Isensee 2021 <nnU-Net>", "drawn"]
    failed = trial_tags(result.trials[11], result.study)
    assert failed["tumorseg.state"] == "failed"
    assert "needs 9.1 GB" in failed["tumorseg.message"]
    assert trial_parameters(result.trials[2])["optimizer.name"] in ("adamw", "sgd")


def test_parameters_of_a_study_are_what_it_is_and_its_space(result):
    found = study_parameters(result.study)
    assert (found["sampler"], found["seed"], found["judges"]) == ("tpe", "0", "[1]")
    assert '"scale": "log"' in found["space.optimizer.lr"]
    assert "split" not in found


def test_gains_come_with_their_intervals(result):
    points = {point.name: point.value for point in judged_points(result, 0)}
    verdict = result.verdicts[0]
    assert points[f"judged/trial_{verdict.number}/ci95_low"] == verdict.ci95[0]
    assert points["judged/trial_0/dsc"] == result.judged[0].mean
    assert all(map(math.isfinite, points.values()))


def test_a_folder_without_a_study_is_refused_in_one_line(tmp_path):
    assert not is_study(tmp_path)
    with pytest.raises(PlanError, match=r"study\.json: no such file"):
        track_study(TrackRequest(roots=Roots(work=tmp_path), model=tmp_path))


def test_a_study_that_was_moved_aside_is_not_mixed_with_the_one_in_its_place(folder, tmp_path):
    mirror = StudyMirror(folder, tmp_path, f"sqlite:///{tmp_path / 'runs.db'}")
    begin_environment(folder, "cpu")
    with pytest.raises(StorageError, match="was moved aside; send it from there"):
        mirror.send(is_running=True)
    assert not (tmp_path / "runs.db").exists()


@mlflow
@pytest.mark.slow
def test_a_server_that_is_down_is_one_line_and_tells_no_password(folder, tmp_path, capsys):
    arguments = ["--work", str(tmp_path), "track", "-m", str(folder.root), "--mlflow", "http://me:secret@127.0.0.1:9"]
    assert run(arguments) == 1
    told = capsys.readouterr().err
    assert "error: MLflow at http://…@127.0.0.1:9: " in told
    assert "secret" not in told
    assert "Traceback" not in told


@mlflow
@pytest.mark.slow
def test_a_study_sent_as_it_goes_on_and_twice_is_there_once(folder, result, request_of, tmp_path, capsys):
    write_record(
        folder.trials, TrialsSoFar(trials=(result.trials[0], result.trials[1].model_copy(update={"state": "running"})))
    )
    mirror = StudyMirror(folder, tmp_path / "work", request_of.uri)
    assert mirror.send(is_running=True).num_trials == 2
    client = client_of(request_of.uri)
    assert {name: one.info.status for name, one in runs_of(client, "BrainTumour").items()} == {
        "study BrainTumour": "RUNNING",
        "trial 0 default": "FINISHED",
        "trial 1 sgd as nnU-Net": "RUNNING",
    }
    write_record(folder.result, result)
    folder.report.write_text("<html></html>")
    for _ in range(2):
        assert track_study(request_of).is_finished
        os.utime(folder.result)  # as a copy of the folder has it
    found = runs_of(client, "BrainTumour")
    study = found.pop("study BrainTumour")
    assert len(found) == 12
    assert {one.data.tags["mlflow.parentRunId"] for one in found.values()} == {study.info.run_id}
    assert (study.info.status, study.data.tags["tumorseg.chosen"]) == ("FINISHED", str(result.chosen))
    assert study.data.tags["mlflow.note.content"] == result.claim
    for trial in result.trials:
        one = next(one for one in found.values() if one.data.tags["tumorseg.trial"] == str(trial.number))
        assert one.data.tags["tumorseg.state"] == trial.state
        assert one.info.status == {"finished": "FINISHED", "pruned": "KILLED", "failed": "FAILED"}[trial.state]
        history = client.get_metric_history(one.info.run_id, "dsc") if trial.scores else []
        assert [(point.step, point.value) for point in history] == [
            (one.iteration, one.values[0]) for one in trial.scores
        ]
    assert len(client.get_metric_history(study.info.run_id, TRIALS)) == 12
    (gain,) = client.get_metric_history(study.info.run_id, f"judged/trial_{result.chosen}/gain")
    assert gain.value == result.verdicts[0].gain
    expected = {"study.json", "plan.json", "tuning.json", "report.html", "environment.json"}
    assert expected == set(files_of(client, study.info.run_id))
    assert run(["--work", str(tmp_path / "work"), "track", "-m", str(folder.root), "--mlflow", request_of.uri]) == 0
    assert "12 trials, finished, run " in capsys.readouterr().out
