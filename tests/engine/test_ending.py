import itertools

import pytest
import torch
from pydantic import ValidationError

from tests.engine.phantoms import Cases, configuration_of, fit_of, learner_of, training_of, tumour, weights_of
from tumorseg.engine.ending import Length, Tail, logged_num_iterations, num_iterations
from tumorseg.engine.feed import Data
from tumorseg.schema.losses import LossSpec
from tumorseg.schema.numbers import LinearSchedule
from tumorseg.schema.optimizers import (
    ConstantSchedule,
    CosineSchedule,
    OneCycleSchedule,
    PlateauSchedule,
    PolySchedule,
    Sgd,
)
from tumorseg.schema.training import EarlyStop, Extension, FineTuning
from tumorseg.storage.checkpoints import load_checkpoint, save_checkpoint

STOP = EarlyStop(patience=0.1, anneal_fraction=0.25, anneal_to=0.01)
STANDING = Sgd(lr=1e-9, momentum=0)
"""An optimizer of which no loss falls."""
IMAGE, SEGMENTATION = tumour((8, 8, 8))
ALIKE = Data(Cases({"flat": (IMAGE[:, 4:5], SEGMENTATION[4:5])}), None)
"""A case that is one patch, so that every batch is the same and its loss stalls."""


def length_of(epochs=20, settled_at=0, **changes):
    return Length(training_of(epochs, 5, **changes), 0.1, settled_at=settled_at)


def ended(length, losses):
    """Return the tail that begins, and the epochs so far."""
    for epochs, loss in enumerate(losses, start=1):
        if (tail := length.end_epoch(5 * epochs, loss, lr=0.04)) is not None:
            return tail, epochs
    return None, len(losses)


def test_a_tail_falls_along_one_line_to_its_last_step():
    tail = Tail(10, 14, 1.0, 0.2)
    assert [tail.lr(iteration) for iteration in (10, 11, 12, 13)] == pytest.approx([0.8, 0.6, 0.4, 0.2])


def test_a_training_is_as_long_as_planned():
    length = length_of()
    assert length.num_iterations == length.num_planned == 100
    assert [length.progress(iteration) for iteration in (0, 25, 99)] == [0, 0.25, 0.99]
    assert length.tail_at(99) is None
    assert ended(length, [1.0] * 20) == (None, 20)


def test_a_stalled_loss_ends_a_training_in_a_tail_of_whole_epochs():
    length = length_of(early_stop=STOP)
    tail, epochs = ended(length, [1.0, 0.8, 0.6, 0.6, 0.6, 0.6, 0.6])
    # Windows of two epochs: 0.9, 0.6, 0.6.
    assert epochs == 6
    assert tail == (30, 40, 0.04, pytest.approx(0.0004))
    assert length.num_iterations == 40
    assert length.tail_at(29) is None
    assert length.tail_at(30) == tail
    assert ended(length, [1.0] * 20) == (None, 20)


def test_epochs_before_a_training_has_settled_are_not_looked_at():
    length = length_of(early_stop=STOP, settled_at=21)
    # Five epochs, of which the last one has settled within; then windows of two.
    tail, epochs = ended(length, [1.0] * 5 + [0.9, 0.7, 0.5, 0.5, 0.5, 0.5])
    assert epochs == 11
    assert tail[:2] == (55, 70)


@pytest.mark.parametrize(
    ("schedule", "fine_tuning", "settled_at"),
    [
        (ConstantSchedule(), None, 0),
        (PlateauSchedule(), None, 0),
        (PolySchedule(), FineTuning(freeze=("encoder",)), 0),
        (PolySchedule(), FineTuning(freeze=("encoder",), freeze_fraction=0.5), 50),
        (PolySchedule(), FineTuning(freeze_fraction=0.5), 0),
        (PolySchedule(), FineTuning(warmup_fraction=0.3), 30),
        (ConstantSchedule(warmup_fraction=0.2), FineTuning(warmup_fraction=0.1), 20),
        (CosineSchedule(warmup_fraction=0.2), None, 20),
        (OneCycleSchedule(peak_at=0.4), None, 40),
    ],
)
def test_no_training_ends_sooner_before_its_lr_is_up_and_its_parts_are_free(schedule, fine_tuning, settled_at):
    stop = EarlyStop(patience=0.1, anneal_fraction=0.05)
    training = training_of(20, 5, early_stop=stop, fine_tuning=fine_tuning)
    optimisation = learner_of(configuration_of(2, schedule=schedule), training).optimisation
    tails = (optimisation.end_epoch(5 * epoch, 1.0) for epoch in range(1, 17))
    tail = next(filter(None, tails))
    # Two windows of two epochs each.
    assert tail.start == settled_at + 20


