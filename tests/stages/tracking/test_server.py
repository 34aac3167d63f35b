"""Trainings beside a real MLflow server that comes and goes, and two at once on one database."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request

import pytest

from tests.stages.tracking.test_track import files_of, runs_of
from tumorseg.cli.main import run
from tumorseg.storage.json_files import write_record
from tumorseg.storage.layout import fold_folder, work_folder
from tumorseg.tracking.epochs import read_epochs

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]
EPOCHS = 50
"""Of a training that is to last until its mirror, which stands back, has sent something."""


class Server:
    """`mlflow server` on a port of its own."""

    def __init__(self, folder):
        self.folder = folder
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.uri = f"http://127.0.0.1:{self.port}"
        self.process = None

    def start(self):
        store, files = f"sqlite:///{self.folder / 'server.db'}", str(self.folder / "files")
        command = [
            sys.executable,
            "-m",
            "mlflow",
            "server",
            "--backend-store-uri",
            store,
            "--artifacts-destination",
            files,
        ]
        command += ["--host", "127.0.0.1", "--port", str(self.port), "--workers", "1"]
        with (self.folder / "server.log").open("ab") as told:
            self.process = subprocess.Popen(command, stdout=told, stderr=told, start_new_session=True)
        wait_for(self.answers, 90)

    def answers(self):
        try:
            with urllib.request.urlopen(f"{self.uri}/health", timeout=1) as answer:
                return answer.status == 200
        except OSError:
            return False

    def stop(self):
        if self.process is not None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None


def wait_for(is_so, seconds):
    ends = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < ends, "it took too long"
        time.sleep(0.2)


@pytest.fixture
def server(tmp_path):
    (tmp_path / "server").mkdir()
    made = Server(tmp_path / "server")
    yield made
    made.stop()


def begin(toy, work, fold, uri, epochs=2, **options):
    """Start `tumorseg train` as a user does; its preprocessed cases are those of the other tests."""
    plan = work / "toy.json"
    write_record(plan, toy.plan)
    roots = ["--data-root", str(toy.roots.data_root), "--work", str(work), "-q"]
    command = [sys.executable, "-m", "tumorseg", *roots, "train", "-p", str(plan), "--fold", fold, "--device", "cpu"]
    command += ["--jobs", "1", "--epochs", str(epochs), "--mlflow", uri]
    for name, value in options.items():
        command += [f"--{name}", str(value)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)


@pytest.fixture
def work(toy, tmp_path):
    shutil.copytree(toy.roots.work, tmp_path / "work", ignore=shutil.ignore_patterns("models"))
    return tmp_path / "work"


def fold_of(toy, work, fold):
    return fold_folder(work_folder(work, toy.plan.dataset.name).model(toy.plan.name, "3d_fullres"), fold)


def client_of(uri):
    from mlflow.tracking import MlflowClient

    return MlflowClient(uri)


def test_a_training_goes_on_without_its_server_and_is_whole_there_after_a_replay(toy, work, server):
    server.start()
    training = begin(toy, work, "0", server.uri, epochs=EPOCHS, iterations=2)
    folder = fold_of(toy, work, "0")

    def is_seen():
        experiment = client_of(server.uri).get_experiment_by_name("Toy")
        return experiment is not None and any(
            "train_loss" in one.data.metrics for one in runs_of(client_of(server.uri)).values()
        )

    wait_for(is_seen, 60)
    assert training.poll() is None, "the training was over too soon"
    server.stop()
    assert training.wait(timeout=120) == 0, training.stderr.read()
    training.stderr.close()
    epochs = read_epochs(folder.log)
    assert len(epochs) == EPOCHS
    wait_for(lambda: "MLflow at" in folder.tracking.read_text(), 60)
    server.start()
    arguments = ["--data-root", str(toy.roots.data_root), "--work", str(work), "track", "-m", str(folder.root.parent)]
    # The process that followed the training may still be trying.
    wait_for(lambda: run([*arguments, "--mlflow", server.uri]) == 0, 120)
    assert run([*arguments, "--mlflow", server.uri]) == 0
    client = client_of(server.uri)
    found = runs_of(client)
    fold = found["3d_fullres fold 0"]
    assert fold.data.tags["mlflow.parentRunId"] == found["toy"].info.run_id
    assert fold.info.status == "FINISHED"
    for name, field in (("train_loss", "train_loss"), ("lr", "lr"), ("seconds", "seconds")):
        history = client.get_metric_history(fold.info.run_id, name)
        assert [(point.step, point.value) for point in history] == [(one["epoch"], one[field]) for one in epochs]
    for group, field in (("loss", "train_losses"), ("loss_weight", "loss_weights")):
        for component in epochs[0][field]:
            history = client.get_metric_history(fold.info.run_id, f"{group}/{component}")
            assert [point.value for point in history] == [one[field][component] for one in epochs]
    assert "system/cpu_utilization_percentage" in fold.data.metrics
    assert "final/dsc/core/mean" in fold.data.metrics
    files = set(files_of(client, fold.info.run_id))
    assert {"plan.json", "fingerprint.json", "environment.json", "figures/losses.png", "model/tumorseg.json"} <= files
    assert client.get_model_version_by_alias("Toy.toy.3d_fullres", "fold-0").run_id == fold.info.run_id


def test_two_folds_at_once_share_one_database_and_one_parent(toy, work):
    check_two_folds(toy, work, f"sqlite:///{work / 'mlflow.db'}")


def test_two_folds_at_once_share_one_postgresql(toy, work, postgresql):
    check_two_folds(toy, work, postgresql)


def check_two_folds(toy, work, uri):
    trainings = [begin(toy, work, fold, uri, validation="none") for fold in ("0", "1")]
    for training in trainings:
        assert training.wait(timeout=120) == 0, training.stderr.read()
        training.stderr.close()
    model = fold_of(toy, work, "0").root.parent
    track = ["--data-root", str(toy.roots.data_root), "--work", str(work), "track", "-m", str(model), "--mlflow", uri]
    # Not before the processes that followed the trainings have made the tables: MLflow's own client would make them too.
    wait_for(lambda: run(track) == 0, 120)
    client = client_of(uri)
    names = ("3d_fullres fold 0", "3d_fullres fold 1")

    def are_finished():
        found = runs_of(client)
        return all(name in found and found[name].info.status == "FINISHED" for name in names)

    wait_for(are_finished, 60)
    found = runs_of(client)
    assert set(found) == {"toy", *names}
    assert {found[name].data.tags["mlflow.parentRunId"] for name in names} == {found["toy"].info.run_id}
    for name in names:
        assert len(client.get_metric_history(found[name].info.run_id, "train_loss")) == 2
