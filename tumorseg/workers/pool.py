"""The one supervised process pool that preprocessing, loading and prediction share.

The standard library's pools hang or fall as a whole when a worker is killed, which is what running out of memory looks
like on Linux. Here each worker has a pipe of its own, so the parent knows which case a dead one was working on.
"""

import logging
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import closing
from multiprocessing import connection as mp_connection
from multiprocessing.connection import Connection
from typing import Generic, TypeVar

from tumorseg.schema.quantities import gb_text
from tumorseg.workers.child import READY, encode
from tumorseg.workers.machine import available_bytes
from tumorseg.workers.outcomes import Failure, Outcome, Success, attempt, log_failure
from tumorseg.workers.worker import POLL_S, Worker, describe_death, describe_stop, retire_worker, start_worker

T = TypeVar("T")
R = TypeVar("R")

MOST_FAILED_STARTS = 2
"""Workers in a row that may die before their first word; then it is no accident."""


SHARE_OF_MEMORY = 0.9
"""How much of what is free the workers may take in all."""

_logger = logging.getLogger(__name__)


def run_cases(
    function: Callable[[T], R], items: Iterable[tuple[str, T]], *, num_workers: int, expected_bytes: int = 0
) -> Iterator[Outcome[R]]:
    """Call a function on every case, in several processes, and yield what becomes of each as soon as it is known.

    A case that raises, or whose worker is killed, becomes a `Failure`; the others go on. No more than `num_workers`
    cases are in flight, so neither the items nor the results pile up here. Closing the iterator, or any exception in
    this process, ends the workers at once; they also end by themselves if this process dies.

    There are no more workers than memory holds: the most that one of them has needed for a case so far is what another
    one may need too. Workers end or are added between cases as that becomes known. So the largest cases should come first.

    Args:
        function: stands at the top of a module.
        items: (case_id, argument) pairs, drawn one at a time.
        num_workers: processes at most; 1 or less means to work in this process.
        expected_bytes: what one worker may need at its peak, until the first case has been measured.

    Yields:
        A `Success` or a `Failure` for each item, in the order of completion.

    Raises:
        TypeError: the function or an argument cannot be sent to a worker process.
    """
    if num_workers <= 1:
        return _run_here(function, iter(items))
    # Before any worker starts: each would fail in the same way, and the fault is the caller's.
    encode(function, f"the function {getattr(function, '__qualname__', function)!r}")
    return _run_in_pool(_Pool(function, iter(items), num_workers, expected_bytes))


def _run_here(function: Callable[[T], R], items: Iterator[tuple[str, T]]) -> Iterator[Outcome[R]]:
    for case_id, argument in items:
        outcome = attempt(function, case_id, argument)
        if isinstance(outcome, Failure):
            log_failure(outcome)
        yield outcome


def _run_in_pool(pool: "_Pool[T, R]") -> Iterator[Outcome[R]]:
    with closing(pool):
        while True:
            yield from pool.fill()
            if not pool.workers:
                return
            for worker in pool.wait():
                outcome = pool.end_stopped(worker) if worker.watch.is_stopped else pool.advance(worker)
                if isinstance(outcome, Failure):
                    log_failure(outcome)
                if outcome is not None:
                    yield outcome


def _has_news(worker: Worker, ready: Collection[object]) -> bool:
    """Tell whether a worker has said something or ended, or something has stopped it."""
    if worker.watch.is_stopped or worker.connection in ready:
        return True
    return worker.process.sentinel in ready or not worker.process.is_alive()


