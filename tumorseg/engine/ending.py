"""Where a training ends: as planned, sooner because its loss has stalled, or later because more epochs were asked for.

A schedule is never cut: a training that ends sooner or later than planned does so in a tail, in which the lr falls
linearly to almost nothing.
"""

import math
from typing import Any, NamedTuple

from tumorseg.engine.stalls import StallWatch
from tumorseg.schema.training import EarlyStop, Training


class Tail(NamedTuple):
    """Last steps of a training."""

    start: int
    """First step, from 0."""
    end: int
    """Steps of the whole training."""
    lr_from: float
    """What the lr falls from; the first step is one part below it."""
    lr_to: float
    """The last step's lr."""

    def lr(self, iteration: int) -> float:
        """Return the learning rate of a step."""
        done = (iteration - self.start + 1) / (self.end - self.start)
        return self.lr_from + (self.lr_to - self.lr_from) * min(done, 1.0)


class Length:
    """The length of a training, and how far along a step is."""

    def __init__(self, training: Training, base_lr: float, *, settled_at: int = 0) -> None:
        """Begin as planned.

        Args:
            training: its length, and what may change it.
            base_lr: the optimizer's.
            settled_at: first step with the lr and the parameters that are planned for good; losses before it do not matter.
        """
        self._per_epoch, self._stop = training.iterations_per_epoch, training.early_stop
        self.num_planned = training.planned_epochs * self._per_epoch
        """Steps over which schedule and loss are spread; an extension comes after them."""
        self.tail: Tail | None = None
        """That of an early stop."""
        self._extension = _extension(training, base_lr)
        self._watch: StallWatch | None = None
        # Whole epochs, as an epoch has one loss.
        self._num_unwatched = -(-settled_at // self._per_epoch)
        # What was made longer had reached its end, sooner or not: that is not to be undone.
        if self._stop is not None and self._extension is None:
            patience, threshold = self._stop.patience, self._stop.threshold
            self._watch = StallWatch(patience=patience, threshold=threshold, epochs=training.epochs)

    @property
    def num_iterations(self) -> int:
        """Return the steps of the whole training, as it is known now."""
        last = self._extension or self.tail
        return self.num_planned if last is None else last.end

    def tail_at(self, iteration: int) -> Tail | None:
        """Return the tail that a step is in."""
        for tail in (self._extension, self.tail):
            if tail is not None and iteration >= tail.start:
                return tail
        return None

    def progress(self, iteration: int) -> float:
        """Return how far along a step is for a loss that changes with it: it reaches 1 at the first end, and stays there."""
        planned = min(iteration / self.num_planned, 1.0)
        tail = self.tail_at(iteration)
        if tail is None or tail is self._extension:
            return planned
        begun = tail.start / self.num_planned
        return begun + (1 - begun) * (iteration - tail.start) / (tail.end - tail.start)

    def end_epoch(self, iteration: int, train_loss: float, *, lr: float) -> Tail | None:
        """Look at an epoch's mean training loss; return the tail that begins if it has stalled.

        Args:
            iteration: steps so far.
            train_loss: the epoch's; held-out cases shape nothing.
            lr: of the epoch's last step.
        """
        if self._stop is None or self._watch is None or self.tail is not None:
            return None
        epochs = iteration // self._per_epoch
        if epochs <= self._num_unwatched or not self._watch.has_stalled(epochs - self._num_unwatched, train_loss):
            return None
        end = _end_of_tail(self._stop, epochs) * self._per_epoch
        # Where the plan's own end is as near, it stays.
        if end >= self.num_planned:
            return None
        self.tail = Tail(iteration, end, lr, self._stop.anneal_to * lr)
        return self.tail

    def state(self) -> dict[str, Any]:
        """Return what has to be kept, in plain values."""
        tail = None if self.tail is None else self.tail._asdict()
        return {"tail": tail, "watch": None if self._watch is None else self._watch.state()}

    def restore(self, state: dict[str, Any]) -> None:
        """Take up what was kept."""
        self.tail = None if state["tail"] is None else Tail(**state["tail"])
        # What was kept before the training was made longer is of no use since.
        if self._watch is not None:
            self._watch.restore(state["watch"])


def num_iterations(training: Training, length: dict[str, Any] | None) -> int:
    """Return the steps of a whole training from its plan and what its checkpoint kept of a `Length`; None for nothing."""
    found = Length(training, 1.0)
    if length is not None:
        found.restore(length)
    return found.num_iterations


def logged_num_iterations(training: Training, logged: int | None) -> int:
    """Return the steps of a whole training from its plan and the latest line of its log, as `num_iterations` does without a checkpoint.

    Args:
        training: the plan's.
        logged: what the line says of the whole training, if there is a line that does.
    """
    # A line from before the training was made longer knows nothing of it.
    if logged is None or training.extension is not None:
        return training.epochs * training.iterations_per_epoch
    return logged


def _end_of_tail(stop: EarlyStop, epochs: int) -> int:
    """Return the epochs of a training that begins to end now."""
    return epochs + max(1, math.ceil(stop.anneal_fraction * epochs - 1e-9))


def _extension(training: Training, base_lr: float) -> Tail | None:
    extension, length = training.extension, training.iterations_per_epoch
    if extension is None:
        return None
    start, end = extension.after_epochs * length, training.epochs * length
    return Tail(start, end, extension.lr_from * base_lr, extension.lr_to * base_lr)
