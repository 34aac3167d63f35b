"""Lanes: threads that each take a case from its beginning to its end, side by side in one process.

For work that is bound by one thing that the cases share, as prediction is by the network: while one case holds it, another one is
read or written. Processes (`workers.pool`) would each need a network of their own.
"""

from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from functools import partial
from itertools import islice
from typing import TypeVar

from tumorseg.workers.outcomes import Failure, Outcome, attempt, log_failure

T = TypeVar("T")
R = TypeVar("R")


def run_lanes(
    function: Callable[[T], R],
    items: Iterable[tuple[str, T]],
    *,
    num_lanes: int,
    stop: Callable[[], None] | None = None,
) -> Generator[Outcome[R]]:
    """Call a function on every case, a few at a time, and yield what becomes of each as soon as it is known.

    A case that raises becomes a `Failure`; the others go on. An item is drawn when a lane is free for it, so no more than
    `num_lanes` cases are in memory. When the iterator is closed, or this thread is interrupted, no further case begins, and those
    that have begun are asked to stop and waited for, whatever interrupts that.

    Args:
        function: is called from several threads at once.
        items: (case_id, argument) pairs, drawn one at a time.
        num_lanes: cases at once; 1 or less: in this thread.
        stop: asks cases that have begun to fail soon; None where they are short.

    Yields:
        A `Success` or a `Failure` for each item, in the order of completion.
    """
    pairs = iter(items)
    pool = ThreadPoolExecutor(num_lanes, "lane") if num_lanes > 1 else None
    running: set[Future[Outcome[R]]] = set()
    if pool is None:
        outcomes = _one_by_one(function, pairs)
    else:
        outcomes = _side_by_side(partial(_begin, pool, function), pairs, running, num_lanes)
    is_over = False
    try:
        for outcome in outcomes:
            if isinstance(outcome, Failure):
                log_failure(outcome)
            yield outcome
        is_over = True
    finally:
        # Before the lanes are waited for, or a large case would hold up whoever pressed Ctrl-C.
        if not is_over and stop is not None:
            stop()
        if pool is not None:
            pool.shutdown(wait=False)
            _wait_for(running)


def _wait_for(running: Iterable[Future[Outcome[R]]]) -> None:
    """Wait for cases that have begun, however often Ctrl-C is pressed: they write into what the caller then lets go of."""
    interrupt: KeyboardInterrupt | None = None
    is_over = False
    while not is_over:
        try:
            # Not by joining threads, which an interrupt may make Python take for ended ones.
            wait(running)
            is_over = True
        except KeyboardInterrupt as again:
            interrupt = again
    if interrupt is not None:
        raise interrupt


def _one_by_one(function: Callable[[T], R], pairs: Iterator[tuple[str, T]]) -> Iterator[Outcome[R]]:
    for case_id, argument in pairs:
        yield attempt(function, case_id, argument)


def _begin(pool: ThreadPoolExecutor, function: Callable[[T], R], case_id: str, argument: T) -> Future[Outcome[R]]:
    return pool.submit(attempt, function, case_id, argument)


def _side_by_side(
    begin: Callable[[str, T], Future[Outcome[R]]],
    pairs: Iterator[tuple[str, T]],
    running: set[Future[Outcome[R]]],
    num_lanes: int,
) -> Iterator[Outcome[R]]:
    while True:
        for case_id, argument in islice(pairs, num_lanes - len(running)):
            running.add(begin(case_id, argument))
        if not running:
            return
        done, _ = wait(running, return_when=FIRST_COMPLETED)
        running -= done
        for future in done:
            yield future.result()
