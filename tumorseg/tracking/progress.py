"""Progress: a bar with an ETA on a terminal, plain lines elsewhere; always on stderr."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

import click

from tumorseg.schema.quantities import bytes_text, duration_text
from tumorseg.storage.disk import WatchBytes
from tumorseg.tracking.pace import Pace
from tumorseg.tracking.terminal_line import TerminalLine

LINE_EVERY_S = 10.0
"""Least time between two plain lines."""
BAR_WIDTH, BYTE_BAR_WIDTH = 20, 10


class Advance(Protocol):
    """Called once per finished step, with a short text on where things stand."""

    def __call__(self, text: str = "", /) -> None:
        """Count one more step."""
        ...


class _Display:
    """Switch for all displays; set once by the command line."""

    is_quiet = False


def set_quiet(is_quiet: bool) -> None:
    """Show no progress from now on, or show it again."""
    _Display.is_quiet = is_quiet


def is_quiet() -> bool:
    """Return whether no progress is to be shown."""
    return _Display.is_quiet


@contextmanager
def progress(title: str, total: int, done: int = 0, *, pace: Pace | None = None) -> Iterator[Advance]:
    """Show the progress of a number of steps.

    Args:
        title: what is being done.
        total: number of steps.
        done: steps that were finished before.
        pace: counts these steps and estimates the time; by the mean of this run's own steps if None.

    Yields:
        A function to call after each step.
    """
    pace = pace or Pace(total, done)
    if _Display.is_quiet:
        yield lambda text="", /: _count(pace)
    elif sys.stderr.isatty():
        line = TerminalLine()
        try:
            yield _bar(title, pace, line)
        finally:
            line.end()
    else:
        yield _lines(title, pace)


def _count(pace: Pace) -> None:
    pace.step()


def _bar(title: str, pace: Pace, line: TerminalLine) -> Callable[..., None]:
    def draw(text: str) -> None:
        filled = BAR_WIDTH * pace.count // max(pace.total, 1)
        bar = f"[{'#' * min(filled, BAR_WIDTH):-<{BAR_WIDTH}}]"
        line.draw("  ".join(filter(None, (f"{title}  {bar}  {pace.count}/{pace.total}", pace.text(), text))))

    def advance(text: str = "", /) -> None:
        pace.step()
        if pace.count >= pace.total or line.is_due():
            draw(text)

    if pace.count:
        draw("")
    return advance


def _lines(title: str, pace: Pace) -> Callable[..., None]:
    last = [0.0]

    def advance(text: str = "", /) -> None:
        eta, now = pace.step(), time.monotonic()
        if pace.count < pace.total and now - last[0] < LINE_EVERY_S:
            return
        last[0] = now
        click.echo(f"{title}: {pace.count}/{pace.total}, {eta}{'  ' + text if text else ''}", err=True)

    return advance


@contextmanager
def progress_of_bytes(title: str) -> Iterator[WatchBytes]:
    """Show the progress of something that is counted in bytes, and may start again.

    Args:
        title: what is being done.

    Yields:
        A function to call with the bytes that are there, all bytes (None: not known), and a text that is worth a line of its own.
    """
    if _Display.is_quiet:
        yield lambda *_: None
    elif sys.stderr.isatty():
        shown = _ByteBar(title)
        try:
            yield shown
        finally:
            shown.end()
    else:
        yield _ByteLines(title)


class _Flow:
    """Speed of a download, from the bytes of this run alone."""

    def __init__(self) -> None:
        self._first: int | None = None
        self._before, self._started = 0, 0.0

    def text(self, done: int, total: int | None) -> str:
        """Return how much is there, how fast it comes, and when the rest will be there."""
        now = time.monotonic()
        # What was there before this run says nothing of its speed, nor do bytes of an attempt that began again.
        if self._first is None or done < self._before:
            self._first, self._started = done, now
        self._before, taken = done, now - self._started
        speed = (done - self._first) / taken if taken else 0.0
        amount = bytes_text(done, total)
        if done == total:
            return f"{amount}, took {duration_text(taken)}"
        if not speed:
            return amount
        left = f", {duration_text((total - done) / speed)} left" if total is not None else ""
        return f"{amount}, {bytes_text(round(speed))}/s{left}"


class _ByteLines:
    """Plain lines about bytes."""

    def __init__(self, title: str) -> None:
        self._title, self._flow, self._last = title, _Flow(), 0.0

    def __call__(self, done: int, total: int | None, text: str = "", /) -> None:
        """Write a line, unless there was one a moment ago."""
        now, state = time.monotonic(), self._flow.text(done, total)
        if text:
            click.echo(f"{self._title}: {text}", err=True)
        elif done == total or now - self._last >= LINE_EVERY_S:
            self._last = now
            click.echo(f"{self._title}: {state}", err=True)


class _ByteBar:
    """A line on a terminal that is drawn over and over."""

    def __init__(self, title: str) -> None:
        self._title, self._flow, self._line = title, _Flow(), TerminalLine()

    def __call__(self, done: int, total: int | None, text: str = "", /) -> None:
        """Draw the line, unless it was drawn a moment ago; a text stands below what was drawn, and above what will be."""
        state = self._flow.text(done, total)
        if text:
            self._line.leave()
            click.echo(f"{self._title}: {text}", err=True)
        elif done == total or self._line.is_due():
            self._line.draw(f"{self._title}  {_bar_of_bytes(done, total)}  {state}")

    def end(self) -> None:
        """Leave the line as it stands."""
        self._line.end()


def _bar_of_bytes(done: int, total: int | None) -> str:
    filled = min(BYTE_BAR_WIDTH * done // total, BYTE_BAR_WIDTH) if total else 0
    return f"[{'#' * filled:-<{BYTE_BAR_WIDTH}}]"