@pytest.mark.parametrize("falls", [True, False])
def test_a_falling_loss_ends_nothing_and_one_that_hardly_falls_does(falls):
    losses = [2.0, 2.0, 1.0, 1.0, 1.0 - (0.06 if falls else 0.04)] + [0.94 if falls else 0.96] * 1
    tail, _ = ended(length_of(early_stop=STOP), losses)
    assert (tail is None) == falls


def test_a_plan_that_ends_as_soon_stands():
    tail, _ = ended(length_of(early_stop=STOP), [1 - 0.05 * epoch for epoch in range(15)] + [0.3] * 5)
    assert tail is None


def test_losses_that_change_in_the_course_of_a_training_reach_their_end_in_a_tail():
    length = length_of(early_stop=STOP)
    ended(length, [1.0] * 4)
    assert length.tail[:2] == (20, 25)
    progress = [length.progress(iteration) for iteration in (0, 10, 20, 21, 24, 25)]
    assert progress == pytest.approx([0, 0.1, 0.2, 0.36, 0.84, 1.0])


def test_an_extension_comes_after_the_planned_end_at_a_share_of_the_lr():
    length = length_of(extension=Extension(after_epochs=12, lr_from=0.5, lr_to=0.01), early_stop=STOP)
    assert (length.num_planned, length.num_iterations) == (60, 100)
    assert length.tail_at(59) is None
    assert length.tail_at(60) == pytest.approx((60, 100, 0.05, 0.001))
    assert [length.progress(iteration) for iteration in (30, 60, 99)] == [0.5, 1, 1]
    # It was asked for: nothing ends it.
    assert ended(length, [1.0] * 20) == (None, 20)


@pytest.mark.parametrize("after", [4, 5])
def test_an_extension_is_longer_than_what_it_extends(after):
    with pytest.raises(ValidationError, match=f"extension.after_epochs is {after} and epochs 4"):
        training_of(4, extension=Extension(after_epochs=after))


def test_an_extension_of_a_training_that_had_ended_sooner_follows_its_tail():
    first = length_of(early_stop=STOP)
    ended(first, [1.0] * 4)
    assert first.num_iterations == 25
    longer = length_of(10, early_stop=STOP, extension=Extension(after_epochs=5))
    longer.restore(first.state())
    assert longer.num_iterations == 50
    assert [longer.tail_at(iteration) for iteration in (24, 25)] == [first.tail, (25, 50, 0.1 * 0.1, 0.001 * 0.1)]


def test_the_length_of_a_training_is_read_from_plan_and_checkpoint():
    training, length = training_of(20, 5, early_stop=STOP), length_of(early_stop=STOP)
    assert num_iterations(training, None) == num_iterations(training, length.state()) == 100
    ended(length, [1.0] * 4)
    assert num_iterations(training, length.state()) == 25


def test_the_length_of_a_training_is_read_from_plan_and_log():
    training = training_of(20, 5, early_stop=STOP)
    assert logged_num_iterations(training, None) == 100
    assert logged_num_iterations(training, 25) == 25
    assert logged_num_iterations(training.changed(extension=Extension(after_epochs=5)), 25) == 100


@pytest.mark.parametrize("settled_at", [0, 9])
@pytest.mark.parametrize("stop_at", range(1, 8))
def test_a_length_goes_on_from_its_state(stop_at, settled_at):
    losses = [1.0, 0.8, 0.5, 0.5, 0.45, 0.48, 0.5, 0.5, 0.5]
    stop = EarlyStop(patience=0.05)
    whole, first, second = (length_of(40, settled_at=settled_at, early_stop=stop) for _ in range(3))
    for length, epochs in ((whole, range(9)), (first, range(stop_at))):
        for epoch in epochs:
            length.end_epoch(5 * (epoch + 1), losses[epoch], lr=0.1)
    second.restore(first.state())
    for epoch in range(stop_at, 9):
        second.end_epoch(5 * (epoch + 1), losses[epoch], lr=0.1)
    assert second.state() == whole.state()
    assert whole.tail is not None


def test_a_schedule_that_anneals_is_left_to_it():
    training = training_of(20, 5, early_stop=EarlyStop(patience=0.25, anneal_fraction=0.05))
    for fraction, is_left in ((0.9, True), (0.2, False)):
        schedule = PlateauSchedule(anneal_fraction=fraction, patience=1)
        optimisation = learner_of(configuration_of(2, schedule=schedule), training).optimisation
        found = [optimisation.end_epoch(5 * epoch, 1.0) for epoch in range(1, 20)]
        assert (found == [None] * 19) == is_left


