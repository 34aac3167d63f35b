import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time

import pytest

from tests.stages.conftest import plan_toy
from tests.stages.test_killed import same
from tests.toys import write_toy
from tumorseg.stages.opening.loaded import Roots
from tumorseg.stages.opening.stopping import SIGNALS, stop_on_signal
from tumorseg.stages.training.request import TrainRequest
from tumorseg.stages.training.train import train
from tumorseg.storage.checkpoints import load_checkpoint
from tumorseg.storage.layout import fold_folder, work_folder
from tumorseg.tracking.epochs import read_epochs

LENGTH = {
    "training.epochs": 4,
    "training.iterations_per_epoch": 6,
    "training.validation_iterations": 4,
    "configurations.3d_fullres.network.features_per_stage": [4, 6, 8],
}
MEASURED = {"seconds", "seconds_by_part", "data_wait_fraction", "memory_bytes", "ended_at"}


class Ended:
    """A training that was not disturbed, or one that was."""

    def __init__(self, folder):
        self.state = load_checkpoint(folder.latest)
        epochs = read_epochs(folder.log)
        self.log = [{name: value for name, value in epoch.items() if name not in MEASURED} for epoch in epochs]
        self.best = load_checkpoint(folder.best)
        self.metrics = json.loads(folder.metrics.read_text())


def check_same(found, expected):
    assert same(found.state, expected.state)
    assert same(found.best, expected.best)
    assert found.log == expected.log
    assert found.metrics == expected.metrics


def folder_in(work, plan):
    return fold_folder(work_folder(work, "Toy").model(plan.name, "3d_fullres"), 0)


def train_in(work, toy):
    roots = Roots(data_root=toy.roots.data_root, work=work)
    return train(TrainRequest(roots=roots, plan=toy.plan, fold="0", device="cpu", jobs=1))


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    root = tmp_path_factory.mktemp("stopped")
    return plan_toy(root, write_toy(root / "data" / "Toy"), **LENGTH)


@pytest.fixture(scope="module")
def undisturbed(toy, tmp_path_factory):
    work = tmp_path_factory.mktemp("undisturbed")
    began = time.monotonic()
    assert train_in(work, toy).is_finished
    return Ended(folder_in(work, toy.plan)), time.monotonic() - began


PHASES = ("cases of this run", "a checkpoint after", "are predicted")
"""What is kept of cases that are preprocessed, of steps, and of cases that are predicted."""


def phases_in(kept):
    return {phase for phase in PHASES for one in kept if phase in one}


def stop_at_moments(toy, undisturbed, work, count, num_phases=1):
    """Stop a whole training at random moments, beginning anew whenever it has come to its end; return what was kept each time.

    Goes on beyond the count until so many phases were met, as preprocessing takes a moment only.
    """
    expected, seconds = undisturbed
    moments, kept = random.Random(0), []
    while len(kept) < count or (len(phases_in(kept)) < num_phases and len(kept) < 4 * count):
        number = moments.choice(SIGNALS)
        # One that begins anew reads its cases first.
        share = moments.uniform(0.0, 0.8 if work.exists() else 0.2)
        timer = threading.Timer(share * seconds, os.kill, (os.getpid(), number))
        with stop_on_signal() as wish:
            timer.start()
            done = train_in(work, toy)
            asked = wish.is_asked
            timer.cancel()
            timer.join()
        if not done.is_finished:
            assert asked
            kept.append(done.kept)
        else:
            check_same(Ended(done.folder), expected)
            shutil.rmtree(work)
    assert train_in(work, toy).is_finished
    check_same(Ended(folder_in(work, toy.plan)), expected)
    return kept


@pytest.mark.slow
def test_a_training_stopped_at_a_few_moments_ends_with_the_same_bits(toy, undisturbed, tmp_path):
    assert all(stop_at_moments(toy, undisturbed, tmp_path / "runs", 3))


@pytest.mark.long
def test_a_training_stopped_at_twenty_moments_ends_with_the_same_bits(toy, undisturbed, tmp_path):
    kept = stop_at_moments(toy, undisturbed, tmp_path / "runs", 20, num_phases=len(PHASES))
    assert phases_in(kept) == set(PHASES), kept


def phase_of(folder):
    return json.loads(folder.alive.read_text())["phase"] if folder.alive.is_file() else None


@pytest.mark.slow
def test_the_command_leaves_with_75_whatever_it_does_and_says_what_is_kept(toy, undisturbed, tmp_path):
    work = tmp_path / "runs"
    folder = folder_in(work, toy.plan)
    moments = [
        (signal.SIGUSR1, lambda: list((work / "Toy").glob("cases/*/*")), "cases of this run are done and kept"),
        (signal.SIGTERM, lambda: phase_of(folder) == "validating", "cases are predicted and kept"),
    ]
    command = [sys.executable, "-m", "tumorseg", "-q", "--data-root", str(toy.roots.data_root), "--work", str(work)]
    command += ["train", "-p", str(toy.plan_path), "--fold", "0", "--device", "cpu", "--jobs", "1", "--no-mlflow"]
    for number, is_there, kept in moments:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        deadline = time.monotonic() + 120
        while not is_there() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.005)
        process.send_signal(number)
        _, told = process.communicate(timeout=120)
        assert process.returncode == 75, told
        assert kept in told
        assert told.endswith("the same command goes on\n")
    assert train_in(work, toy).is_finished
    check_same(Ended(folder), undisturbed[0])
