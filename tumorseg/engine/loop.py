"""The fit loop: it only sequences."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import wait
from contextlib import closing
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import Any

from tumorseg.engine.batches import TRAINING, VALIDATION
from tumorseg.engine.collapse import CollapseWatch
from tumorseg.engine.execution import peak_memory_bytes
from tumorseg.engine.feed import Begun, Feeds, Place
from tumorseg.engine.learner import Learner
from tumorseg.engine.observers import Observer, Step
from tumorseg.engine.patch_feed import FeedBatch
from tumorseg.engine.progress import Progress
from tumorseg.engine.ranks import Ranks
from tumorseg.engine.reports import Reports
from tumorseg.engine.stopwatch import EpochClock
from tumorseg.engine.validation import validate
from tumorseg.schema.logs import EpochLog
from tumorseg.schema.training import Training

POLL_S = 0.5
"""How long a batch is waited for before it is asked whether to go on waiting."""


class _Leaving(Exception):  # noqa: N818 (a way out)
    """A process is to leave where batches are waited for."""


def _never() -> bool:
    return False


def _awaited(begun: Iterable[Begun], ranks: Ranks, should_leave: Callable[[], bool]) -> Iterator[FeedBatch]:
    """Yield batches as they are ready; leave, all processes alike, if one of them is to."""
    for one in begun:
        is_leaving = should_leave()
        while not is_leaving and wait(one.futures, POLL_S).not_done:
            is_leaving = should_leave()
        if ranks.any(is_leaving):
            raise _Leaving
        yield one.finish()


@dataclass
class Fit:
    """One training of a configuration on cases."""

    learner: Learner
    training: Training
    feeds: Feeds
    observers: Sequence[Observer] = ()
    """Called in their order."""
    should_stop: Callable[[], bool] = _never
    """Asked after each step."""
    should_leave: Callable[[], bool] = _never
    """Asked before each batch, held-out ones too, and while it is waited for."""
    num_restarts_left: int = 0
    """How often it may begin again with another seed."""
    progress: Progress = field(default_factory=Progress)
    _clock: EpochClock = field(default_factory=EpochClock)
    _collapse: CollapseWatch = field(init=False)
    _reports: Reports = field(init=False)

    def __post_init__(self) -> None:
        """Decide when to look whether each label is found."""
        self._collapse = CollapseWatch(self.learner.targets, self.training, self.learner.optimisation.length)

    @property
    def num_iterations(self) -> int:
        """Return the number of steps of the whole training, as it is known now: a stalled loss makes it smaller."""
        return self.learner.optimisation.length.num_iterations

    @property
    def num_epochs_done(self) -> int:
        """Return the epochs that have come to their end, held-out batches included."""
        return self.progress.iteration // self.training.iterations_per_epoch - int(self.awaits_end)

    def state(self) -> dict[str, Any]:
        """Return everything that a resumed training needs."""
        self._collapse.keep(self.progress.seen)
        return self.learner.state() | {"progress": vars(self.progress).copy()}

    def restore(self, state: dict[str, Any]) -> None:
        """Take up a state."""
        self.learner.restore(state)
        self.progress = Progress(**state["progress"])
        self.learner.division.resume(self.progress.division)

    def run(self) -> bool:
        """Train to the planned end.

        Returns:
            Whether the end was reached; False if told to stop.

        Raises:
            TrainingError: loss or gradient are not finite time after time, or memory runs out.
            Collapsed: it is to begin again with another seed.
        """
        self._clock.begin()
        self.progress.seed = self.training.seed
        self._reports = Reports(self.learner, self.training.iterations_per_epoch, self.observers, self.progress)
        # Over the ends of epochs: while held-out batches are looked at, those of the next epoch are read.
        with closing(self.feeds.begun(_places(self))) as begun:
            is_over = self._run_epochs(_awaited(begun, self.learner.ranks, self.should_leave))
            if not is_over and self.progress.iteration:
                # Before the readers are waited for, which may take longer than there is left.
                state = self.state()
                for observer in self.observers:
                    observer.on_stop(state)
        return is_over

    def _run_epochs(self, batches: Iterator[FeedBatch]) -> bool:
        """Train to the planned end; False if told to stop before it."""
        try:
            while self.progress.iteration < self.num_iterations or self.awaits_end:
                if not self._run_epoch(batches):
                    return False
        except _Leaving:
            return False
        return True

    @property
    def awaits_end(self) -> bool:
        """Return whether an epoch's steps are done, and the rest of it is not."""
        return self.progress.awaits_end(self.training.iterations_per_epoch)

    def _run_epoch(self, batches: Iterator[FeedBatch]) -> bool:
        """Train to the end of the present epoch, and validate; False if told to stop before the training's end."""
        length = self.training.iterations_per_epoch
        # A resumed training may begin in the middle of an epoch, or after its last step.
        num_left = 0 if self.awaits_end else length - self.progress.iteration % length
        for batch in islice(batches, num_left):
            self.learner.tally = self._collapse.tally(batch.number)
            with self._clock.part("step"):
                result = self.learner.step(batch.inputs, batch.number)
            self._reports.end_step(Step(batch.number, batch.case_ids, result, batch.inputs))
            # At the end of an epoch there is more to do first.
            if self.progress.iteration % length and self._is_told_to_stop():
                return False
        if num_left:
            self._collapse.keep(self.progress.seen)
            names = self._collapse.lost_names(self.progress.iteration, self.progress.seen)
            self._reports.judge_labels(names, self.num_restarts_left)
        self._end_epoch((self.progress.iteration - 1) // length, batches)
        # Told to stop after its last step, a training has reached its end all the same.
        return not self._is_told_to_stop() or self.progress.iteration >= self.num_iterations

    def _is_told_to_stop(self) -> bool:
        """Ask all processes, so that none waits for one that has stopped."""
        return self.learner.ranks.any(self.should_stop())

    def _end_epoch(self, epoch: int, batches: Iterator[FeedBatch]) -> None:
        learner, progress, means = self.learner, self.progress, self.progress.means()
        num_skipped = progress.skipped_in_epoch
        # Both as they were in the epoch's last step, before anything follows from the epoch.
        lr, weights = learner.optimisation.lr(progress.iteration - 1), learner.loss.weights()
        # Of one process: what rounding tells apart must not have two learning rates.
        watched = learner.ranks.of_first(learner.loss.reference_loss(means.components))
        has_held_out = self.feeds.validation is not None
        own = islice(batches, self.training.validation_iterations) if has_held_out else None
        with self._clock.part("validation"):
            held_out = validate(learner, own, iteration=progress.iteration)
        # Not before: one that leaves among held-out batches comes back to them with the state of the epoch's last step.
        if (tail := learner.optimisation.end_epoch(progress.iteration, watched)) is not None:
            self._reports.tell(
                "ends_early",
                f"the training loss has stalled: the lr falls to {tail.lr_to:.3g}, and the training ends at iteration {tail.end}",
            )
        learner.loss.weighting.end_epoch()
        is_best = progress.end_epoch(watched, held_out.dsc if has_held_out else None)
        seconds = self._clock.lap(self.feeds.training.reader.stopwatch)
        log = EpochLog(
            epoch=epoch,
            iteration=progress.iteration,
            train_loss=means.loss,
            train_losses=means.components,
            loss_weights=weights,
            validation_loss=held_out.loss,
            dsc=held_out.dsc,
            lr=lr,
            seconds=seconds.step + seconds.waiting + seconds.validation,
            data_wait_fraction=seconds.waiting / (seconds.step + seconds.waiting),
            memory_bytes=peak_memory_bytes(learner.device),
            num_skipped=num_skipped,
            num_parts=learner.division.num_parts,
            num_iterations=self.num_iterations,
            ended_at=time.time(),
            seconds_by_part=seconds,
        )
        _follow_first(learner)
        state = self.state()
        for observer in self.observers:
            observer.on_epoch(log, state, is_best)


def _places(fit: Fit) -> Iterator[Place]:
    """Yield the batches from where a training stands to its planned end, held-out ones after each epoch."""
    num_held_out = 0 if fit.feeds.validation is None else fit.training.validation_iterations
    for held_out in range(num_held_out if fit.awaits_end else 0):
        yield Place(VALIDATION, held_out)
    for number in range(fit.progress.iteration, fit.num_iterations):
        yield Place(TRAINING, number)
        if (number + 1) % fit.training.iterations_per_epoch == 0:
            for held_out in range(num_held_out):
                yield Place(VALIDATION, held_out)


def _follow_first(learner: Learner) -> None:
    """Have all processes go on with what the first one has."""
    # Rounding that differs by processor would drive the processes apart, if nobody called them together.
    hints = None if learner.teaching is None else learner.teaching.hints
    ways = () if hints is None else (hints.way,)
    kept = dict.fromkeys((learner.network, learner.predictor, learner.loss.weighting, *ways))
    learner.ranks.follow_first(chain.from_iterable((*one.parameters(), *one.buffers()) for one in kept))
