"""Trainings on a real MLflow, in a database."""

import os
import shutil
import subprocess
import sys

import pytest

from tumorseg.cli.main import run
from tumorseg.errors import StorageError
from tumorseg.stages.opening.environment import begin_environment
from tumorseg.stages.tracking.mirror import Mirror, Sent
from tumorseg.stages.tracking.track import TrackRequest, track
from tumorseg.storage.layout import FoldFolder
from tumorseg.storage.locks import hold_folder

# MLflow's own packages warn of each other.
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture
def client(tmp_path):
    from mlflow.tracking import MlflowClient

    def connect(uri=f"sqlite:///{tmp_path / 'runs.db'}"):
        return MlflowClient(uri)

    return connect


@pytest.fixture
def folder(trained, tmp_path):
    """A training of its own, which tests may change."""
    shutil.copytree(trained.folder.root, tmp_path / "fold_0")
    return FoldFolder(tmp_path / "fold_0")


def runs_of(client, experiment="Toy"):
    found = client.search_runs([client.get_experiment_by_name(experiment).experiment_id])
    return {run.info.run_name: run for run in found}


def files_of(client, run_id, path=None):
    for found in client.list_artifacts(run_id, path):
        if found.is_dir:
            yield from files_of(client, run_id, found.path)
        else:
            yield found.path


@pytest.mark.slow
def test_a_training_sent_in_two_parts_and_twice_is_there_once(toy, folder, tmp_path, client):
    uri = f"sqlite:///{tmp_path / 'runs.db'}"
    request = TrackRequest(
        roots=toy.roots.changed(work=tmp_path / "work"), model=folder.root, mlflow=uri, dataset="Toy"
    )
    log = folder.log.read_text()
    lines = log.splitlines(keepends=True)
    assert len(lines) > 1
    folder.log.write_text(lines[0])
    (part,) = track(request)
    assert (part.sent.num_epochs, part.sent.is_finished) == (1, False)
    assert {run.info.status for run in runs_of(client()).values()} == {"KILLED"}
    folder.log.write_text(log)
    Mirror(folder, request.roots, uri).send(is_running=True, with_pictures=False)
    assert {run.info.status for run in runs_of(client()).values()} == {"RUNNING"}
    assert not client().search_registered_models()  # its checkpoint may be yet to come
    for _ in range(2):
        (whole,) = track(request)
        assert (whole.sent.run, whole.sent.is_finished) == (part.sent.run, True)
        os.utime(folder.metrics)  # as a copy of the folder has it
    found = runs_of(client())
    plan, fold = found.pop(toy.plan.name), found.pop("3d_fullres fold 0")
    assert not found
    assert fold.data.tags["mlflow.parentRunId"] == plan.info.run_id
    assert (plan.info.status, fold.info.status) == ("FINISHED", "FINISHED")
    for name in ("train_loss", "dsc/mean", "loss/dice", "loss_weight/dice", "lr", "seconds", "memory_bytes"):
        history = client().get_metric_history(fold.info.run_id, name)
        assert [point.step for point in history] == list(range(len(lines))), name
    (scored,) = client().get_metric_history(fold.info.run_id, "final/dsc/core/mean")
    assert 0 <= scored.value <= 1
    files = set(files_of(client(), fold.info.run_id))
    expected = {"plan.json", "run.json", "environment.json", "metrics.json", "model/tumorseg.json"}
    assert expected | {"figures/progress.png", "figures/losses.png"} <= files
    assert any(file.startswith("figures/overlays/worst_") for file in files)
    assert {used.dataset.name for used in fold.inputs.dataset_inputs} == {"Toy"}
    version = client().get_model_version_by_alias(f"Toy.{toy.plan.name}.3d_fullres", "fold-0")
    assert (version.run_id, str(version.version)) == (fold.info.run_id, "1")


def test_a_training_that_was_moved_aside_is_not_mixed_with_the_one_in_its_place(toy, folder, tmp_path):
    mirror = Mirror(folder, toy.roots.changed(work=tmp_path), f"sqlite:///{tmp_path / 'runs.db'}")
    begin_environment(folder, "cpu")
    with pytest.raises(StorageError, match="was moved aside; send it from there"):
        mirror.send(is_running=True)
    assert not (tmp_path / "runs.db").exists()


def test_a_fold_that_another_process_sends_keeps_no_other_fold_from_being_sent(toy, folder, tmp_path, monkeypatch):
    shutil.copytree(folder.root, tmp_path / "fold_1")
    sent = []

    class Fake:
        def __init__(self, folder, *_):
            self.folder = folder

        def send(self, *, is_running):
            sent.append(self.folder.root.name)
            return Sent("id", 1, not is_running)

    monkeypatch.setattr("tumorseg.stages.tracking.track.Mirror", Fake)
    doing = {"doing": "sent to MLflow", "error": StorageError}
    with hold_folder(folder.tracking, **doing), pytest.raises(StorageError, match=r"fold_0.* by another process"):
        track(TrackRequest(roots=toy.roots, model=tmp_path))
    assert sent == ["fold_1"]


def test_a_server_that_is_down_is_one_line(toy, folder, tmp_path, capsys):
    arguments = ["--work", str(tmp_path), "track", "-m", str(folder.root), "--mlflow", "http://127.0.0.1:9"]
    assert run(arguments) == 1
    told = capsys.readouterr().err
    assert "error: MLflow at http://127.0.0.1:9: " in told
    assert "tumorseg track sends what is missing" in told
    assert "Traceback" not in told


def test_a_database_without_its_driver_is_one_line(toy, folder, tmp_path):
    uri = "mssql+pyodbc://me:secret@nowhere/db"
    request = TrackRequest(roots=toy.roots.changed(work=tmp_path), model=folder.root, mlflow=uri)
    with pytest.raises(StorageError) as failed:
        track(request)
    assert "mssql+pyodbc://…@nowhere/db needs the package pyodbc; install it" in str(failed.value)


def test_passwords_stay_out_of_messages(toy, folder, tmp_path):
    uri = "http://me:secret@127.0.0.1:9"
    with pytest.raises(StorageError) as failed:
        track(TrackRequest(roots=toy.roots.changed(work=tmp_path), model=folder.root, mlflow=uri))
    assert "MLflow at http://…@127.0.0.1:9" in str(failed.value)
    assert "secret" not in str(failed.value)


@pytest.mark.slow
def test_planning_and_training_without_a_mirror_load_no_mlflow():
    code = "import sys; import tumorseg.stages.training.train, tumorseg.stages.tracking.track; sys.exit('mlflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
