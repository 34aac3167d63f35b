"""A whole study on a toy dataset, through the command line: stopped, gone on with, judged, and its child trained."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from tests.toys import write_toy
from tumorseg.cli.main import run
from tumorseg.schema.plan import Plan
from tumorseg.schema.tuning import TuningResult
from tumorseg.storage.json_files import read_record
from tumorseg.storage.study_folder import StudyFolder

SPACE = {
    "parameters": [
        {"name": "real", "field": "optimizer.lr", "low": 1e-4, "high": 0.1, "scale": "log"},
        {"name": "real", "field": "sampling.foreground_fraction", "low": 0.1, "high": 1.0},
    ]
}
NETWORK = "configurations.3d_fullres.network.features_per_stage"
LENGTH = ("--trials", "3", "--proxy-iterations", "9", "--final-iterations", "12")


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A study of which the coordinator was killed once, and asked to leave once, before it ended."""
    root = tmp_path_factory.mktemp("tune")
    write_toy(root / "data" / "Toy", num_cases=8)
    roots = ["-q", "--data-root", str(root / "data"), "--work", str(root / "runs")]
    plan = ["plan", "-d", "Toy", "--preset", "fast_prototyping", "--confirm-labels", "-o", str(root / "toy.json")]
    for field in ("training.epochs=2", "training.iterations_per_epoch=20", f"{NETWORK}=[4,6,8]"):
        plan += ["--set", field]
    assert run([*roots, *plan]) == 0
    (root / "space.json").write_text(json.dumps(SPACE))
    options = ["-p", str(root / "toy.json"), *LENGTH, "--space", str(root / "space.json"), "--device", "cpu"]
    command = [*roots, "tune", *options, "--no-mlflow"]
    folder = StudyFolder(root / "runs" / "Toy" / "studies" / "toy")
    assert left(command, folder, signal.SIGKILL) == -signal.SIGKILL
    assert left(command, folder, signal.SIGTERM) == 75
    assert run(command) == 0
    return root, roots, command, folder


def claims(folder):
    return {path.name for path in folder.claimed.glob("*")}


def left(command, folder, sent):
    """Start a study, send a signal once a worker has taken a task, and return how it ended."""
    before = claims(folder)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen([sys.executable, "-m", "tumorseg", *command], env=environment)
    ends = time.monotonic() + 120
    # What a worker had taken that died with its coordinator is still there.
    while time.monotonic() < ends and not claims(folder) - before:
        time.sleep(0.1)
    process.send_signal(sent)
    return process.wait(120)


@pytest.mark.slow
def test_a_study_that_was_killed_and_stopped_ends_with_all_it_promises(study, capsys):
    root, roots, command, folder = study
    result = read_record(TuningResult, folder.result)
    assert [trial.number for trial in result.trials] == [0, 1, 2]
    assert result.trials[0].title == "default"
    for trial in result.trials:
        # Each rung once, whoever trained it.
        assert [score.iteration for score in trial.scores] == [1, 3, 9][: len(trial.scores)]
        assert trial.state == "pruned" or len(trial.scores) == 3
    assert result.judged[0].number == 0
    assert len(result.verdicts) == len(result.judged) - 1 > 0
    child = read_record(Plan, root / "toy__tuned.json")
    assert child.parent == result.study.plan_hash
    assert child.reasons["parent"].source == "tuned"
    assert child.reasons["parent"].rule == result.claim
    # Up to what a page escapes.
    assert result.claim.partition("'")[0] in folder.report.read_text("utf-8")
    # No checkpoint stays behind.
    assert list(folder.root.rglob("*.ckpt")) == []
    # Given again, it is finished, and writes nothing but a child that has gone.
    (root / "toy__tuned.json").unlink()
    before = folder.result.read_bytes()
    capsys.readouterr()
    assert run([*roots[:1], "--json", *command[1:]]) == 0
    assert json.loads(capsys.readouterr().out)["claim"] == result.claim
    assert folder.result.read_bytes() == before
    assert (root / "toy__tuned.json").is_file()


@pytest.mark.slow
def test_train_takes_the_child(study):
    root, roots, _, _ = study
    options = ["--fold", "0", "--epochs", "1", "--iterations", "1", "--validation", "none", "--no-mlflow"]
    assert run([*roots, "train", "-p", str(root / "toy__tuned.json"), *options, "--device", "cpu"]) == 0
