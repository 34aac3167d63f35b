"""Send trainings to MLflow, once, or as long as they go on."""

import json
import logging
import os
import select
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, suppress
from pathlib import Path
from typing import NamedTuple

from tumorseg.errors import StorageError
from tumorseg.schema.base import Record
from tumorseg.stages.opening.fold_folders import model_folds
from tumorseg.stages.opening.loaded import Roots
from tumorseg.stages.tracking.mirror import Mirror, Sent, default_uri
from tumorseg.storage.layout import FoldFolder
from tumorseg.storage.locks import hold_folder
from tumorseg.tracking.system_metrics import sample_system

logger = logging.getLogger(__name__)

POLL_S = 1.0
"""Between two looks at a log."""
SAMPLE_S = 10.0
"""Between two samples of the machine's load."""
PICTURES_S = 60.0
"""Between two sendings of figures while the training goes on."""
LAST_WAITS_S = (5.0, 15.0, 60.0)
"""Between tries to send the end of a training."""
EARLIER_S = 600.0
"""Most that the process beside a resumed training waits for the earlier one, which may still be sending."""
RETRY_S, MOST_RETRY_S = 5.0, 300.0
"""Between two tries to reach MLflow: the first, and the most after doubling."""


class TrackRequest(Record):
    """Options of `track`."""

    roots: Roots = Roots()
    """Data and work folder."""
    model: Path
    """A model folder, or one fold's."""
    mlflow: str | None = None
    """Where to; the database below the work folder if None."""
    dataset: str | None = None
    """Where the dataset is, if it moved."""

    @property
    def uri(self) -> str:
        """Return where trainings are sent."""
        return self.mlflow or default_uri(self.roots.work)


class Tracked(NamedTuple):
    """One fold on MLflow."""

    folder: Path
    sent: Sent


def track(request: TrackRequest) -> list[Tracked]:
    """Send what MLflow lacks of the trainings of a model; to send it twice changes nothing.

    Raises:
        PlanError: the folder holds no training.
        StorageError: MLflow does not answer, or another process sends one of the folds now; the others are sent first.
    """
    found, held = [], []
    for folder in model_folds(request.model):
        with ExitStack() as holding:
            try:
                holding.enter_context(_hold(folder))
            except StorageError as error:
                held.append(error)
                continue
            mirror = Mirror(folder, request.roots, request.uri, request.dataset)
            found.append(Tracked(folder.root, mirror.send(is_running=False)))
    if held:
        raise held[0]
    return found


def follow(request: TrackRequest, trainer: int) -> None:
    """Send a training's epochs as they come, until the process that trains closes this one's standard input.

    Nothing here ends or slows the training: a server that does not answer is tried again, less and less often.

    Args:
        request: of one fold.
        trainer: id of the process that trains.

    Raises:
        StorageError: MLflow does not answer in the end, or the training was moved aside.
    """
    folder = FoldFolder(request.model)
    with _hold(folder, patience_s=EARLIER_S):
        _Follower(Mirror(folder, request.roots, request.uri, request.dataset), trainer).run()


class _Follower:
    def __init__(self, mirror: Mirror, trainer: int) -> None:
        self._mirror, self._trainer = mirror, trainer
        self._sampled = self._drawn = self._tried = 0.0
        self._wait, self._seen = 0.0, -1

    def run(self) -> None:
        """Look, sample and send until the training has ended; then send the rest."""
        while not has_ended(POLL_S):
            now = time.monotonic()
            if now - self._sampled >= SAMPLE_S:
                self._sampled = now
                self._sample()
            size = _size(self._mirror.folder.log)
            if size != self._seen and now - self._tried >= self._wait:
                self._tried = now
                self._send(now, size)
        self._sample()
        send_rest(lambda: self._mirror.send(is_running=False))

    def _sample(self) -> None:
        self._mirror.check_there()
        sample = sample_system(self._trainer, self._mirror.folder.root)
        # A full disk costs a sample, and what was sent of the training stays.
        with suppress(OSError), self._mirror.folder.system.open("a", encoding="utf-8") as file:
            file.write(json.dumps(sample, sort_keys=True) + "\n")

    def _send(self, now: float, size: int) -> None:
        with_pictures = now - self._drawn >= PICTURES_S
        try:
            self._mirror.send(is_running=True, with_pictures=with_pictures)
        except StorageError as error:
            self._wait = min(max(RETRY_S, 2 * self._wait), MOST_RETRY_S)
            logger.warning("%s; trying again in %.0f s", error, self._wait)
            return
        self._wait, self._seen = 0.0, size
        if with_pictures:
            self._drawn = now


def send_rest(send: Callable[[], object]) -> None:
    """Send the end of something; nobody waits for it, so there is time to try again.

    Raises:
        StorageError: MLflow does not answer in the end.
    """
    for wait in (*LAST_WAITS_S, None):
        try:
            send()
        except StorageError as error:
            if wait is None:
                raise
            logger.warning("%s; trying again in %.0f s", error, wait)
            time.sleep(wait)
        else:
            return


def has_ended(seconds: float) -> bool:
    """Wait a while; whether standard input was closed, which the end of the process that trains does, however it came."""
    readable, _, _ = select.select([sys.stdin], [], [], seconds)
    return bool(readable) and not os.read(sys.stdin.fileno(), 1024)


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _hold(folder: FoldFolder, patience_s: float = 0.0) -> AbstractContextManager[None]:
    """Let one process at a time send a fold."""
    return hold_folder(folder.tracking, doing="sent to MLflow", error=StorageError, patience_s=patience_s)
