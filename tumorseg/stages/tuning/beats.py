"""Signs of life between workers and their coordinator: counters in files, judged by one clock alone."""

import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

from tumorseg.errors import StorageError
from tumorseg.storage.study_folder import StudyFolder
from tumorseg.storage.study_workers import remove_beat, write_beat

logger = logging.getLogger(__name__)


class Pace(NamedTuple):
    """How often coordinator and workers look at the study's folder."""

    poll_s: float = 0.5
    """Between two looks for something to do."""
    beat_s: float = 2.0
    """Between two signs of life of a worker."""
    look_s: float = 1.0
    """Between two looks of a worker from within a task: a step may take milliseconds, and the folder lie on a network drive."""
    lease_s: float = 60.0
    """A worker whose counter stands still for so long is gone."""


USUAL_PACE = Pace()


@contextmanager
def beating(folder: StudyFolder, worker: str, beat_s: float) -> Iterator[None]:
    """Show meanwhile that a worker lives, from a thread of its own; the sign goes with it when it leaves by itself.

    Raises:
        StorageError: the folder cannot be written in the beginning.
    """
    # Before its first claim, so that no claim's worker is unknown.
    write_beat(folder, worker, 0)
    is_over = threading.Event()
    thread = threading.Thread(target=_beat, args=(folder, worker, beat_s, is_over), daemon=True)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()
        remove_beat(folder, worker)


def _beat(folder: StudyFolder, worker: str, beat_s: float, is_over: threading.Event) -> None:
    count = 0
    while not is_over.wait(beat_s):
        count += 1
        try:
            write_beat(folder, worker, count)
        except StorageError as error:
            # A disk that is full may have room again before the lease is over.
            logger.warning("no sign of life could be given: %s", error)


@dataclass
class _Silence:
    beat: str
    seconds: float = 0.0
    """How long it has stood still."""
    has_changed: bool = False
    """Whether it has been seen to count: a file may be left over from a worker that died before anybody looked."""
    has_left: bool = False
    """Whether it was there and is gone: a worker that ends by itself takes it along."""


class Silences:
    """How long each worker has given no sign of life, by the clock of this process: those of other machines may be wrong."""

    def __init__(self, lease_s: float, clock: Callable[[], float]) -> None:
        """Begin to look.

        Args:
            lease_s: after how much silence a worker is gone.
            clock: seconds since any moment.
        """
        self._lease_s, self._clock = lease_s, clock
        self._looked_s = clock()
        self._silences: dict[str, _Silence] = {}

    def look(self, beats: Mapping[str, str]) -> None:
        """Note the counters of all workers; those that are no longer among them are forgotten.

        Args:
            beats: counter by worker, empty for one that is known by its claim alone.
        """
        now_s = self._clock()
        # Where this process was itself stopped along with its workers (Ctrl-Z), the time between is not theirs.
        passed_s = min(now_s - self._looked_s, self._lease_s / 4)
        self._looked_s = now_s
        self._silences = {worker: self._noted(worker, beat, passed_s) for worker, beat in beats.items()}

    def alive(self) -> list[str]:
        """Return the workers that have been seen to live, and have not left."""
        gone = self.gone()
        return [worker for worker, silence in self._silences.items() if silence.has_changed and worker not in gone]

    def gone(self) -> list[str]:
        """Return the workers that have been silent for too long."""
        return [worker for worker, silence in self._silences.items() if silence.seconds >= self._lease_s]

    def left(self) -> list[str]:
        """Return the workers that have taken their counter with them, and left claims."""
        return [worker for worker, silence in self._silences.items() if silence.has_left]

    def _noted(self, worker: str, beat: str, passed_s: float) -> _Silence:
        before = self._silences.get(worker)
        if before is None:
            return _Silence(beat)
        if beat and before.beat != beat:
            return _Silence(beat, has_changed=True)
        has_left = not beat and (before.has_left or before.beat != "")
        return _Silence(beat, before.seconds + passed_s, before.has_changed and not has_left, has_left)
