import os
import random
import shutil
import signal
import subprocess
import sys
import time

import pytest
import torch

from tests.stages.conftest import plan_toy
from tests.toys import write_toy
from tumorseg.stages.opening.loaded import Roots
from tumorseg.stages.training.request import TrainRequest
from tumorseg.stages.training.train import train
from tumorseg.storage.checkpoints import load_checkpoint

SMALL = {
    "training.epochs": 6,
    "training.iterations_per_epoch": 6,
    "configurations.3d_fullres.network.features_per_stage": [4, 6, 8],
}
NUM_ITERATIONS = 36


def start(toy, work):
    command = [sys.executable, "-m", "tumorseg", "-q", "--data-root", str(toy.roots.data_root), "--work", str(work)]
    options = ["train", "-p", str(toy.plan_path), "--fold", "0", "--validation", "none", "--device", "cpu"]
    return subprocess.Popen([*command, *options], stdout=subprocess.DEVNULL)  # errors show in pytest's own capture


def finish(toy, work):
    assert start(toy, work).wait(300) == 0


def weights(work):
    return load_checkpoint(next(work.glob("Toy/models/*/3d_fullres/fold_0/latest.ckpt")))


def same(first, second):
    if isinstance(first, torch.Tensor):
        return torch.equal(first, second)
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(same(first[key], second[key]) for key in first)
    if isinstance(first, list):
        return len(first) == len(second) and all(map(same, first, second))
    return first == second


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    root = tmp_path_factory.mktemp("killed")
    toy = plan_toy(root, write_toy(root / "data" / "Toy"), **SMALL)
    started = time.monotonic()
    finish(toy, toy.roots.work)
    return toy, time.monotonic() - started


def stop_at_first_checkpoint(toy, work):
    process = start(toy, work)
    deadline = time.monotonic() + 120
    while not list(work.glob("Toy/models/**/latest.ckpt")) and time.monotonic() < deadline:
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGTERM)
    assert process.wait(120) == 75


@pytest.mark.slow
@pytest.mark.parametrize("num_kills", [2, pytest.param(10, marks=pytest.mark.long)])
def test_a_training_asked_to_stop_leaves_a_checkpoint_and_killed_at_random_moments_ends_with_the_same_bits(
    uninterrupted, tmp_path, num_kills
):
    toy, seconds = uninterrupted
    expected, work = weights(toy.roots.work), tmp_path / "runs"
    shutil.copytree(toy.roots.work / "Toy" / "cases", work / "Toy" / "cases")
    stop_at_first_checkpoint(toy, work)
    assert 0 < weights(work)["progress"]["iteration"] < NUM_ITERATIONS
    moments, kills = random.Random(0), 0
    while kills < num_kills:
        process = start(toy, work)
        try:
            process.wait(moments.uniform(0.3, 0.95) * seconds)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
            kills += 1
            continue
        assert process.returncode == 0
        assert same(weights(work), expected)
        shutil.rmtree(work / "Toy" / "models")
    roots = Roots(data_root=toy.roots.data_root, work=work)
    train(TrainRequest(roots=roots, plan=toy.plan, fold="0", device="cpu", has_validation=False))
    assert same(weights(work), expected)