class _Pool(Generic[T, R]):
    """The workers that live, each holding the case that it works on or is started for."""

    def __init__(
        self, function: Callable[[T], R], items: Iterator[tuple[str, T]], num_workers: int, expected_bytes: int
    ) -> None:
        self.workers: list[Worker] = []
        self._function = function
        self._items = items
        self._num_workers = num_workers
        self._bytes_per_worker = expected_bytes
        self._is_measured = False
        self._is_short = False
        self._returned: list[tuple[str, T]] = []  # cases whose worker died before it was ready
        self._failed_starts = 0
        self._start_message = ""

    def fill(self) -> Iterator[Failure]:
        """Start workers while there are cases for them; fail the cases if none can start."""
        while len(self.workers) < self._num_workers and len(self.workers) < self._most_workers():
            hopeless = self._failed_starts >= MOST_FAILED_STARTS
            if hopeless and self.workers:  # those that could start take the cases
                return
            task = self._next_task()
            if task is None:
                return
            if hopeless:
                yield Failure(task[0], self._start_message)
            else:
                self.workers.append(start_worker(self._function, task, self._num_workers))

    def wait(self) -> list[Worker]:
        """Return the workers that have something to say, or nothing any more, or that something has stopped."""
        wanted: list[Connection | int] = []
        for worker in self.workers:
            wanted += (worker.connection, worker.process.sentinel)
        ready = set(mp_connection.wait(wanted, timeout=POLL_S))
        for worker in self.workers:
            worker.note_memory()
            worker.look()
        return [worker for worker in self.workers if _has_news(worker, ready)]

    def advance(self, worker: Worker) -> Outcome[R] | None:
        """Take a worker's message and hand it what comes next; None if no case came to its end."""
        case_id = worker.task[0]
        try:
            message = worker.receive()
        except (EOFError, OSError):
            # A worker that was stopped in the middle of its answer has been ended while it was waited for.
            return self.end_stopped(worker) if worker.watch.is_stopped else self._bury(worker)
        if message == READY:
            # What counts is failed starts in a row.
            self._failed_starts = 0
            worker.is_ready = True
            worker.send_task()
            return None
        self._note_need(worker)
        self._hand_next(worker)
        return message if isinstance(message, Failure) else Success(case_id, message[0])

    def end_stopped(self, worker: Worker) -> Failure:
        """End a worker that something has stopped; its case fails, the others go on."""
        self.workers.remove(worker)
        return Failure(worker.task[0], describe_stop(worker, num_workers=self._num_workers))

    def close(self) -> None:
        """End all workers at once."""
        for worker in self.workers:
            worker.kill()
        self.workers.clear()

    def _next_task(self) -> tuple[str, T] | None:
        return self._returned.pop() if self._returned else next(self._items, None)

    def _note_need(self, worker: Worker) -> None:
        """Learn from a case that came to its end what one may take."""
        worker.note_memory()
        self._learn(worker.peak_memory_bytes)

    def _learn(self, num_bytes: int) -> None:
        """Expect that a worker may need so much; the first measurement replaces what was expected at the start."""
        known = self._bytes_per_worker if self._is_measured else 0
        # Of a system that does not tell (0), what was expected stays.
        self._bytes_per_worker = max(known, num_bytes) or self._bytes_per_worker
        self._is_measured = True

    def _most_workers(self) -> int:
        """Return how many workers the memory holds, one at least: that which is free and that which they have already."""
        free = available_bytes()
        if free is None or not self._bytes_per_worker:
            return self._num_workers
        held = sum(worker.resident_bytes() for worker in self.workers)
        # Not the workers' peaks but what they hold now: that, and what is free, they can have between them.
        most = max(1, int((free + held) * SHARE_OF_MEMORY) // self._bytes_per_worker)
        if most < self._num_workers and not self._is_short:
            self._is_short = True
            _logger.info(
                "memory holds %d of %d workers: %s are free, one needs %s",
                *(most, self._num_workers, gb_text(free + held), gb_text(self._bytes_per_worker)),
            )
        return most

    def _hand_next(self, worker: Worker) -> None:
        is_surplus = len(self.workers) > 1 and len(self.workers) > self._most_workers()
        task = None if is_surplus else self._next_task()
        if task is None:
            self.workers.remove(worker)
            retire_worker(worker)
        else:
            worker.task = task
            if not worker.process.is_alive() or not worker.send_task():  # it died idle: nobody has worked on this case
                self._returned.append(task)
                self.workers.remove(worker)
                worker.kill()

    def _bury(self, worker: Worker) -> Failure | None:
        self.workers.remove(worker)
        # What it took until it was killed is the least that a case may need.
        if worker.is_ready:
            self._learn(worker.peak_memory_bytes)
        message = describe_death(worker, num_workers=self._num_workers)
        if worker.is_ready:
            return Failure(worker.task[0], message)
        self._failed_starts += 1
        self._start_message = f"no worker process can start: {message}"
        # Nobody has worked on its case yet: another worker may take it.
        self._returned.append(worker.task)
        return None
