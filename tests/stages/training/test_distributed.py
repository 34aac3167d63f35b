"""One training in several processes: the same result as in one, and all end where one is lost."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from tumorseg.planning.overrides import apply_overrides, parse_override
from tumorseg.schema.alive import SignOfLife
from tumorseg.stages.training.train import TrainRequest, train
from tumorseg.storage.checkpoints import load_checkpoint
from tumorseg.storage.json_files import read_record, write_record
from tumorseg.storage.layout import fold_folder, work_folder
from tumorseg.tracking.epochs import read_epochs

pytestmark = pytest.mark.slow

# With SGD, as AdamW moves a weight by its whole rate whatever the size of its gradient, rounding included.
FIELDS = (
    *("optimizer.name=sgd", "optimizer.lr=0.003", "optimizer.momentum=0.9", "batch_size=5"),
    *("configurations.3d_fullres.gradient_accumulation=4", "training.epochs=3", "training.iterations_per_epoch=7"),
    *("configurations.3d_fullres.network.features_per_stage=[6,12,24]", "training.precision.cpu=fp32"),
)
EPOCHS, ITERATIONS = 3, 7
MOST_SECONDS = 30
"""In which all processes end once one is lost."""


class Home:
    """A work folder of its own, with the cases of the other tests."""

    def __init__(self, toy, folder):
        folder.mkdir(exist_ok=True)
        self.plan = apply_overrides(toy.plan, [parse_override(field) for field in FIELDS]).changed(name="together")
        self.work = folder / "work"
        self.roots = toy.roots.changed(work=self.work)
        shutil.copytree(toy.roots.work, self.work, ignore=shutil.ignore_patterns("models"))
        write_record(folder / "together.json", self.plan)
        roots = ["--data-root", str(toy.roots.data_root), "--work", str(self.work), "-q"]
        train = ["train", "-p", str(folder / "together.json"), "--fold", "0", "--device", "cpu", "--jobs", "1"]
        self.arguments = ["-m", "tumorseg", *roots, *train, "--validation", "none", "--no-mlflow"]
        self.folder = fold_folder(work_folder(self.work, toy.plan.dataset.name).model("together", "3d_fullres"), "0")

    def start(self, *arguments, before=()):
        command = [sys.executable, *before, *self.arguments, *arguments]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def train(self, *arguments):
        process = self.start(*arguments)
        _, told = process.communicate(timeout=200)
        assert process.returncode == 0, told

    def train_here(self):
        """Train in this process, which has imported all that is needed."""
        train(TrainRequest(roots=self.roots, plan=self.plan, fold="0", device="cpu", jobs=1, has_validation=False))

    def wait_for_checkpoint(self, num_epochs=1):
        """Wait until one was written after so many epochs."""
        ends = time.monotonic() + 240
        while not self.folder.latest.is_file() or self.num_iterations() < num_epochs * ITERATIONS:
            assert time.monotonic() < ends
            time.sleep(0.1)

    def num_iterations(self):
        return load_checkpoint(self.folder.latest)["progress"]["iteration"]

    def member(self, rank):
        """Return the id of the process of a rank."""
        for name in os.listdir("/proc"):
            if not name.isdecimal():
                continue
            process = Path("/proc") / name
            try:
                environment = (process / "environ").read_bytes().split(b"\0")
                arguments = (process / "cmdline").read_text().split("\0")
            except OSError:
                continue
            if f"RANK={rank}".encode() in environment and str(self.work) in arguments:
                return int(name)
        raise AssertionError(f"there is no process of rank {rank}")


@pytest.fixture(scope="module")
def alone(toy, tmp_path_factory):
    home = Home(toy, tmp_path_factory.mktemp("alone"))
    home.train_here()
    return home


@pytest.fixture
def home(toy, tmp_path):
    return Home(toy, tmp_path)


def assert_same(found, expected):
    weights, reference = (load_checkpoint(one.folder.latest)["network"] for one in (found, expected))
    for name, value in reference.items():
        torch.testing.assert_close(weights[name], value, rtol=0, atol=1e-5)
    epochs, others = read_epochs(found.folder.log), read_epochs(expected.folder.log)
    assert [one["epoch"] for one in epochs] == list(range(EPOCHS))
    for one, other in zip(epochs, others, strict=True):
        for field in ("train_loss", "validation_loss"):
            assert one[field] == pytest.approx(other[field], abs=1e-5)
        assert one["train_losses"] == pytest.approx(other["train_losses"], abs=1e-5)
        assert one["dsc"] == pytest.approx(other["dsc"], abs=1e-3)


def test_all_leave_where_a_signal_comes_while_the_first_one_preprocesses(home):
    cases = work_folder(home.work, home.plan.dataset.name).cases
    shutil.rmtree(cases, ignore_errors=True)
    process = home.start("--num-gpus", "2")
    ends = time.monotonic() + 120
    while not list(cases.glob("*/*")) and time.monotonic() < ends:
        time.sleep(0.005)
    process.send_signal(signal.SIGUSR1)
    _, told = process.communicate(timeout=MOST_SECONDS)
    assert process.returncode == 75, told
    assert "cases of this run are done and kept; the same command goes on" in told


def test_all_processes_begin_with_the_weights_that_are_given(home, alone):
    gentle = apply_overrides(home.plan, [parse_override('training.fine_tuning.freeze=["encoder"]')])
    write_record(home.work.parent / "together.json", gentle.changed(name="together"))
    home.train("--num-gpus", "2", "--init", str(alone.folder.root), "--epochs", "1")
    found, given = (load_checkpoint(one.folder.latest)["network"] for one in (home, alone))
    frozen = {name for name in given if name.startswith("stages.")}
    same = {name for name, tensor in given.items() if torch.equal(found[name], tensor)}
    # Each process adds its share of the gradient, which would not fit weights of its own. The coarsest head is not supervised.
    assert {name for name in same if not name.startswith("heads.1.")} == frozen


def test_processes_end_with_the_command_that_started_them(home):
    process = home.start("--num-gpus", "2", "--epochs", "500")
    home.wait_for_checkpoint()
    members = [home.member(rank) for rank in (0, 1)]
    process.kill()
    process.communicate()
    ends = time.monotonic() + MOST_SECONDS
    while any(Path(f"/proc/{member}").exists() for member in members):
        assert time.monotonic() < ends
        time.sleep(0.2)


def test_a_killed_process_is_named_and_the_training_goes_on_in_another_number_and_ends_as_one_process_does(home, alone):
    process = home.start("--num-gpus", "2")
    home.wait_for_checkpoint()
    victim = home.member(1)
    killed = time.monotonic()
    os.kill(victim, signal.SIGKILL)
    _, told = process.communicate(timeout=MOST_SECONDS)
    assert time.monotonic() - killed < MOST_SECONDS
    assert process.returncode == 1
    assert f"process 1 (id {victim}) was killed by SIGKILL" in told
    assert home.num_iterations() == ITERATIONS
    # With uneven shares of a batch, for an epoch; a signal then stops all of them.
    process = home.start("--num-gpus", "3")
    home.wait_for_checkpoint(num_epochs=2)
    process.send_signal(signal.SIGTERM)
    _, told = process.communicate(timeout=MOST_SECONDS)
    assert process.returncode == 75, told
    assert 2 * ITERATIONS <= home.num_iterations() < EPOCHS * ITERATIONS
    home.train_here()
    assert_same(home, alone)


@pytest.mark.parametrize("rank", [pytest.param(0, marks=pytest.mark.long), 1])
def test_a_stopped_process_is_named_and_all_end(home, rank):
    process = home.start("--num-gpus", "2", "--epochs", "500")
    home.wait_for_checkpoint()
    victim = home.member(rank)
    os.kill(victim, signal.SIGSTOP)
    _, told = process.communicate(timeout=MOST_SECONDS)
    assert process.returncode == 1
    assert f"id {victim}) has given no sign for 15 s" in told
    with pytest.raises(AssertionError):
        home.member(1 - rank)
    assert home.num_iterations() % ITERATIONS == 0
    if rank != 0:
        # The first process keeps the files, and says in them why it ends itself.
        sign = read_record(SignOfLife, home.folder.alive)
        assert (sign.phase, f"id {victim}) has given no sign" in sign.message) == ("failed", True)


def nodes_of(home, *arguments):
    """Start two torchrun on one machine that meet as those of two machines do."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    node = ["-m", "torch.distributed.run", "--nnodes", "2", "--nproc-per-node", "1", "--rdzv-backend", "c10d"]
    node += ["--rdzv-endpoint", f"127.0.0.1:{port}", "--rdzv-id", "toy"]
    return [home.start(*arguments, before=node) for _ in range(2)]


def test_two_nodes_of_torchrun_end_as_one_process_does(home, alone):
    nodes = nodes_of(home)
    # All are waited for before any is judged: why one failed may be told by another, and none is left running.
    told = [one.communicate(timeout=200)[1] for one in nodes]
    assert [one.returncode for one in nodes] == [0, 0], "\n\n".join(told)
    assert_same(home, alone)


@pytest.mark.long
def test_two_nodes_of_torchrun_of_which_one_lost_its_process_both_end(home):
    nodes = nodes_of(home, "--epochs", "500")
    home.wait_for_checkpoint()
    os.kill(home.member(1), signal.SIGKILL)
    for one in nodes:
        one.communicate(timeout=MOST_SECONDS)
        assert one.returncode != 0
