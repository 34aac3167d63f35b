"""Cases that a verb does not use: sources pass them over before anything of theirs is looked at."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import NamedTuple, TypeVar

from tumorseg.errors import InputError
from tumorseg.schema.planned_dataset import Selection

T = TypeVar("T")


class LeftOut(NamedTuple):
    """Cases that sources left out or refused while `leaving_out`."""

    selection: Selection
    found: set[str]
    """Ids of cases that are there and were left out."""
    refused: set[str]
    """Ids of cases for which the dataset was refused."""


# A context rather than an argument: no source has to know of it, or could forget to hand it on.
_left_out: ContextVar[LeftOut | None] = ContextVar("left_out", default=None)


@contextmanager
def leaving_out(selection: Selection) -> Iterator[LeftOut]:
    """Let sources read a dataset as if the cases that are not used were not there."""
    present = LeftOut(selection, set(), set())
    token = _left_out.set(present)
    try:
        yield present
    finally:
        _left_out.reset(token)


def is_left_out(case_id: str) -> bool:
    """Tell whether a case is not used, and note that it is there."""
    present = _left_out.get()
    if present is None or present.selection.uses(case_id):
        return False
    present.found.add(case_id)
    return True


def used(source: Path, entries: Iterable[T], case_id: Callable[[T], str]) -> list[T]:
    """Return the entries of cases that are used.

    Args:
        source: what they were found in, for messages.
        entries: one for each case.
        case_id: of an entry.

    Raises:
        InputError: there were some, and none is used.
    """
    given = list(entries)
    kept = [entry for entry in given if not is_left_out(case_id(entry))]
    if given and not kept:
        raise InputError(
            f"all {len(given)} cases are excluded or in no list of the split file; expected some that are used; correct the ids",
            file=source,
        )
    return kept


def note_refused(case_id: str) -> None:
    """Note that a dataset is refused for one of its cases."""
    if (present := _left_out.get()) is not None:
        present.refused.add(case_id)
