"""What is read, by name: how a sound folder is made, and what reads a damaged one."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from benchmarks.fuzzing.messages import message_fault
from tumorseg.errors import TumorsegError


class Target(NamedTuple):
    """A reader, or a document."""

    make: Callable[[Path], None]
    """Writes sound folders below an empty one, each a variant."""
    read: Callable[[Path], object]
    """Reads one of them."""
    count: int = 1
    """Inputs that are read at once, each in a folder of its own below the one that is read."""


def every(*calls: Callable[[], object]) -> list[object]:
    """Return what all calls return; each is made whatever becomes of those before it, and then the first refusal raised."""
    values: list[object] = []
    refusals: list[TumorsegError] = []
    for call in calls:
        try:
            values.append(call())
        except TumorsegError as error:
            refusals.append(error)
    if refusals:
        # A message that is unsound is not to hide behind one that is sound.
        raise max(refusals, key=lambda refusal: len(message_fault(refusal)))
    return values
