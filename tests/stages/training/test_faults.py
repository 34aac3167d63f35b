"""Each fault, brought into a real training: nothing is lost, the right thing is said, and it goes on bit for bit."""

import json
import math
import os
import resource
import signal
import weakref

import pytest
import torch

from tests.stages.conftest import plan_toy
from tests.stages.test_killed import same
from tests.toys import write_toy
from tumorseg.engine import faults
from tumorseg.engine.accumulation import listed
from tumorseg.engine.faults import next_seed
from tumorseg.engine.learner import Learner
from tumorseg.engine.loop import Fit
from tumorseg.errors import StorageError, TrainingError
from tumorseg.stages.opening.fold_folders import fold_plan
from tumorseg.stages.opening.loaded import Roots
from tumorseg.stages.training import fitting, restarting
from tumorseg.stages.training.request import TrainRequest
from tumorseg.stages.training.train import train
from tumorseg.storage.checkpoints import load_checkpoint
from tumorseg.storage.fault_files import read_batch
from tumorseg.storage.layout import fold_folder, work_folder
from tumorseg.tracking.epochs import read_epochs
from tumorseg.tracking.events import read_events

LENGTH = {"training.epochs": 4, "training.iterations_per_epoch": 4}
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    root = tmp_path_factory.mktemp("faults")
    return plan_toy(root, write_toy(root / "data" / "Toy"), **LENGTH)


@pytest.fixture(scope="module")
def undisturbed(toy):
    return load_checkpoint(started(toy, toy.roots.work).folder.latest)


def started(toy, work, plan=None, **fields):
    """Train in a work folder that shares the preprocessed cases."""
    cases, shared = work_folder(work, "Toy").cases, work_folder(toy.roots.work, "Toy").cases
    if not cases.exists() and shared.exists():
        cases.parent.mkdir(parents=True, exist_ok=True)
        cases.symlink_to(shared)
    roots = Roots(data_root=toy.roots.data_root, work=work)
    fields |= {"roots": roots, "plan": plan or toy.plan, "fold": "0", "device": "cpu", "jobs": 1}
    return train(TrainRequest(**fields, has_validation=False))


def folder_in(work, plan):
    return fold_folder(work_folder(work, "Toy").model(plan.name, "3d_fullres"), 0)


def lose_losses(monkeypatch, calls):
    """Make the loss of some steps, counted from 0, other than finite."""
    usual, seen = Learner.loss_of, []

    def loss_of(self, outputs, inputs):
        value = usual(self, outputs, inputs)
        if not self.network.training:
            return value
        seen.append(True)
        return value._replace(total=value.total * math.nan) if len(seen) - 1 in calls else value

    monkeypatch.setattr(Learner, "loss_of", loss_of)


def test_a_lost_loss_is_left_out_and_its_batch_kept(toy, tmp_path, monkeypatch):
    lose_losses(monkeypatch, {2})
    done = started(toy, tmp_path)
    assert done.is_finished
    (event,) = read_events(done.folder.events)
    assert (event.kind, event.iteration) == ("skipped", 3)
    (kept,) = done.folder.faults.iterdir()
    arrays, facts = read_batch(kept)
    assert facts["case_ids"] == list(event.case_ids)
    assert len(arrays["images"]) == len(event.case_ids)
    assert [epoch["num_skipped"] for epoch in read_epochs(done.folder.log)] == [1, 0, 0, 0]


def test_three_lost_losses_in_a_row_end_it_and_it_goes_on_from_its_last_epoch(toy, undisturbed, tmp_path, monkeypatch):
    with monkeypatch.context() as patched:
        lose_losses(patched, {5, 6, 7})
        with pytest.raises(TrainingError, match=r"the loss became nan at iteration 7 on cases .*`faults`"):
            started(toy, tmp_path)
    folder = folder_in(tmp_path, toy.plan)
    assert load_checkpoint(folder.latest)["progress"]["iteration"] == 4
    assert len(list(folder.faults.iterdir())) == 3
    # Whatever it was has gone: the same command ends as if it had never been.
    assert started(toy, tmp_path).is_finished
    assert same(load_checkpoint(folder.latest), undisturbed)
    assert read_events(folder.events) == []


