"""The loop over cases that commands share: worker processes, progress, results and failures."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from typing import NamedTuple, TypeVar

from tumorseg.errors import Stopped
from tumorseg.stages.opening.stopping import UntilStopped
from tumorseg.tracking.progress import Advance, progress
from tumorseg.workers.machine import num_cores
from tumorseg.workers.outcomes import Failure
from tumorseg.workers.pool import run_cases

T = TypeVar("T")
R = TypeVar("R")


class Steps(NamedTuple):
    """The steps that a progress bar counts: one a case."""

    title: str
    """What is being done."""
    total: int
    """All cases, those of earlier runs too."""
    done: int = 0
    """Cases that are finished already."""
    are_named: bool = False
    """Whether each case is shown once it is finished."""


def _ignore(*_: object) -> None:
    """Take a result that nobody needs, or know nothing of a task."""


def each_case(
    work: Callable[[T], R],
    tasks: Iterable[tuple[str, T]],
    take: Callable[[str, R], object] = _ignore,
    *,
    num_cases: int,
    expected_bytes: int,
    jobs: int | None,
    steps: Steps | None,
    known: Callable[[T], R | None] = _ignore,
) -> list[Failure]:
    """Do the work of every case in worker processes, as many as memory holds, and return the cases that failed.

    Args:
        work: stands at the top of a module.
        tasks: (case_id, argument) pairs, drawn one at a time; the largest should come first.
        take: called with the case_id and the result of each case that went through, in the order of completion.
        num_cases: how many tasks there are at most.
        expected_bytes: memory that a worker may need, until the first case has been measured.
        jobs: processes at most; one per core if None, and never more than there are cases.
        steps: what the progress shows; None for no progress.
        known: the result that an earlier run kept of a task; None where there is work to do.

    Raises:
        Stopped: a signal asked to stop before the last case had begun; those that had begun came to their end.
    """
    failures: list[Failure] = []
    count, given = 0, UntilStopped(tasks)
    num_workers = min(jobs or num_cores(), max(1, num_cases))
    with nullcontext(_ignore) if steps is None else progress(steps.title, steps.total, steps.done) as advance:
        unknown = _unknown(given, known, take, advance)
        for outcome in run_cases(work, unknown, num_workers=num_workers, expected_bytes=expected_bytes):
            if isinstance(outcome, Failure):
                failures.append(outcome)
            else:
                take(outcome.case_id, outcome.value)
                count += 1
            advance(outcome.case_id if steps and steps.are_named else "")
    if given.has_more:
        raise Stopped(f"{count} of {num_cases} cases of this run are done and kept")
    return failures


def _unknown(
    tasks: Iterable[tuple[str, T]],
    known: Callable[[T], R | None],
    take: Callable[[str, R], object],
    advance: Advance,
) -> Iterator[tuple[str, T]]:
    """Yield the tasks that are left to do; the results of the others are taken on the way."""
    for case_id, task in tasks:
        result = known(task)
        if result is None:
            yield case_id, task
        else:
            take(case_id, result)
            advance()
