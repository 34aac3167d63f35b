import math
import threading
import time
from collections import Counter

import numpy as np
import pytest
import torch

from tests.engine.phantoms import (
    REGIONS,
    Cases,
    cases_of,
    configuration_of,
    fit_of,
    training_of,
    tumour,
    weights_of,
)
from tumorseg.engine.faults import MOST_SKIPPED
from tumorseg.engine.feed import Data
from tumorseg.engine.observers import Observer
from tumorseg.engine.readers import LEAST_AHEAD
from tumorseg.errors import TrainingError
from tumorseg.schema.numbers import LinearSchedule
from tumorseg.schema.optimizers import AdamW, PlateauSchedule, Sgd
from tumorseg.schema.transforms.intensity import GaussianNoise
from tumorseg.schema.transforms.spatial import MirrorTransform, SpatialTransform
from tumorseg.storage.checkpoints import load_checkpoint, save_checkpoint

AUGMENTED = configuration_of(
    transforms=(
        SpatialTransform(rotation_deg=(30, 30, 30), rotation_probability=0.9, scaling_probability=0.9),
        GaussianNoise(probability=0.9),
        MirrorTransform(axes=(0, 1, 2)),
    ),
    schedule=PlateauSchedule(),
)
MEASURED = {"seconds", "seconds_by_part", "data_wait_fraction", "memory_bytes", "ended_at"}
NUM_ITERATIONS = 6


class Recorder(Observer):
    """Keeps logs and checkpoints as `stages.train` does."""

    def __init__(self, path, stop_at=None, kill_at=None):
        self.path, self.stop_at, self.kill_at = path, stop_at, kill_at
        self.logs, self.best, self.iterations = [], [], []

    def should_stop(self):
        return self.iterations[-1][0] == self.stop_at

    def on_stop(self, state):
        save_checkpoint(self.path, state)

    def on_step(self, step):
        self.iterations.append((step.iteration + 1, step.result.total))
        if step.iteration + 1 == self.kill_at:
            raise KeyboardInterrupt

    def on_epoch(self, log, state, is_best):
        self.logs.append(log.model_dump(exclude=MEASURED))
        self.best.append(is_best)
        save_checkpoint(self.path, state)


def start(recorder, configuration=AUGMENTED, data=None, num_workers=None, **training):
    fit = fit_of(configuration, training_of(**training), data, num_workers=num_workers)
    fit.observers, fit.should_stop = (recorder,), recorder.should_stop
    return fit


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    recorder = Recorder(tmp_path_factory.mktemp("whole") / "latest.ckpt")
    fit = start(recorder)
    assert fit.run()
    return recorder, weights_of(fit.learner)


def test_a_training_tells_every_iteration_and_epoch(whole):
    recorder, _ = whole
    assert [iteration for iteration, _ in recorder.iterations] == [1, 2, 3, 4, 5, 6]
    assert [(log["epoch"], log["iteration"]) for log in recorder.logs] == [(0, 3), (1, 6)]
    losses = [loss for _, loss in recorder.iterations]
    for log, mean in zip(recorder.logs, (sum(losses[:3]) / 3, sum(losses[3:]) / 3), strict=True):
        assert log["train_loss"] == pytest.approx(mean)
        assert sum(log["train_losses"].values()) == pytest.approx(mean, rel=1e-5)
        assert log["loss_weights"] == {"dice": 1.0, "cross_entropy": 1.0}
        assert math.isfinite(log["validation_loss"])
        assert set(log["dsc"]) == {"edema", "core"}
    assert recorder.best[0]


def test_the_same_seed_gives_the_same_training_and_another_seed_another(whole, tmp_path):
    recorder, weights = whole
    again, other = Recorder(tmp_path / "a"), Recorder(tmp_path / "b")
    fit = start(again)
    fit.run()
    assert torch.equal(weights_of(fit.learner), weights)
    assert again.logs == recorder.logs
    start(other, seed=1).run()
    assert other.logs != recorder.logs


@pytest.mark.parametrize("stop_at", range(1, NUM_ITERATIONS + 1))
def test_a_training_stopped_after_any_iteration_goes_on_bit_for_bit(whole, tmp_path, stop_at):
    recorder, weights = whole
    first, second = Recorder(tmp_path / "a.ckpt", stop_at=stop_at), Recorder(tmp_path / "a.ckpt")
    assert start(first).run() == (stop_at == NUM_ITERATIONS)
    fit = start(second)
    fit.restore(load_checkpoint(tmp_path / "a.ckpt"))
    assert fit.progress.iteration == stop_at
    assert fit.run()
    assert torch.equal(weights_of(fit.learner), weights)
    assert first.logs + second.logs == recorder.logs
    assert first.iterations + second.iterations == recorder.iterations
    assert first.best + second.best == recorder.best