def test_memory_that_runs_out_divides_the_batch_now_and_after_a_stop(toy, tmp_path, monkeypatch):
    plan = toy.plan.changed(training=toy.plan.training.changed(epochs=2))
    usual, step = Learner.forward, Learner.step
    is_short = True

    def forward(self, images):
        if self.network.training and len(images) > 1 and is_short:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return usual(self, images)

    def stopping(self, inputs, iteration):
        if iteration == 5:
            os.kill(os.getpid(), signal.SIGUSR1)
        return step(self, inputs, iteration)

    monkeypatch.setattr(Learner, "forward", forward)
    with monkeypatch.context() as patched:
        patched.setattr(Learner, "step", stopping)
        stopped = started(toy, tmp_path / "short", plan)
    assert stopped.kept == "a checkpoint after 6 of 8 steps is kept"
    # The memory is there again: the batches stay divided all the same.
    is_short = False
    done = started(toy, tmp_path / "short", plan)
    assert [event.kind for event in read_events(done.folder.events)] == ["divided"]
    size = toy.plan.configurations["3d_fullres"].batch_size
    assert [epoch["num_parts"] for epoch in read_epochs(done.folder.log)] == [size] * 2
    configuration = toy.plan.configurations["3d_fullres"].changed(gradient_accumulation=size)
    planned = plan.changed(configurations={"3d_fullres": configuration}, name="planned")
    expected = started(toy, tmp_path / "planned", planned)
    first, second = (load_checkpoint(one.folder.latest) for one in (done, expected))
    assert same(first["network"], second["network"])
    assert same(first["optimizer"], second["optimizer"])


def blind_to_the_core(monkeypatch, seeds):
    """Hide a label from trainings with some seeds, and judge short trainings too."""
    for name, value in (("LEAST_STEPS", 8), ("LEAST_PATCHES", 1), ("WINDOW", 0.25)):
        monkeypatch.setattr(faults, name, value)
    usual, init = Learner.forward, Learner.__init__

    def begin(self, configuration, training, **others):
        init(self, configuration, training, **others)
        self.is_blind = training.seed in seeds

    def forward(self, images):
        outputs = usual(self, images)
        if not self.is_blind:
            return outputs
        hidden = []
        for level in listed(outputs):
            bias = torch.zeros(level.shape[1])
            bias[2] = -1000.0
            hidden.append(level + bias.view(1, -1, 1, 1, 1))
        return hidden[0] if isinstance(outputs, torch.Tensor) else hidden

    monkeypatch.setattr(Learner, "__init__", begin)
    monkeypatch.setattr(Learner, "forward", forward)


def test_a_training_that_never_finds_a_label_begins_again_once_from_another_seed(toy, tmp_path, monkeypatch):
    seed, networks = next_seed(0), []

    def build(*arguments):
        # Two of them would not fit a GPU's memory.
        assert [network() for network in networks] == [None] * len(networks)
        fit = build_fit(*arguments)
        networks.append(weakref.ref(fit.learner.network))
        return fit

    build_fit = fitting.build_fit
    with monkeypatch.context() as patched:
        blind_to_the_core(patched, {0})
        for module in (fitting, restarting):
            patched.setattr(module, "build_fit", build)
        done = started(toy, tmp_path / "a")
    folder = done.folder
    plan = fold_plan(folder)
    assert len(networks) == 2
    assert plan.training.seed == seed
    assert plan.reasons["training.seed"].inputs == {"first_seed": 0, "never_found": "core"}
    assert [event.kind for event in read_events(folder.events)] == ["restarted"]
    assert [epoch["epoch"] for epoch in read_epochs(folder.log)] == [0, 1, 2, 3]
    assert load_checkpoint(folder.collapsed / "latest.ckpt")["progress"]["seed"] == 0
    assert len(read_epochs(folder.collapsed / "log.jsonl")) == 1
    assert json.loads((folder.collapsed / "plan.json").read_text())["training"]["seed"] == 0
    # The second try is a training from that seed like any other.
    planned = toy.plan.changed(training=toy.plan.training.changed(seed=seed), name="planned")
    expected = load_checkpoint(started(toy, tmp_path / "b", planned).folder.latest)
    assert same(load_checkpoint(folder.latest)["network"], expected["network"])


