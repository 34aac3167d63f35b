import math
import threading

import numpy as np
import pytest
import torch

from tests.engine.phantoms import CLASSES, Cases, cases_of, configuration_of, fit_of, training_of, tumour, weights_of
from tests.engine.test_ending import ALIKE
from tumorseg.engine import faults, loop
from tumorseg.engine.accumulation import listed
from tumorseg.engine.faults import MOST_LOST, Collapsed
from tumorseg.engine.feed import Data
from tumorseg.engine.observers import Observer
from tumorseg.engine.patch_feed import PatchFeed
from tumorseg.errors import TrainingError
from tumorseg.schema.optimizers import Sgd
from tumorseg.schema.training import EarlyStop
from tumorseg.storage.checkpoints import load_checkpoint, save_checkpoint

MEASURED = {"seconds", "seconds_by_part", "data_wait_fraction", "memory_bytes", "ended_at"}
WATCHED = {"epochs": 4, "iterations_per_epoch": 5}


class Kept(Observer):
    """Keeps all that is told."""

    def __init__(self, path=None):
        self.path, self.faults, self.events, self.logs, self.stops = path, [], [], [], 0

    def on_fault(self, step):
        self.faults.append(step)

    def on_event(self, event):
        self.events.append((event.kind, event.iteration))

    def on_epoch(self, log, state, is_best):
        self.logs.append((log.model_dump(exclude=MEASURED), is_best))

    def on_stop(self, state):
        self.stops += 1
        save_checkpoint(self.path, state)


def start(kept, configuration=None, data=None, num_workers=None, **training):
    fit = fit_of(configuration, training_of(**training), data, num_workers=num_workers)
    fit.observers = (kept,)
    return fit


def leave_at(count):
    """Return what says to leave when it is asked for the `count`-th time, and from then on."""
    asked = []

    def should_leave():
        asked.append(True)
        return len(asked) >= count

    return should_leave


@pytest.fixture(scope="module")
def whole():
    kept = Kept()
    fit = start(kept)
    assert fit.run()
    return kept, weights_of(fit.learner)


# Batches of two epochs, each of three steps and two held-out batches; it is asked once for each, and before the first.
@pytest.mark.parametrize("moment", range(1, 11))
def test_a_training_that_leaves_before_any_batch_goes_on_bit_for_bit(whole, tmp_path, moment):
    first, second = Kept(tmp_path / "a.ckpt"), Kept(tmp_path / "a.ckpt")
    fit = start(first, num_workers=0)
    fit.should_leave = leave_at(moment)
    assert not fit.run()
    # Without a step there is nothing to keep.
    assert first.stops == int(moment > 1)
    again = start(second)
    if moment > 1:
        again.restore(load_checkpoint(tmp_path / "a.ckpt"))
    assert again.num_epochs_done == len(first.logs)
    assert again.run()
    assert torch.equal(weights_of(again.learner), whole[1])
    assert first.logs + second.logs == whole[0].logs


@pytest.mark.parametrize("stream", ["training", "validation"])
def test_a_training_that_waits_for_a_slow_batch_leaves_within_a_moment(tmp_path, monkeypatch, stream):
    monkeypatch.setattr(loop, "POLL_S", 0.01)
    is_slow, goes_on = threading.Event(), threading.Event()

    class Slow(Cases):
        def read(self, case_id, box):
            is_slow.set()
            assert goes_on.wait(20)
            return super().read(case_id, box)

    slow, quick = Slow(cases_of(1).arrays), cases_of(2)
    data = Data(slow, quick) if stream == "training" else Data(quick, slow)
    kept = Kept(tmp_path / "a.ckpt")
    fit = start(kept, data=data)

    def should_leave():
        is_leaving = is_slow.is_set() and fit.progress.iteration in (0, 3)
        if is_leaving:
            # Readers are waited for at the end, after the checkpoint.
            threading.Timer(0.1, goes_on.set).start()
        return is_leaving

    fit.should_leave = should_leave
    assert not fit.run()
    assert kept.stops == int(stream == "validation")


def with_infinity(case_id="broken"):
    image, segmentation = tumour((9, 9, 9))
    image[0] = np.inf
    return Cases({case_id: (image, segmentation)})


def test_three_losses_in_a_row_that_are_not_finite_end_a_training():
    kept = Kept()
    fit = start(kept, data=Data(with_infinity(), None), epochs=1, iterations_per_epoch=50)
    with pytest.raises(TrainingError, match=r"nan at iteration 2 on cases broken, broken .*: 3\); .*`faults`"):
        fit.run()
    assert kept.events == [("skipped", number + 1) for number in range(MOST_LOST)]


def test_whoever_keeps_a_batch_with_a_loss_that_is_not_finite_is_given_it():
    kept = Kept()
    fit = start(kept, data=Data(with_infinity(), None))
    with pytest.raises(TrainingError):
        fit.run()
    images, segmentations = kept.faults[0].inputs[:2]
    assert images.shape == (2, 2, 8, 8, 8)
    assert images[:, 0].isinf().any()
    assert segmentations.shape == (2, 8, 8, 8)


def test_a_lost_step_leaves_the_weights_as_if_it_had_not_been_there(whole):
    kept = Kept()
    fit = start(kept)
    step, calls = fit.learner.loss_of, []

    def loss_of(outputs, inputs):
        value = step(outputs, inputs)
        calls.append(True)
        return value._replace(total=value.total * math.nan) if len(calls) == 2 else value

    fit.learner.loss_of = loss_of
    assert fit.run()
    assert kept.events == [("skipped", 2)]
    assert [log["num_skipped"] for log, _ in kept.logs] == [1, 0]
    assert weights_of(fit.learner).isfinite().all()
    assert not torch.equal(weights_of(fit.learner), whole[1])


