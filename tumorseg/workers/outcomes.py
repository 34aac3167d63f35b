"""Outcomes of the cases that are handed to workers."""

import logging
import traceback
from collections.abc import Callable, Iterable
from typing import Generic, NamedTuple, TypeVar

from tumorseg.errors import TumorsegError

T = TypeVar("T")
R = TypeVar("R")

_logger = logging.getLogger(__name__)


class Success(NamedTuple, Generic[R]):
    """A case that went through."""

    case_id: str
    value: R


class Failure(NamedTuple):
    """A case that did not."""

    case_id: str
    message: str
    """One line: what happened, without the case."""
    traceback: str | None = None
    """Of a bug; None for an error that a user can mend and for a worker that died."""


Outcome = Success[R] | Failure


def attempt(function: Callable[[T], R], case_id: str, argument: T) -> Outcome[R]:
    """Call a function on one case; whatever it raises becomes a `Failure`.

    This is the one place that catches everything: a bug in one case must not cost the others.
    """
    try:
        return Success(case_id, function(argument))
    except TumorsegError as error:
        return Failure(case_id, error.text(case_id=case_id))
    except Exception as error:
        return Failure(case_id, f"{type(error).__name__}: {one_line(str(error))}", traceback.format_exc())


def one_line(text: str) -> str:
    """Return a text with every run of white space made one blank."""
    return " ".join(text.split())


def log_failure(failure: Failure) -> None:
    """Log a bug at once, with its traceback; what a user can mend is reported once, in the table at the end (with -v at once)."""
    if failure.traceback:
        lines = failure.traceback.rstrip().split("\n")
        # Each by itself, as a line end within what is logged is escaped.
        _logger.error("%s: %s" + "\n%s" * len(lines), failure.case_id, failure.message, *lines)
    else:
        _logger.debug("%s: %s", failure.case_id, failure.message)


def failure_lines(failures: Iterable[Failure]) -> list[str]:
    """Return one line per failed case, sorted by case_id: the id, then the message."""
    ordered = sorted(failures, key=lambda failure: failure[:2])  # tracebacks cannot be compared with None
    width = max((len(failure.case_id) for failure in ordered), default=0)
    return [f"{failure.case_id:<{width}}  {one_line(failure.message)}" for failure in ordered]