class Kept:
    """Logs, learning rates and checkpoints of a training that stalls."""

    def __init__(self, path, training, stop_at=None, schedule=None):
        self.path, self.stop_at, self.logs, self.lrs = path, stop_at, [], []
        configuration = configuration_of(2, optimizer=STANDING, schedule=schedule or ConstantSchedule())
        self.fit = fit_of(
            configuration,
            training,
            ALIKE,
            should_stop=lambda: self.fit.progress.iteration == stop_at,
            on_iteration=lambda *_: self.lrs.append(self.fit.learner.optimisation.optimizer.param_groups[0]["lr"]),
            on_epoch=lambda log, state, _: (
                self.logs.append((log.iteration, log.lr, log.train_loss)),
                self.keep(state),
            ),
            on_stop=self.keep,
        )

    def keep(self, state):
        save_checkpoint(self.path, state)


STALLING = training_of(10, 2, validation_iterations=1, early_stop=STOP)


@pytest.fixture(scope="module")
def stalled(tmp_path_factory):
    kept = Kept(tmp_path_factory.mktemp("whole") / "latest.ckpt", STALLING)
    assert kept.fit.run()
    return kept


def test_a_training_that_stalls_ends_sooner_at_almost_no_lr(stalled):
    # Compared after two epochs of ten, and ended within a further one.
    assert [iteration for iteration, *_ in stalled.logs] == [2, 4, 6]
    assert stalled.lrs == pytest.approx([1e-9] * 4 + [0.505e-9, 0.01e-9])
    assert [lr for _, lr, _ in stalled.logs] == pytest.approx([1e-9, 1e-9, 0.01e-9])
    assert stalled.fit.num_iterations == 6
    state = load_checkpoint(stalled.path)
    assert num_iterations(STALLING, state["length"]) == state["progress"]["iteration"] == 6


@pytest.mark.parametrize("stop_at", [2, 4, 5])
def test_a_training_that_ends_sooner_goes_on_bit_for_bit(stalled, tmp_path, stop_at):
    first, second = (Kept(tmp_path / "a.ckpt", STALLING, stop_at=at) for at in (stop_at, None))
    assert not first.fit.run()
    second.fit.restore(load_checkpoint(tmp_path / "a.ckpt"))
    assert second.fit.run()
    assert first.logs + second.logs == stalled.logs
    assert first.lrs + second.lrs == stalled.lrs
    assert torch.equal(weights_of(second.fit.learner), weights_of(stalled.fit.learner))


@pytest.mark.parametrize("stop_at", [5, 7])
def test_a_training_that_was_made_longer_goes_on_bit_for_bit(tmp_path, stop_at):
    longer = training_of(4, 2, validation_iterations=1, extension=Extension(after_epochs=2))
    kept = Kept(tmp_path / "end.ckpt", training_of(2, 2, validation_iterations=1), schedule=PlateauSchedule())
    assert kept.fit.run()
    whole, first, second = (
        Kept(tmp_path / f"{name}.ckpt", longer, stop_at=at, schedule=PlateauSchedule())
        for name, at in (("whole", None), ("parts", stop_at), ("parts", None))
    )
    for one, path in ((whole, kept.path), (first, kept.path), (second, first.path)):
        if path.is_file():
            one.fit.restore(load_checkpoint(path))
        one.fit.run()
        assert one.fit.progress.iteration == (one.stop_at or 8)
    assert whole.lrs == first.lrs + second.lrs
    assert whole.lrs[-1] == pytest.approx(0.001e-9)
    assert all(one > other for one, other in itertools.pairwise([0.1e-9, *whole.lrs]))
    assert torch.equal(weights_of(whole.fit.learner), weights_of(second.fit.learner))


def test_a_loss_that_follows_the_training_is_at_its_end_when_it_ends_sooner():
    spec: LossSpec = configuration_of(2).loss
    first, second = spec.components
    rising = first.model_copy(update={"weight": LinearSchedule(start=0, end=1)})
    configuration = configuration_of(
        2,
        optimizer=STANDING,
        schedule=ConstantSchedule(),
        loss=spec.model_copy(update={"components": (rising, second)}),
    )
    weights = []
    fit = fit_of(configuration, STALLING, ALIKE, on_epoch=lambda log, *_: weights.append(log.loss_weights["dice"]))
    fit.run()
    assert weights == pytest.approx([1 / 20, 3 / 20, 4 / 20 + 16 / 20 / 2])