def test_a_second_try_that_never_finds_it_either_goes_on_to_its_end(toy, tmp_path, monkeypatch):
    blind_to_the_core(monkeypatch, {0, next_seed(0)})
    done = started(toy, tmp_path)
    assert done.is_finished
    assert [event.kind for event in read_events(done.folder.events)] == ["restarted", "collapsed"]


@pytest.mark.parametrize("moment", ["append_event", "forget_first_try"])
def test_killed_while_it_begins_again_it_ends_the_same(toy, tmp_path, monkeypatch, moment):
    blind_to_the_core(monkeypatch, {0})

    def killed(*_arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(restarting, moment, killed)
        with pytest.raises(KeyboardInterrupt):
            started(toy, tmp_path)
    done = started(toy, tmp_path)
    assert done.is_finished
    assert fold_plan(done.folder).training.seed == next_seed(0)
    state = load_checkpoint(done.folder.latest)
    assert (state["progress"]["seed"], state["progress"]["iteration"]) == (next_seed(0), 16)
    assert len(read_epochs(done.folder.log)) == 4
    assert [event.kind for event in read_events(done.folder.events)] == ["restarted"]


def test_killed_while_it_removes_the_first_try_it_goes_on_with_the_second_one(toy, tmp_path, monkeypatch):
    blind_to_the_core(monkeypatch, {0})
    remove = fitting.remove_file
    for moment in range(1, 5):
        removed = []

        def killed(path, removed=removed, moment=moment):
            remove(path)
            removed.append(path)
            if len(removed) == moment:
                raise KeyboardInterrupt

        with monkeypatch.context() as patched:
            patched.setattr(fitting, "remove_file", killed)
            with pytest.raises(KeyboardInterrupt):
                started(toy, tmp_path)
        assert folder_in(tmp_path, toy.plan).latest.is_file() == (moment < 4)
    done = started(toy, tmp_path)
    state = load_checkpoint(done.folder.latest)
    assert (state["progress"]["seed"], state["progress"]["iteration"]) == (next_seed(0), 16)
    assert [epoch["epoch"] for epoch in read_epochs(done.folder.log)] == [0, 1, 2, 3]


def test_a_training_that_began_with_given_weights_does_not_begin_again_from_others(toy, tmp_path, monkeypatch):
    short = toy.plan.changed(training=toy.plan.training.changed(epochs=1), name="donor")
    donor = started(toy, tmp_path, short).folder.root
    blind_to_the_core(monkeypatch, {0})
    run = Fit.run

    def stopping(self):
        self.should_stop = lambda: self.progress.iteration == 2
        return run(self)

    with monkeypatch.context() as patched:
        patched.setattr(Fit, "run", stopping)
        assert not started(toy, tmp_path, init=donor).is_finished
    done = started(toy, tmp_path)
    assert [event.kind for event in read_events(done.folder.events)] == ["collapsed"]
    assert fold_plan(done.folder).training.seed == 0


@pytest.mark.parametrize("fits_best", [False, True])
def test_a_full_disk_keeps_the_last_good_checkpoint_and_says_what_is_missing(
    toy, undisturbed, tmp_path, monkeypatch, fits_best
):
    run, limits = Fit.run, resource.getrlimit(resource.RLIMIT_FSIZE)

    def stopping(self):
        self.should_stop = lambda: self.progress.iteration == 6
        return run(self)

    with monkeypatch.context() as patched:
        patched.setattr(Fit, "run", stopping)
        assert not started(toy, tmp_path).is_finished
    folder = folder_in(tmp_path, toy.plan)
    before = folder.latest.read_bytes()
    size = folder.best.stat().st_size + 4096 if fits_best else 20_000
    assert len(before) > size
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        with pytest.raises(
            StorageError, match=r"ckpt: cannot write: File too large; .* \([\d.]+ \wB needed, .* free\)"
        ):
            started(toy, tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert folder.latest.read_bytes() == before
    assert not [path for path in folder.root.iterdir() if path.name.startswith(".latest")]
    assert started(toy, tmp_path).is_finished
    assert same(load_checkpoint(folder.latest), undisturbed)