@pytest.mark.parametrize("kill_at", [4, 5, 6])
def test_a_training_killed_in_an_epoch_goes_on_from_its_beginning_bit_for_bit(whole, tmp_path, kill_at):
    recorder, weights = whole
    killed, second = Recorder(tmp_path / "a.ckpt", kill_at=kill_at), Recorder(tmp_path / "a.ckpt")
    with pytest.raises(KeyboardInterrupt):
        start(killed).run()
    fit = start(second)
    fit.restore(load_checkpoint(tmp_path / "a.ckpt"))
    assert fit.progress.iteration == 3
    assert fit.run()
    assert torch.equal(weights_of(fit.learner), weights)
    assert killed.logs + second.logs == recorder.logs


def test_a_finished_training_has_nothing_left_to_do(whole, tmp_path):
    recorder, weights = whole
    idle = Recorder(tmp_path / "a.ckpt")
    fit = start(idle)
    fit.restore(load_checkpoint(recorder.path))
    assert fit.run()
    assert idle.iterations == []
    assert torch.equal(weights_of(fit.learner), weights)


def test_a_tiny_phantom_is_learned_by_heart():
    configuration = configuration_of(edge=16, features=(8, 16), optimizer=AdamW(lr=2e-2))
    cases = cases_of(1, shape=(16, 17, 19))
    logs = []
    fit = fit_of(
        configuration,
        training_of(1, 40, validation_iterations=2),
        Data(cases, cases),
        on_epoch=lambda log, state, is_best: logs.append(log),
    )
    assert fit.run()
    assert min(logs[-1].dsc.values()) > 0.85
    assert logs[-1].validation_loss < 0.5


def test_regions_are_trained_and_scored():
    logs = []
    fit = fit_of(
        configuration_of(targets=REGIONS),
        training_of(1, 2),
        targets=REGIONS,
        on_epoch=lambda log, state, is_best: logs.append(log),
    )
    assert fit.run()
    assert set(logs[0].dsc) == {"whole", "core"}
    assert set(logs[0].train_losses) == {"dice", "binary_cross_entropy"}


def test_planes_are_trained():
    logs = []
    fit = fit_of(configuration_of(2), training_of(1, 2), on_epoch=lambda log, state, is_best: logs.append(log))
    assert fit.run()
    assert math.isfinite(logs[0].validation_loss)


def test_without_validation_the_training_loss_decides_the_best_epoch():
    logs, best = [], []
    fit = fit_of(
        configuration_of(optimizer=Sgd(lr=1e-9, momentum=0), schedule=PlateauSchedule()),
        training_of(3, 2),
        Data(cases_of(2), None),
        on_epoch=lambda log, state, is_best: (logs.append(log), best.append(is_best)),
    )
    assert fit.run()
    assert [log.validation_loss for log in logs] == [None] * 3
    assert [log.dsc for log in logs] == [{}] * 3
    running, record, expected = None, -math.inf, []
    for log in logs:
        running = -log.train_loss if running is None else 0.9 * running - 0.1 * log.train_loss
        expected.append(running > record)
        record = max(record, running)
    assert best == expected


def test_the_held_out_reference_shapes_no_weight_though_the_lr_is_lowered():
    found = []
    image, segmentation = tumour((9, 11, 10), seed=9)
    for reference in (segmentation, 2 - segmentation):
        data = Data(cases_of(2), Cases({"held out": (image, reference)}))
        configuration = configuration_of(schedule=PlateauSchedule(threshold=0.9))
        fit = fit_of(configuration, training_of(10, 1, validation_iterations=1), data)
        fit.run()
        found.append(weights_of(fit.learner))
        assert fit.learner.optimisation.schedule.state()["scale"] < 1
    assert torch.equal(*found)


def test_a_weight_that_falls_does_not_pass_for_a_loss_that_falls():
    loss = configuration_of().loss
    components = tuple(one.model_copy(update={"weight": LinearSchedule(start=1, end=0.1)}) for one in loss.components)
    configuration = configuration_of(
        loss=loss.model_copy(update={"components": components}),
        optimizer=Sgd(lr=1e-9, momentum=0),
        schedule=PlateauSchedule(),
    )
    logs = []
    alike = Data(cases_of(1, shape=(8, 8, 8)), None)  # every batch is the whole case
    fit = fit_of(configuration, training_of(10, 1), alike, on_epoch=lambda log, *_: logs.append(log.train_loss))
    fit.run()
    assert logs == sorted(logs, reverse=True)
    assert fit.learner.optimisation.schedule.state()["scale"] < 1


