"""Trainings beside a real MLflow server that comes and goes, and two at once on one database."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from tests.stages.tracking.test_track import files_of, runs_of
from tumorseg.cli.main import run
from tumorseg.stages.training.train import TrainRequest, train
from tumorseg.storage.json_files import write_record
from tumorseg.storage.layout import fold_folder, work_folder
from tumorseg.tracking.epochs import read_epochs

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]
EPOCHS = 6


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
        # Its job runner would start eight more processes, which take longer than all that is tested.
        environment = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        with (self.folder / "server.log").open("ab") as told:
            self.process = subprocess.Popen(command, stdout=told, stderr=told, start_new_session=True, env=environment)
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


def start(toy, work, *words):
    """Start a command as a user does."""
    roots = ["--data-root", str(toy.roots.data_root), "--work", str(work), "-q"]
    command = [sys.executable, "-m", "tumorseg", *roots, *map(str, words)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)


def end(process):
    _, told = process.communicate(timeout=180)
    assert process.returncode == 0, told


def follower_of(training):
    """Return the id of the process that sends what a training writes."""
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            words = Path(f"/proc/{name}/cmdline").read_text().split("\0")
        except OSError:
            continue
        if "--follow" in words and words[words.index("--follow") + 1] == str(training.pid):
            return int(name)
    raise AssertionError("nobody follows the training")


@pytest.fixture
def work(toy, tmp_path):
    """Return a work folder with the preprocessed cases of the other tests."""
    shutil.copytree(toy.roots.work, tmp_path / "work", ignore=shutil.ignore_patterns("models"))
    return tmp_path / "work"


@pytest.fixture(scope="module")
def two_folds(toy, tmp_path_factory):
    """Return a work folder with two trainings that were not sent yet."""
    roots = toy.roots.changed(work=tmp_path_factory.mktemp("folds") / "work")
    shutil.copytree(toy.roots.work, roots.work, ignore=shutil.ignore_patterns("models"))
    for fold in ("0", "1"):
        train(TrainRequest(roots=roots, plan=toy.plan, fold=fold, device="cpu", jobs=1, has_validation=False))
    return roots.work


def fold_of(toy, work, fold):
    return fold_folder(work_folder(work, toy.plan.dataset.name).model(toy.plan.name, "3d_fullres"), fold)


def client_of(uri):
    from mlflow.tracking import MlflowClient

    return MlflowClient(uri)


def test_a_training_goes_on_without_its_server_and_is_whole_there_after_a_replay(toy, work, server):
    server.start()
    write_record(work / "toy.json", toy.plan)
    words = ("train", "-p", work / "toy.json", "--fold", "0", "--device", "cpu", "--jobs", "1", "--mlflow", server.uri)
    training = start(toy, work, *words, "--epochs", EPOCHS, "--iterations", 2)
    folder = fold_of(toy, work, "0")

    def is_seen():
        experiment = client_of(server.uri).get_experiment_by_name("Toy")
        return experiment is not None and any(
            "train_loss" in one.data.metrics for one in runs_of(client_of(server.uri)).values()
        )

    wait_for(lambda: folder.log.is_file() and read_epochs(folder.log), 120)
    # Or it might be over before its mirror, which stands back, has sent anything.
    training.send_signal(signal.SIGSTOP)
    wait_for(is_seen, 120)
    assert len(read_epochs(folder.log)) < EPOCHS
    server.stop()
    training.send_signal(signal.SIGCONT)
    follower = follower_of(training)
    end(training)
    epochs = read_epochs(folder.log)
    assert len(epochs) == EPOCHS
    wait_for(lambda: "MLflow at" in folder.tracking.read_text(), 120)
    # It would try again for minutes.
    os.kill(follower, signal.SIGKILL)
    server.start()
    track = ("track", "-m", folder.root.parent, "--mlflow", server.uri)
    arguments = ["--data-root", str(toy.roots.data_root), "--work", str(work), *map(str, track)]
    for _ in range(2):
        assert run(arguments) == 0
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


def test_two_folds_at_once_share_one_database_and_one_parent(toy, two_folds, tmp_path):
    check_two_folds(toy, two_folds, tmp_path / "work", f"sqlite:///{tmp_path / 'mlflow.db'}")


@pytest.mark.long
def test_two_folds_at_once_share_one_postgresql(toy, two_folds, tmp_path, postgresql):
    check_two_folds(toy, two_folds, tmp_path / "work", postgresql)


def check_two_folds(toy, two_folds, work, uri):
    shutil.copytree(two_folds, work)

    def send(fold):
        return start(toy, work, "track", "-m", fold_of(toy, work, fold).root, "--mlflow", uri)

    for fold, process in [(fold, send(fold)) for fold in ("0", "1")]:
        _, told = process.communicate(timeout=180)
        if process.returncode:
            # Each makes the tables if there are none, which PostgreSQL may refuse the later of two.
            assert "once it answers, tumorseg track sends what is missing" in told
            end(send(fold))
    client = client_of(uri)
    names = ("3d_fullres fold 0", "3d_fullres fold 1")
    found = runs_of(client)
    assert set(found) == {"toy", *names}
    assert {found[name].info.status for name in names} == {"FINISHED"}
    assert {found[name].data.tags["mlflow.parentRunId"] for name in names} == {found["toy"].info.run_id}
    for name in names:
        assert len(client.get_metric_history(found[name].info.run_id, "train_loss")) == 2