def test_memory_that_runs_out_while_a_batch_is_brought_is_an_error_of_one_line(monkeypatch):
    def joined(*_arguments):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(PatchFeed, "joined", joined)
    with pytest.raises(TrainingError, match=r"^memory ran out while a batch was brought to the device; .* untouched$"):
        start(Kept()).run()


def test_memory_that_runs_out_on_held_out_patches_is_not_said_to_be_of_a_step():
    def forward(module, _images, _output):
        if not module.training:
            raise torch.OutOfMemoryError("CUDA out of memory")

    fit = start(Kept())
    fit.learner.network.register_forward_hook(forward)
    with pytest.raises(TrainingError, match=r"^memory ran out on held-out patches; "):
        fit.run()


def out_of_memory_once(fit, most=1):
    def forward(_module, images, _output):
        if fit.learner.network.training and len(images[0]) > most:
            raise torch.OutOfMemoryError

    fit.learner.network.register_forward_hook(forward)


def test_a_training_that_runs_out_of_memory_goes_on_in_parts_and_so_does_its_checkpoint(tmp_path):
    planned = start(Kept(), configuration_of(gradient_accumulation=2))
    planned.run()
    first, second = Kept(tmp_path / "a.ckpt"), Kept(tmp_path / "a.ckpt")
    fit = start(first)
    out_of_memory_once(fit)
    fit.should_stop = lambda: fit.progress.iteration == 4
    assert not fit.run()
    assert first.events == [("divided", 1)]
    again = start(second)
    again.restore(load_checkpoint(tmp_path / "a.ckpt"))
    assert again.run()
    assert second.events == []
    assert [log["num_parts"] for log, _ in first.logs + second.logs] == [2, 2]
    # Held-out batches go in parts too; with instance norm the parts are those of the whole.
    assert torch.equal(weights_of(again.learner), weights_of(planned.learner))


@pytest.fixture
def quick_to_judge(monkeypatch):
    monkeypatch.setattr(faults, "LEAST_STEPS", 10)
    monkeypatch.setattr(faults, "LEAST_PATCHES", 1)
    monkeypatch.setattr(faults, "WINDOW", 0.25)


def blind():
    """Return a configuration whose network never learns, and so never finds the core."""
    return configuration_of(optimizer=Sgd(lr=1e-9, momentum=0))


def hide_core(fit):
    def forward(_module, _images, logits):
        bias = torch.zeros(CLASSES.num_outputs)
        bias[2] = -100.0
        hidden = [level + bias.view(1, -1, 1, 1, 1) for level in listed(logits)]
        return hidden[0] if isinstance(logits, torch.Tensor) else hidden

    fit.learner.network.register_forward_hook(forward)


def test_a_training_that_never_finds_a_label_begins_again_by_its_half(quick_to_judge):
    kept = Kept()
    fit = start(kept, blind(), **WATCHED)
    hide_core(fit)
    fit.num_restarts_left = 1
    with pytest.raises(Collapsed) as found:
        fit.run()
    assert (found.value.names, found.value.iteration) == (("core",), 10)
    # Before the epoch counts, so that one that is killed here comes to the same end.
    assert len(kept.logs) == 1


def test_a_second_training_that_never_finds_a_label_says_so_and_goes_on(quick_to_judge):
    kept = Kept()
    fit = start(kept, blind(), **WATCHED)
    hide_core(fit)
    assert fit.run()
    assert kept.events == [("collapsed", 10)]


def test_a_training_that_ends_before_its_half_is_judged_at_its_end(monkeypatch):
    monkeypatch.setattr(faults, "LEAST_STEPS", 6)
    monkeypatch.setattr(faults, "LEAST_PATCHES", 1)
    kept = Kept()
    stop = EarlyStop(patience=0.1, threshold=0.9, anneal_fraction=0.25)
    fit = start(kept, blind(), ALIKE, epochs=10, iterations_per_epoch=5, early_stop=stop)
    hide_core(fit)
    assert fit.run()
    assert kept.events == [("ends_early", 10), ("collapsed", 15)]


def test_one_that_is_resumed_within_the_window_judges_all_that_was_seen(quick_to_judge, tmp_path):
    first, second = Kept(tmp_path / "a.ckpt"), Kept()
    fit = start(first, blind(), **WATCHED)
    hide_core(fit)
    fit.should_stop = lambda: fit.progress.iteration == 7
    assert not fit.run()
    again, straight = (start(second, blind(), **WATCHED) for _ in range(2))
    again.restore(load_checkpoint(tmp_path / "a.ckpt"))
    for one in (again, straight):
        hide_core(one)
        assert one.run()
    assert second.events == [("collapsed", 10)] * 2
    assert again.progress.seen == straight.progress.seen


def test_a_training_of_which_nothing_is_lost_ends_as_if_it_had_not_been_watched(quick_to_judge):
    weights = []
    for wanted in (True, False):
        fit = start(Kept(), restart_on_collapse=wanted, **WATCHED)
        fit.num_restarts_left = 1
        assert fit.run()
        weights.append(weights_of(fit.learner))
    assert torch.equal(*weights)
