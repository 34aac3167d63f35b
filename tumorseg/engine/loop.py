"""The fit loop: it only sequences."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import Any

from tumorseg.engine.batches import TRAINING, VALIDATION
from tumorseg.engine.faults import Action, Outcome, decide, describe_fault
from tumorseg.engine.feed import Feeds, Place
from tumorseg.engine.learner import Learner
from tumorseg.engine.observers import Observer, Step
from tumorseg.engine.patch_feed import FeedBatch
from tumorseg.engine.progress import Progress
from tumorseg.engine.stopwatch import EpochClock
from tumorseg.engine.validation import validate
from tumorseg.errors import TrainingError
from tumorseg.schema.logs import EpochLog
from tumorseg.schema.training import Training


def _never() -> bool:
    return False


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
    progress: Progress = field(default_factory=Progress)
    _clock: EpochClock = field(default_factory=EpochClock)

    @property
    def num_iterations(self) -> int:
        """Return the planned number of steps."""
        return self.training.epochs * self.training.iterations_per_epoch

    def state(self) -> dict[str, Any]:
        """Return everything that a resumed training needs."""
        return self.learner.state() | {"progress": vars(self.progress).copy()}

    def restore(self, state: dict[str, Any]) -> None:
        """Take up a state."""
        self.learner.restore(state)
        self.progress = Progress(**state["progress"])

    def run(self) -> bool:
        """Train to the planned end.

        Returns:
            Whether the end was reached; False if told to stop.

        Raises:
            TrainingError: loss or gradient are not finite time after time.
        """
        self._clock.begin()
        # Over the ends of epochs: while held-out batches are looked at, those of the next epoch are read.
        with closing(self.feeds.batches(self._places())) as batches:
            while self.progress.iteration < self.num_iterations:
                if not self._run_epoch(batches):
                    # Before the readers are waited for, which may take longer than there is left.
                    state = self.state()
                    for observer in self.observers:
                        observer.on_stop(state)
                    return False
        return True

    def _places(self) -> Iterator[Place]:
        """Yield the batches from here to the planned end, held-out ones after each epoch."""
        num_held_out = 0 if self.feeds.validation is None else self.training.validation_iterations
        for number in range(self.progress.iteration, self.num_iterations):
            yield Place(TRAINING, number)
            if (number + 1) % self.training.iterations_per_epoch == 0:
                for held_out in range(num_held_out):
                    yield Place(VALIDATION, held_out)

    def _run_epoch(self, batches: Iterator[FeedBatch]) -> bool:
        """Train to the end of the present epoch, and validate; False if told to stop before the training's end."""
        length = self.training.iterations_per_epoch
        # A resumed training may begin in the middle of an epoch.
        epoch, num_done = divmod(self.progress.iteration, length)
        for batch in islice(batches, length - num_done):
            with self._clock.part("step"):
                result = self.learner.step(batch.inputs, batch.number)
            self._end_step(Step(batch.number, batch.case_ids, result))
            # At the end of an epoch there is more to do first.
            if self.progress.iteration % length and self._is_told_to_stop():
                return False
        self._end_epoch(epoch, batches)
        # Told to stop after its last step, a training has reached its end all the same.
        return not self._is_told_to_stop() or self.progress.iteration >= self.num_iterations

    def _is_told_to_stop(self) -> bool:
        """Ask all processes, so that none waits for one that has stopped."""
        return self.learner.ranks.any(self.should_stop())

    def _end_step(self, step: Step) -> None:
        """Count a step, report it, and end the training if too much went wrong."""
        progress = self.progress
        progress.add(step.result)
        outcome = Outcome(
            has_stepped=step.result.has_stepped,
            num_skipped=progress.skipped,
            num_planned=self.num_iterations,
            ends_epoch=progress.iteration % self.training.iterations_per_epoch == 0,
            has_finite_loss=bool(progress.losses),
        )
        action = decide(outcome)
        if action is not Action.GO_ON:
            for observer in self.observers:
                observer.on_fault(step)
        if action is Action.STOP:
            raise self._error(step)
        for observer in self.observers:
            observer.on_step(step)

    def _error(self, step: Step) -> TrainingError:
        is_fp16 = self.learner.execution.precision == "fp16"
        remedy = ", or training.precision.cuda=bf16 or fp32" if is_fp16 else ""
        return TrainingError(
            f"{describe_fault(step.result.total)} at iteration {step.iteration} on cases {', '.join(step.case_ids)} (steps in a row "
            f"that were not taken: {self.progress.skipped}); look at these cases for extreme intensities, or set a lower "
            f"optimizer.lr{remedy}; earlier checkpoints are untouched"
        )

    def _end_epoch(self, epoch: int, batches: Iterator[FeedBatch]) -> None:
        learner, progress, means = self.learner, self.progress, self.progress.means()
        # Both as they were in the epoch's last step, before anything follows from the epoch.
        lr, weights = learner.optimisation.schedule.lr(progress.iteration - 1), learner.loss.weights()
        # Of one process: what rounding tells apart must not have two learning rates.
        watched = learner.ranks.of_first(learner.loss.reference_loss(means.components))
        learner.optimisation.schedule.end_epoch(watched)
        has_held_out = self.feeds.validation is not None
        own = islice(batches, self.training.validation_iterations) if has_held_out else None
        with self._clock.part("validation"):
            held_out = validate(learner, own, iteration=progress.iteration)
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
            memory_bytes=learner.peak_memory_bytes(),
            ended_at=time.time(),
            seconds_by_part=seconds,
        )
        # Rounding that differs by processor would drive the processes apart, if nobody called them together.
        kept = (learner.network, learner.loss.weighting)
        learner.ranks.follow_first(chain.from_iterable((*one.parameters(), *one.buffers()) for one in kept))
        state = self.state()
        for observer in self.observers:
            observer.on_epoch(log, state, is_best)