def test_the_best_epoch_is_that_of_the_running_mean_of_the_validation_dsc(whole):
    recorder, _ = whole
    running, record, expected = None, -math.inf, []
    for log in recorder.logs:
        known = [value for value in log["dsc"].values() if value is not None]
        value = sum(known) / len(known) if known else 0.0
        running = value if running is None else 0.9 * running + 0.1 * value
        expected.append(running > record)
        record = max(record, running)
    assert recorder.best == expected


def test_cases_of_background_train():
    image = np.random.default_rng(0).normal(size=(2, 9, 11, 10)).astype(np.float32)
    empty = Cases({"empty": (image, np.zeros((9, 11, 10), np.int8))})
    logs = []
    fit = fit_of(
        training=training_of(1, 3),
        data=Data(empty, empty),
        on_epoch=lambda log, state, is_best: logs.append(log),
    )
    assert fit.run()
    assert math.isfinite(logs[0].train_loss)


def with_infinity(case_id="broken"):
    image, segmentation = tumour((9, 9, 9))
    image[0] = np.inf
    return Cases({case_id: (image, segmentation)})


def test_an_epoch_without_a_finite_loss_names_iteration_and_cases():
    fit = fit_of(data=Data(with_infinity(), None))
    with pytest.raises(
        TrainingError,
        match=r"the loss became nan at iteration 2 on cases broken, broken \(steps in a row .*: 3\); look at",
    ):
        fit.run()


def test_a_step_whose_loss_is_not_finite_is_left_out_and_told():
    cases = Cases({**cases_of(3).arrays, **with_infinity().arrays})
    skipped, seen, logs = [], [], []
    fit = fit_of(
        training=training_of(2, 5),
        data=Data(cases, Data(cases_of(1), with_infinity("held out")).training),
        on_skip=lambda iteration, loss, case_ids: skipped.append((iteration, case_ids)),
        on_iteration=lambda iteration, loss: seen.append(loss),
        on_epoch=lambda log, *_: logs.append(log),
    )
    assert fit.run()
    assert 0 < len(skipped) < 10
    assert all("broken" in case_ids for _, case_ids in skipped)
    assert [iteration for iteration, loss in enumerate(seen) if math.isnan(loss)] == [
        iteration for iteration, _ in skipped
    ]
    for number, log in enumerate(logs):
        finite = [loss for loss in seen[5 * number : 5 * number + 5] if math.isfinite(loss)]
        assert log.train_loss == pytest.approx(sum(finite) / len(finite))
        assert sum(log.train_losses.values()) == pytest.approx(log.train_loss, rel=1e-5)
    assert weights_of(fit.learner).isfinite().all()


def test_a_validation_loss_that_is_not_finite_is_a_training_error():
    fit = fit_of(data=Data(cases_of(1), with_infinity("held out")))
    with pytest.raises(TrainingError, match="nan"):
        fit.run()


def test_validation_looks_at_the_same_patches_each_time():
    held_out = cases_of(1, seed=9)
    fit = fit_of(training=training_of(3, 1), data=Data(cases_of(1), held_out))
    fit.run()
    # Threads read ahead, so that only the end tells how often each was read.
    counts = Counter(held_out.boxes)
    assert counts.total() >= 3 * 4
    assert {count % 3 for count in counts.values()} == {0}


def overflowing(training, **hooks):
    fit = fit_of(training=training, data=Data(cases_of(1), None), **hooks)
    for parameter in fit.learner.network.parameters():
        parameter.register_hook(lambda gradient: gradient * float("inf"))
    return fit


def test_gradients_that_are_not_finite_leave_the_weights_alone_and_end_a_training_in_time():
    kept = {}
    fit = overflowing(training_of(1, 60), on_stop=kept.update, should_stop=lambda: fit.progress.iteration == 20)
    before = weights_of(fit.learner)
    assert not fit.run()
    resumed = overflowing(training_of(1, 60))
    resumed.restore(kept)
    with pytest.raises(
        TrainingError, match=rf"the gradient is not finite at iteration {MOST_SKIPPED - 1} .*: {MOST_SKIPPED}\)"
    ):
        resumed.run()
    assert torch.equal(weights_of(resumed.learner), before)


def test_a_short_training_without_a_single_step_fails():
    fit = overflowing(training_of(3, 1))
    # As on a GPU.
    fit.learner.execution = fit.learner.execution._replace(precision="fp16")
    with pytest.raises(
        TrainingError, match=r"the gradient is not finite at iteration 2 .*training.precision.cuda=bf16 or fp32"
    ):
        fit.run()


