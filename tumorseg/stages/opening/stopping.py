"""Signals that ask a command to stop at the next moment at which nothing is lost."""

import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Generic, TypeVar

T = TypeVar("T")

SIGNALS = (signal.SIGTERM, signal.SIGUSR1)
"""What batch systems send before they take a machine away."""


@dataclass
class Wish:
    """Whether this process is to stop; no event, whose lock a signal could find held by the thread that it interrupts."""

    is_asked: bool = False

    def ask(self) -> None:
        """Ask it to."""
        self.is_asked = True


class _Present:
    """The wish of this process, as signals are its own: of the outermost `stop_on_signal`."""

    wish: Wish | None = None


@contextmanager
def stop_on_signal() -> Iterator[Wish]:
    """Turn SIGTERM and SIGUSR1 into a wish to stop meanwhile, where signals can be caught (the main thread).

    Nested, all share the outermost wish, so that one that comes between two stages is not lost.
    """
    if _Present.wish is not None or not _is_main_thread():
        yield _Present.wish or Wish()
        return
    wish = _Present.wish = Wish()
    try:
        with handled(lambda _number: wish.ask()):
            yield wish
    finally:
        _Present.wish = None


@contextmanager
def handled(handle: Callable[[int], None]) -> Iterator[None]:
    """Have the signals call a function with their number meanwhile; in a thread that is not the main one, nothing is changed."""
    if not _is_main_thread():
        yield
        return

    def called(number: int, _frame: FrameType | None) -> None:
        handle(number)

    before = [(number, signal.signal(number, called)) for number in SIGNALS]
    try:
        yield
    finally:
        for number, handler in before:
            signal.signal(number, handler)


def _is_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


def is_stop_asked() -> bool:
    """Return whether the command that runs here was asked to stop; never outside `stop_on_signal`."""
    return _Present.wish is not None and _Present.wish.is_asked


class UntilStopped(Generic[T]):
    """Items one by one, until the command is asked to stop."""

    def __init__(self, items: Iterable[T]) -> None:
        self._items = items
        self.has_more = False
        """Whether items were left."""

    def __iter__(self) -> Iterator[T]:
        for item in self._items:
            self.has_more = is_stop_asked()
            if self.has_more:
                return
            yield item
