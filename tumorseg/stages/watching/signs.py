"""Signs of life of a training, written from a thread of their own; whether they can be written is nothing to the training."""

import logging
import math
import os
import platform
import threading
import time
from types import TracebackType
from typing import Any, Self

from tumorseg.engine.observers import Observer, Step
from tumorseg.errors import Stopped, StorageError, TumorsegError
from tumorseg.schema.alive import ENDS, Phase, Process, SignOfLife
from tumorseg.schema.logs import EpochLog
from tumorseg.storage.json_files import write_record
from tumorseg.storage.layout import FoldFolder
from tumorseg.tracking.epoch_lines import Bests
from tumorseg.tracking.pace import Pace
from tumorseg.workers.machine import machine_identity, started_ticks

logger = logging.getLogger(__name__)

BEAT_S = 5.0
"""Between two signs of life."""
PATIENCE_S = 10.0
"""How long an end waits for its last sign, which a disk may hold up."""
LONGEST = 300
"""Characters of a message."""


class Signs(Observer):
    """Rewrites `alive.json` within a `with` block, and tells in it how the block ended."""

    def __init__(self, folder: FoldFolder, *, has_validation: bool, beat_s: float = BEAT_S) -> None:
        """Describe this process.

        Args:
            folder: of the training, which no other process trains now.
            has_validation: whether held-out cases are scored in the end.
            beat_s: seconds between two signs.
        """
        self._folder, self._beat_s = folder, beat_s
        self._bests, self._pace, self._epoch_length = Bests(), Pace(0), 1
        now = time.time()
        self._process = Process(
            host=platform.node(),
            process_id=os.getpid(),
            started_ticks=started_ticks(os.getpid()),
            machine=machine_identity(),
        )
        self._told: dict[str, Any] = {
            "phase": "preparing",
            "began_at": now,
            "moved_at": now,
            "has_validation": has_validation,
        }
        self._num_beats, self._has_warned = 0, False
        self._is_due, self._is_over = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._beat, name="signs of life", daemon=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is not None:
            self.enter(*_end_by(error))
        self._end()

    def fail(self, message: str) -> None:
        """Give the last sign of a process that ends in a moment, from whichever thread; nothing if it was given."""
        if not self._is_over.is_set():
            self.enter("failed", message)
            self._end()

    def _end(self) -> None:
        self._is_over.set()
        self._is_due.set()
        if self._thread.is_alive():
            # Whatever holds up the last sign does not hold up the training's end.
            self._thread.join(PATIENCE_S)

    def enter(self, phase: Phase, message: str = "") -> None:
        """Begin another phase, or tell how it ended; signs are given from the first one on."""
        self._told |= {"phase": phase, "message": message, "moved_at": time.time()}
        self._is_due.set()
        if self._thread.ident is None and phase not in ENDS:
            self._thread.start()

    def train(self, pace: Pace, bests: Bests, *, epoch_length: int) -> None:
        """Begin the steps.

        Args:
            pace: counts them.
            bests: of all epochs so far.
            epoch_length: steps of an epoch.
        """
        self._pace, self._bests, self._epoch_length = pace, bests, epoch_length
        self._told |= {"best_dsc": bests.mean}
        self._count(pace.count)
        self.enter("training")

    def on_step(self, step: Step) -> None:
        """Note a step."""
        loss = step.result.total
        self._told |= {"loss": loss if math.isfinite(loss) else None, "moved_at": time.time()}
        self._count(step.iteration + 1)

    def on_fault(self, step: Step) -> None:
        """Count a step that was not taken."""
        self._told["num_skipped"] = self._told.get("num_skipped", 0) + 1

    def on_epoch(self, log: EpochLog, state: dict[str, Any], is_best: bool) -> None:
        """Note the best score so far."""
        self._told |= {"best_dsc": self._bests.mean, "moved_at": time.time()}

    def _count(self, iteration: int) -> None:
        num_epochs = -(-self._pace.total // self._epoch_length)
        epoch = min(iteration // self._epoch_length + 1, num_epochs)
        self._told |= {"iteration": iteration, "num_iterations": self._pace.total}
        self._told |= {"epoch": epoch, "num_epochs": num_epochs}

    def _beat(self) -> None:
        while True:
            # Before the look at what there is to tell: a phase that begins meanwhile is told next.
            self._is_due.clear()
            self._write()
            if self._is_over.is_set() and not self._is_due.is_set():
                return
            self._is_due.wait(self._beat_s)

    def _write(self) -> None:
        self._num_beats += 1
        left = self._pace.seconds_left if self._told["phase"] == "training" else None
        told = self._told | {"num_beats": self._num_beats, "beat_at": time.time(), "seconds_left": left}
        try:
            write_record(self._folder.alive, SignOfLife(process=self._process, **told))
        except StorageError as error:
            # Once, as a disk that is full is full every few seconds.
            level = logging.DEBUG if self._has_warned else logging.WARNING
            logger.log(level, "no sign of life could be given: %s", error)
            self._has_warned = True


def _end_by(error: BaseException) -> tuple[Phase, str]:
    """Return how an error or an interruption ends a training, in one line."""
    if isinstance(error, KeyboardInterrupt):
        return "stopped", "interrupted"
    if isinstance(error, Stopped):
        return "stopped", str(error)
    text = " ".join(str(error).split()) or type(error).__name__
    text = text if isinstance(error, TumorsegError) else f"{type(error).__name__}: {text}"
    return "failed", text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"
