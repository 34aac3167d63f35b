"""Workers of a study on the coordinator's own machine: started, watched, started anew, and sent away."""

import logging
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path

from tumorseg.errors import TrainingError
from tumorseg.schema.quantities import gb_text
from tumorseg.stages.tuning.leaving import GREETING
from tumorseg.stages.tuning.roles import Death
from tumorseg.storage.study_folder import StudyFolder
from tumorseg.storage.study_workers import worker_prefix
from tumorseg.workers.machine import available_bytes, num_cores, peak_bytes
from tumorseg.workers.worker import describe_exit, thread_limit

logger = logging.getLogger(__name__)

MOST_DEATHS = 5
"""Workers of a number that may end in a row while no worker gets anywhere; more than one bad task may cost (`MOST_LOST`)."""
GRACE_S = 60.0
"""For a worker to come to a checkpoint once it is asked to leave."""
LAST_WORDS = 5
"""Lines of a worker's messages that are told when it could not be helped."""


@dataclass
class _Place:
    """Where one worker after the other works."""

    log: Path
    process: "subprocess.Popen[bytes] | None" = None
    began: int = 0
    """Bytes that its log had when the process began."""
    peak_bytes: int = 0
    num_deaths: int = 0
    """In a row, while no worker got anywhere."""
    cause: str = ""
    """Of the last death."""

    def is_alive(self) -> bool:
        return self.process is not None and self.process.poll() is None


class LocalWorkers:
    """Processes that each run a command which works on the study, and end with this one."""

    def __init__(self, command: Sequence[str], jobs: int, folder: StudyFolder, *, grace_s: float = GRACE_S) -> None:
        """Begin without any process; `tend` starts them.

        Args:
            command: that a worker runs, such as `python -m tumorseg tune --worker FOLDER`.
            jobs: how many at once; they share the cores.
            folder: of the study, where their messages are kept.
            grace_s: how long they are waited for once they are asked to leave.
        """
        self._command, self._jobs, self._grace_s = list(command), jobs, grace_s
        self._places = [_Place(folder.log(number)) for number in range(jobs)]

    def tend(self, *, has_progress: bool) -> list[Death]:
        """Start the workers that are missing, and return those that have ended since the last time.

        Args:
            has_progress: whether any worker has got anywhere since the last time.

        Raises:
            TrainingError: those of a number end again and again, without getting anywhere; with their last words.
        """
        deaths = []
        for place in self._places:
            if has_progress:
                place.num_deaths = 0
            if place.process is not None and place.process.poll() is not None:
                deaths.append(_bury(place, place.process))
            if place.process is None:
                _require_hope(place)
                self._start(place)
            elif place.is_alive():
                # As long as it can be asked: the system forgets it with the process.
                place.peak_bytes = peak_bytes(place.process.pid) or place.peak_bytes
        return deaths

    def num_alive(self) -> int:
        """Return how many workers there are now."""
        return sum(place.is_alive() for place in self._places)

    def owns(self, worker: str) -> bool:
        """Return whether a worker is one of these."""
        return any(True for _ in self._processes_of(worker))

    def kill(self, worker: str) -> None:
        """End a worker at once, if it is one of these."""
        for process in self._processes_of(worker):
            process.kill()

    def dismiss(self) -> None:
        """Have all workers give back what they do, and wait until they have left; those that take too long are ended."""
        processes = [place.process for place in self._places if place.process is not None]
        try:
            for process in processes:
                process.send_signal(signal.SIGTERM)
            ends = time.monotonic() + self._grace_s
            for process in processes:
                with suppress(subprocess.TimeoutExpired):
                    process.wait(max(0.0, ends - time.monotonic()))
        finally:
            # Also where a second Ctrl-C ends the waiting.
            for process in processes:
                _end(process)

    def _start(self, place: _Place) -> None:
        # Alone, a worker has all cores in any case, and what it starts itself may divide them.
        limit = thread_limit(max(1, num_cores() // self._jobs)) if self._jobs > 1 else nullcontext()
        try:
            place.log.parent.mkdir(parents=True, exist_ok=True)
            with place.log.open("ab") as told, limit:
                place.began = told.tell()
                place.process = subprocess.Popen(
                    self._command,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.DEVNULL,
                    stderr=told,
                    # Out of reach of a Ctrl-C: it is asked to leave when the time has come.
                    start_new_session=True,
                )
        except OSError as error:
            raise TrainingError(
                f"no worker can be started ({error}); free memory or disk space, and give the command again"
            ) from error
        _greet(place.process)
        logger.debug("worker process %d started", place.process.pid)

    def _processes_of(self, worker: str) -> "Iterator[subprocess.Popen[bytes]]":
        for place in self._places:
            if place.process is not None and worker.startswith(worker_prefix(place.process.pid)):
                yield place.process


def _greet(process: "subprocess.Popen[bytes]") -> None:
    """Tell a worker that it ends with its input, which the system closes too where this process is killed."""
    assert process.stdin is not None
    # It may have ended already.
    with suppress(BrokenPipeError):
        process.stdin.write(GREETING)
        process.stdin.flush()


def _end(process: "subprocess.Popen[bytes]") -> None:
    """End a process if it has not, and free what it held here."""
    process.kill()
    process.wait()
    assert process.stdin is not None
    with suppress(BrokenPipeError):
        process.stdin.close()


def _bury(place: _Place, process: "subprocess.Popen[bytes]") -> Death:
    """Make room for the next worker, and say what this one died of."""
    _end(process)
    code = process.returncode
    parts = [f"worker process {describe_exit(code)}"]
    if place.peak_bytes:
        parts.append(f"its peak memory was {gb_text(place.peak_bytes)}")
    free = available_bytes()
    # SIGKILL is what Linux sends when memory runs out.
    if code == -signal.SIGKILL and free is not None:
        parts.append(f"{gb_text(free)} of memory are free now")
    words = _last_words(place)
    if code >= 0 and words:
        parts.append(words[-1])
    place.process, place.peak_bytes = None, 0
    place.num_deaths += 1
    cause = "; ".join(parts)
    logger.warning("%s", cause)
    place.cause = cause
    return Death(worker_prefix(process.pid), cause)


def _require_hope(place: _Place) -> None:
    if place.num_deaths >= MOST_DEATHS:
        raise TrainingError(
            f"{MOST_DEATHS} workers in a row have ended without getting anywhere, the last one so: {place.cause}; mend that, and give the "
            f"same command again; {place.log} ends with",
            lines=_last_words(place),
        )


def _last_words(place: _Place) -> list[str]:
    """Return the last lines that a worker wrote."""
    with place.log.open("rb") as file:
        file.seek(place.began)
        lines = file.read().decode(errors="replace").splitlines()
    return [line for line in lines if line.strip()][-LAST_WORDS:]
