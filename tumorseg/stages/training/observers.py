"""Observers of a training that keep its files and tell the user how it goes."""

import logging
import math
from typing import Any

from tumorseg.engine.observers import Observer, Step
from tumorseg.reports.figures import progress_png
from tumorseg.schema.logs import EpochLog
from tumorseg.schema.training import Training
from tumorseg.storage.atomic import write_bytes
from tumorseg.storage.checkpoints import save_checkpoint
from tumorseg.storage.layout import FoldFolder
from tumorseg.tracking.epochs import append_epoch, read_epochs
from tumorseg.tracking.progress import Advance

logger = logging.getLogger(__name__)


class StepBar(Observer):
    """Moves a progress bar with every step."""

    def __init__(self, advance: Advance, training: Training) -> None:
        self._advance, self._training = advance, training

    def on_step(self, step: Step) -> None:
        """Show epoch and loss."""
        epoch = step.iteration // self._training.iterations_per_epoch + 1
        self._advance(f"epoch {epoch}/{self._training.epochs}, loss {step.result.total:.3f}")


class LogFile(Observer):
    """Keeps the log of epochs, and its picture unless that would take longer than epochs do."""

    def __init__(self, folder: FoldFolder, *, draws: bool = True) -> None:
        self._folder, self._draws = folder, draws

    def on_epoch(self, log: EpochLog, state: dict[str, Any], is_best: bool) -> None:
        """Add an epoch, and draw all so far."""
        append_epoch(self._folder.log, log)
        if self._draws:
            write_bytes(self._folder.progress, progress_png(read_epochs(self._folder.log)))


class Checkpoints(Observer):
    """Keeps the best weights and the latest state. To be the last observer, as the latest state makes an epoch count."""

    def __init__(self, folder: FoldFolder) -> None:
        self._folder = folder

    def on_epoch(self, log: EpochLog, state: dict[str, Any], is_best: bool) -> None:
        """Save an epoch's state."""
        if is_best:
            save_checkpoint(self._folder.best, {"network": state["network"], "iteration": log.iteration})
        save_checkpoint(self._folder.latest, state)

    def on_stop(self, state: dict[str, Any]) -> None:
        """Save the state in the middle of an epoch."""
        save_checkpoint(self._folder.latest, state)


class StopCheckpoint(Observer):
    """Keeps the state with which a training stops or ends, for one that is stopped often and has many short epochs."""

    def __init__(self, folder: FoldFolder, num_iterations: int) -> None:
        self._folder, self._num_iterations = folder, num_iterations

    def on_epoch(self, log: EpochLog, state: dict[str, Any], is_best: bool) -> None:
        """Save the state of the planned end."""
        if log.iteration == self._num_iterations:
            save_checkpoint(self._folder.latest, state)

    def on_stop(self, state: dict[str, Any]) -> None:
        """Save the state of any other end."""
        save_checkpoint(self._folder.latest, state)


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
