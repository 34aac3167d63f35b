"""One worker as its parent sees it: start it, talk to it, say what it died of."""

import logging
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from typing import Any

from tumorseg.schema.quantities import gb_text
from tumorseg.workers import child
from tumorseg.workers.child import VALUE, encode
from tumorseg.workers.machine import available_bytes, num_cores, peak_bytes, process_state, resident_bytes
from tumorseg.workers.watching import Watch

_SPAWN = multiprocessing.get_context("spawn")  # forking a process that has threads (torch, BLAS) can deadlock
_GRACE_S = 5.0  # for a process to end by itself once nobody listens to it any more
_logger = logging.getLogger(__name__)

POLL_S = 0.5
"""How often the parent looks at its workers: their memory, and whether they live and get on."""

# Each library has its own, and takes all cores without it.
_THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLOSC_NTHREADS",
    "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS",
)


@dataclass
class Worker:
    """A process, the pipe to it, and the case that it works on."""

    process: SpawnProcess
    connection: Connection
    task: tuple[str, Any]
    is_ready: bool = False
    peak_memory_bytes: int = 0
    watch: Watch = field(default_factory=Watch)

    def receive(self) -> Any:
        """Return `READY`, a `Failure`, or a value in a list of one.

        Raises:
            EOFError: the worker has died.
            OSError: the worker has died.
        """
        # It has ended without a word; a process that it started may keep the pipe open, and receiving would wait for that.
        if not self.connection.poll():
            raise EOFError
        with self._watched():
            message = self.connection.recv()
            return [self.connection.recv()] if message == VALUE else message

    def send_task(self) -> bool:
        """Send the worker its case; False if it has died meanwhile."""
        message = encode(self.task, f"the argument of case {self.task[0]}")
        self.watch = Watch.begin(process_state(self.process.ident or 0))
        try:
            self.connection.send_bytes(message)
        except OSError:
            return False
        return True

    def note_memory(self) -> None:
        """Remember how much memory the worker has held at most, while that can still be asked."""
        self.peak_memory_bytes = peak_bytes(self.process.ident or 0) or self.peak_memory_bytes

    def look(self) -> None:
        """Look whether the worker gets on, and tell of one that waits."""
        if remark := self.watch.look(process_state(self.process.ident or 0), time.monotonic()):
            _logger.warning("case %s: %s", self.task[0], remark)

    @contextmanager
    def _watched(self) -> Iterator[None]:
        """Look at the worker while this process waits for the rest of a message; end one that is stopped, which ends the wait."""
        is_over = threading.Event()

        def watch() -> None:
            while not is_over.wait(POLL_S):
                self.look()
                if self.watch.is_stopped:
                    self.process.kill()
                    return

        thread = threading.Thread(target=watch, daemon=True)
        thread.start()
        try:
            yield
        finally:
            is_over.set()
            thread.join()

    def resident_bytes(self) -> int:
        """Return how much memory the worker holds now; 0 if it has ended."""
        return resident_bytes(self.process.ident or 0) or 0

    def kill(self) -> None:
        """End the process at once and free what it held here."""
        self.connection.close()
        self.process.kill()
        self.process.join()
        self.process.close()


def start_worker(function: Callable[[Any], Any], task: tuple[str, Any], num_workers: int) -> Worker:
    """Start a process that will take a case as soon as it is ready.

    Args:
        function: what it calls on every case.
        task: (case_id, argument) of its first case.
        num_workers: workers that share the cores.
    """
    here, there = _SPAWN.Pipe()
    process = _SPAWN.Process(target=child.main, args=(there, function), daemon=True)
    with thread_limit(max(1, num_cores() // num_workers)), _interrupts_held(), _main_left_out(function):
        process.start()
    there.close()  # or the death of the worker would not close the pipe
    return Worker(process, here, task)


def retire_worker(worker: Worker) -> None:
    """Hang up on an idle worker, which ends it; kill it if it does not."""
    worker.connection.close()
    worker.process.join(_GRACE_S)
    worker.kill()


def describe_death(worker: Worker, *, num_workers: int) -> str:
    """Reap a dead worker and return one line: the cause and the memory figures."""
    free = available_bytes()
    # The pipe closes a little before the process ends and has an exit code.
    worker.process.join(_GRACE_S)
    code = worker.process.exitcode
    worker.kill()
    # SIGKILL is what Linux sends when memory runs out.
    advice = "; try again with fewer workers" if code == -signal.SIGKILL else ""
    return f"worker process {describe_exit(code)}; {_figures(worker, free, num_workers)}{advice}"


def describe_stop(worker: Worker, *, num_workers: int) -> str:
    """End a worker that something has stopped, and return one line: the cause and the memory figures."""
    # As long as the worker still holds what it has taken.
    stopped_s, free = worker.watch.stopped_s, available_bytes()
    worker.kill()
    return (
        f"worker process was stopped by a signal (SIGSTOP or the like) for {stopped_s:.0f} s and has been ended; "
        f"{_figures(worker, free, num_workers)}; find out what stops it, and give the command again"
    )


def _figures(worker: Worker, free: int | None, num_workers: int) -> str:
    figures = []
    if worker.peak_memory_bytes:
        figures.append(f"the worker's peak memory was {gb_text(worker.peak_memory_bytes)}")
    if free is not None:
        figures.append(f"{gb_text(free)} of memory are free now")
    figures.append(f"{num_workers} workers were asked for")
    return ", ".join(figures)


def describe_exit(code: int | None) -> str:
    """Return in words how a process ended, by its exit code as `subprocess` has it: a signal is its number below 0."""
    if code is None:
        return "closed its pipe without ending"
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = "unknown"
    guess = ", out of memory?" if name == "SIGKILL" else ""
    return f"was killed by signal {-code} ({name}{guess})"


@contextmanager
def thread_limit(num_threads: int) -> Iterator[None]:
    """Let processes started meanwhile use so many threads, unless the user has said otherwise."""
    added = [name for name in _THREAD_VARIABLES if name not in os.environ]
    os.environ.update(dict.fromkeys(added, str(num_threads)))
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)


@contextmanager
def _main_left_out(function: Callable[[Any], Any]) -> Iterator[None]:
    """Start processes that do not run the user's script again, which needs no `if __name__ == "__main__"` then.

    Spawn finds the script by these two attributes. It is needed only where the function itself stands in it.
    """
    if getattr(function, "__module__", None) == "__main__":
        yield
        return
    names, main = ("__spec__", "__file__"), vars(sys.modules["__main__"])
    kept = {name: main[name] for name in names if name in main}
    main.update(__spec__=None)
    main.pop("__file__", None)
    try:
        yield
    finally:
        main.pop("__spec__")
        main.update(kept)


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Start processes with signals blocked that reach the whole group: what becomes of their cases is for the parent to say.

    Ctrl-C while they import must not fill the screen with their tracebacks either.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    resource_tracker.ensure_running()  # spawn would start it, and that unblocks the other two
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
