"""Observers of a training that keep its files and tell the user how it goes."""

import logging
import math
import time
from pathlib import Path
from typing import Any

from tumorseg.engine.ending import Length
from tumorseg.engine.observers import Observer, Step
from tumorseg.errors import StorageError
from tumorseg.reports.progress_figure import progress_png
from tumorseg.schema.logs import EpochLog, TrainingEvent
from tumorseg.schema.training import Training
from tumorseg.storage.atomic import write_bytes
from tumorseg.storage.checkpoints import NETWORK, save_checkpoint
from tumorseg.storage.layout import FoldFolder
from tumorseg.storage.weight_files import ITERATION, OWN_NAME, WRITER
from tumorseg.tracking.epoch_lines import Bests, epoch_line
from tumorseg.tracking.epochs import append_epoch, read_epochs
from tumorseg.tracking.events import read_events
from tumorseg.tracking.pace import Pace
from tumorseg.tracking.progress import Advance

logger = logging.getLogger(__name__)

DRAW_EVERY_S = 20.0
"""Least time between two pictures."""
DRAWING_SHARE = 0.02
"""Most of the time that may go into them."""


class StepBar(Observer):
    """Moves a progress bar with every step. To be the first observer, as others ask the pace where the end is."""

    def __init__(self, advance: Advance, pace: Pace, *, length: Length, iterations_per_epoch: int) -> None:
        # Not the fit itself, which has its observers: a circle would keep a network's memory after its training.
        self._advance, self._pace, self._length, self._per_epoch = advance, pace, length, iterations_per_epoch

    def on_step(self, step: Step) -> None:
        """Show epoch and loss."""
        epoch, num_epochs = step.iteration // self._per_epoch + 1, self._pace.total // self._per_epoch
        self._advance(f"epoch {epoch}/{num_epochs}, loss {step.result.total:.3f}")

    def on_event(self, event: TrainingEvent) -> None:
        """Move the end to where it is now, should the event have moved it."""
        self._pace.total = self._length.num_iterations


class LogFile(Observer):
    """Keeps the log of epochs, and its picture unless that would take longer than epochs do."""

    def __init__(self, folder: FoldFolder, *, draws: bool = True, pace: Pace | None = None) -> None:
        """Begin to keep them.

        Args:
            folder: of the training.
            draws: whether there is a picture.
            pace: knows the planned end, which the picture tells if it is given.
        """
        self._folder, self._draws, self._pace = folder, draws, pace
        self._next_s, self._is_behind = 0.0, False

    def on_epoch(self, log: EpochLog, state: dict[str, Any], is_best: bool) -> None:
        """Add an epoch, and draw all so far, unless that was done a moment ago."""
        append_epoch(self._folder.log, log)
        self._is_behind = True
        if time.monotonic() >= self._next_s:
            self.draw()

    def draw(self) -> None:
        """Draw what has been logged since the last time; to be called once more when the training has ended, however it did."""
        if not self._draws or not self._is_behind:
            return
        started = time.monotonic()
        try:
            write_bytes(self._folder.progress, self._picture())
        except StorageError as error:
            # A full disk ends the training elsewhere, with a word on what is kept.
            logger.warning("the picture cannot be drawn: %s", error)
        self._is_behind, ended = False, time.monotonic()
        self._next_s = ended + max(DRAW_EVERY_S, (ended - started) / DRAWING_SHARE)

    def _picture(self) -> bytes:
        epochs = read_epochs(self._folder.log)
        events = [event.model_dump() for event in read_events(self._folder.events)]
        num_epochs = None
        if self._pace is not None and epochs:
            num_epochs = self._pace.total // (epochs[-1]["iteration"] // (epochs[-1]["epoch"] + 1))
        return progress_png(epochs, events=events, num_epochs=num_epochs)


class EpochLines(Observer):
    """Tells of every epoch in a line."""

    def __init__(self, bests: Bests, pace: Pace, training: Training) -> None:
        self._bests, self._pace, self._training = bests, pace, training

    def on_epoch(self, log: EpochLog, state: dict[str, Any], is_best: bool) -> None:
        """Compare an epoch with the best so far."""
        self._bests.add(log.train_loss, log.dsc)
        num_epochs = self._pace.total // self._training.iterations_per_epoch
        logger.info("%s", epoch_line(log, self._bests, num_epochs=num_epochs, left=self._pace.text()))


class Checkpoints(Observer):
    """Keeps the best weights and the latest state. To be the last observer, as the latest state makes an epoch count."""

    def __init__(self, folder: FoldFolder) -> None:
        self._folder = folder

    def on_epoch(self, log: EpochLog, state: dict[str, Any], is_best: bool) -> None:
        """Save an epoch's state."""
        if is_best:
            _save(self._folder.best, {NETWORK: state[NETWORK], ITERATION: log.iteration})
        _save(self._folder.latest, state)

    def on_stop(self, state: dict[str, Any]) -> None:
        """Save the state in the middle of an epoch."""
        _save(self._folder.latest, state)


class StopCheckpoint(Observer):
    """Keeps the state with which a training stops or ends, for one that is stopped often and has many short epochs."""

    def __init__(self, folder: FoldFolder, num_iterations: int) -> None:
        self._folder, self._num_iterations = folder, num_iterations

    def on_epoch(self, log: EpochLog, state: dict[str, Any], is_best: bool) -> None:
        """Save the state of the planned end."""
        if log.iteration == self._num_iterations:
            _save(self._folder.latest, state)

    def on_stop(self, state: dict[str, Any]) -> None:
        """Save the state of any other end."""
        _save(self._folder.latest, state)


def _save(path: Path, state: dict[str, Any]) -> None:
    # Marked, so that a copy that lies in no model's folder is not taken for another program's, whose axes may lie otherwise.
    save_checkpoint(path, state | {WRITER: OWN_NAME})


class Messages(Observer):
    """Reports steps that were left out, and epochs."""

    def on_fault(self, step: Step) -> None:
        """Name the cases whose loss is not finite; a gradient alone that is not is everyday life of a gradient scaler."""
        loss, iteration = step.result.total, step.iteration
        if math.isfinite(loss):
            logger.debug("iteration %d: step not taken, as the gradient is not finite", iteration)
        else:
            cases = ", ".join(step.case_ids)
            logger.warning("iteration %d: step not taken, as the loss became %s on cases %s", iteration, loss, cases)

    def on_epoch(self, log: EpochLog, state: dict[str, Any], is_best: bool) -> None:
        """Report loss and DSC."""
        logger.debug("epoch %d: loss %.4f, dsc %s", log.epoch, log.train_loss, log.dsc)