def test_the_log_holds_the_weight_of_every_term_of_a_repeated_loss():
    loss = configuration_of().loss
    dice, cross_entropy = loss.components
    twice = loss.model_copy(update={"components": (dice, cross_entropy, dice.model_copy(update={"weight": 3.0}))})
    logs = []
    fit = fit_of(configuration_of(loss=twice), training_of(1, 1), on_epoch=lambda log, *_: logs.append(log))
    fit.run()
    assert logs[0].loss_weights == {"dice": 1.0, "cross_entropy": 1.0, "dice_2": 3.0}
    assert logs[0].train_losses.keys() == logs[0].loss_weights.keys()


@pytest.mark.parametrize("num_workers", [0, 1, 3])
def test_the_weights_are_the_same_whatever_the_number_of_workers(whole, tmp_path, num_workers):
    recorder, weights = whole
    other = Recorder(tmp_path / "a.ckpt")
    fit = start(other, num_workers=num_workers)
    assert fit.run()
    assert torch.equal(weights_of(fit.learner), weights)
    assert other.logs == recorder.logs


def test_a_training_goes_on_bit_for_bit_with_another_number_of_workers(whole, tmp_path):
    _, weights = whole
    first, second = Recorder(tmp_path / "a.ckpt", stop_at=2), Recorder(tmp_path / "a.ckpt")
    assert not start(first, num_workers=3).run()
    fit = start(second, num_workers=0)
    fit.restore(load_checkpoint(tmp_path / "a.ckpt"))
    assert fit.run()
    assert torch.equal(weights_of(fit.learner), weights)


@pytest.mark.parametrize("num_workers", [0, 1, 3])
@pytest.mark.parametrize("ends", ["stopped", "killed", "finished"])
def test_however_a_training_ends_no_thread_reads_on(tmp_path, num_workers, ends):
    recorder = Recorder(tmp_path / "a.ckpt", stop_at=2, kill_at=2 if ends == "killed" else None)
    fit = start(recorder, num_workers=num_workers, epochs=1 if ends == "finished" else 9)
    if ends == "finished":
        recorder.stop_at = None
    if ends == "killed":
        with pytest.raises(KeyboardInterrupt):
            fit.run()
    else:
        assert fit.run() == (ends == "finished")
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith(("reader", "feeder"))] == []


def test_patches_of_the_next_epoch_are_read_while_held_out_ones_are_looked_at():
    cases, seen = cases_of(2), []

    class HeldOut(Cases):
        def read(self, case_id, box):
            # Whoever reads held-out patches does so among those of the training.
            seen.append(len(cases.boxes))
            return super().read(case_id, box)

    data = Data(cases, HeldOut(cases_of(1, seed=9).arrays))
    read = []

    def wait(*_):
        ends = time.monotonic() + 20
        while len(cases.boxes) == 8 and time.monotonic() < ends:
            time.sleep(0.01)
        read.append(len(cases.boxes))

    assert fit_of(training=training_of(2, 4), data=data, num_workers=1, on_epoch=wait).run()
    # Two patches a batch, four batches an epoch; one thread reads in order.
    assert seen[0] == 8
    assert 8 < read[0] <= 8 + 2 * LEAST_AHEAD
    assert len(cases.boxes) == 16


def test_the_seconds_of_an_epoch_add_up_and_waiting_is_all_that_is_no_step():
    logs, began = [], time.perf_counter()
    fit = fit_of(AUGMENTED, training_of(3, 4), num_workers=0, on_epoch=lambda log, *_: logs.append(log))
    fit.run()
    passed = time.perf_counter() - began
    assert 0.5 * passed < sum(log.seconds for log in logs) <= passed
    for log in logs:
        parts = log.seconds_by_part
        assert log.seconds == pytest.approx(parts.step + parts.waiting + parts.validation)
        assert log.data_wait_fraction == pytest.approx(parts.waiting / (log.seconds - parts.validation))
        # Without workers the thread that steps waits for all that is read and augmented.
        assert parts.waiting >= parts.reading + parts.augmentation > 0
        assert min(parts.step, parts.validation) > 0


def test_what_observers_take_at_the_end_of_an_epoch_is_waiting_of_the_next():
    logs = []

    def keep(log, state, is_best):
        logs.append(log.seconds_by_part)
        time.sleep(0.2)

    fit_of(training=training_of(2, 2), on_epoch=keep).run()
    assert logs[0].waiting < 0.2 <= logs[1].waiting
