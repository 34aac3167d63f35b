"""Observers of a training that keep what went wrong in it."""

import logging

from pydantic import JsonValue

from tumorseg.engine.observers import Observer, Step
from tumorseg.errors import StorageError
from tumorseg.schema.logs import TrainingEvent
from tumorseg.storage.fault_files import keep_batch
from tumorseg.storage.layout import FoldFolder
from tumorseg.tracking.events import append_event

logger = logging.getLogger(__name__)


class EventFile(Observer):
    """Keeps and tells what befell the training."""

    def __init__(self, folder: FoldFolder) -> None:
        self._folder = folder

    def on_event(self, event: TrainingEvent) -> None:
        """Add an event; a step that was left out is told elsewhere."""
        append_event(self._folder.events, event)
        if event.kind != "skipped":
            logger.warning("iteration %d: %s", event.iteration, event.message)


class FaultyBatches(Observer):
    """Keeps batches whose loss was not finite."""

    def __init__(self, folder: FoldFolder) -> None:
        self._folder = folder

    def on_fault(self, step: Step) -> None:
        """Keep a batch, so that images and references can be looked at as the network saw them."""
        if step.inputs is None:
            return
        inputs = step.inputs
        arrays = {"images": inputs.images.cpu().numpy(), "segmentations": inputs.segmentations.cpu().numpy()}
        facts: dict[str, JsonValue] = {
            "iteration": step.iteration,
            "case_ids": list(step.case_ids),
            "loss": str(step.result.total),
        }
        try:
            path = keep_batch(self._folder.faults, step.iteration, arrays, facts)
        except StorageError as error:
            # It helps to find the cause; the training does not need it.
            logger.warning("the batch cannot be kept: %s", error)
        else:
            logger.warning("iteration %d: what went in is kept in %s", step.iteration, path)
