"""Progress: a bar with an ETA on a terminal, plain lines elsewhere; always on stderr."""

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import click

from tumorseg.schema.quantities import bytes_text, duration_text
from tumorseg.storage.disk import WatchBytes

LINE_EVERY_S = 10.0
"""Least time between two plain lines."""
BYTE_BAR_WIDTH = 10
DRAW_EVERY_S = 0.1
"""Least time between two drawings of a bar of bytes."""


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
def progress(title: str, total: int, done: int = 0) -> Iterator[Advance]:
    """Show the progress of a number of steps.

    Args:
        title: what is being done.
        total: number of steps.
        done: steps that were finished before.

    Yields:
        A function to call after each step.
    """
    if _Display.is_quiet:
        yield lambda text="", /: None
    elif sys.stderr.isatty():
        yield from _bar(title, total, done)
    else:
        yield _lines(title, total, done)


class _Pace:
    """Number of steps done, and the time left at the pace of this run's own steps."""

    def __init__(self, total: int, done: int) -> None:
        """Start the clock; steps that were finished before say nothing of the pace."""
        self.count, self._total, self._done, self._started = done, total, done, time.monotonic()

    def step(self) -> str:
        """Count one more step and return the time that is left, or that was taken."""
        self.count += 1
        taken = time.monotonic() - self._started
        if self.count >= self._total:
            return f"took {duration_text(taken)}"
        return f"{duration_text(taken / (self.count - self._done) * (self._total - self.count))} left"


def _bar(title: str, total: int, done: int) -> Iterator[Advance]:
    # A list, so that the functions below share one changing text.
    pace, label = _Pace(total, done), [""]
    # click counts steps of earlier runs into its own estimate, so the time is shown with the text.
    bar: Any = click.progressbar(
        length=total,
        label=title,
        file=sys.stderr,
        show_pos=True,
        show_eta=False,
        item_show_func=lambda _: label[0],
        width=30,
    )
    with bar as shown:
        if done:
            shown.update(done)

        def advance(text: str = "", /) -> None:
            label[0] = f"{pace.step()}  {text}".rstrip()
            shown.update(1, text)

        yield advance


def _lines(title: str, total: int, done: int) -> Callable[..., None]:
    pace, last = _Pace(total, done), [0.0]

    def advance(text: str = "", /) -> None:
        eta, now = pace.step(), time.monotonic()
        if pace.count < total and now - last[0] < LINE_EVERY_S:
            return
        last[0] = now
        click.echo(f"{title}: {pace.count}/{total}, {eta}{'  ' + text if text else ''}", err=True)

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
            shown.end_line()
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
        self._title, self._flow, self._last, self._width = title, _Flow(), 0.0, 0

    def __call__(self, done: int, total: int | None, text: str = "", /) -> None:
        """Draw the line, unless it was drawn a moment ago; a text stands above it from now on."""
        now, state = time.monotonic(), self._flow.text(done, total)
        if text:
            self.end_line()
            click.echo(f"{self._title}: {text}", err=True)
        elif done == total or now - self._last >= DRAW_EVERY_S:
            self._last = now
            line = f"{self._title}  {_bar_of_bytes(done, total)}  {state}"[: _num_columns() - 1]
            # Blanks over what is left of a longer line.
            click.echo(f"\r{line:{self._width}}", nl=False, err=True)
            self._width = len(line)

    def end_line(self) -> None:
        """Leave the line as it stands, if one was drawn."""
        if self._width:
            click.echo(err=True)
        self._width = 0


def _bar_of_bytes(done: int, total: int | None) -> str:
    filled = min(BYTE_BAR_WIDTH * done // total, BYTE_BAR_WIDTH) if total else 0
    return f"[{'#' * filled:-<{BYTE_BAR_WIDTH}}]"


def _num_columns() -> int:
    """Return how wide the terminal is; a longer line would wrap, and could not be drawn over."""
    # A terminal may not know its size, and say 0.
    return os.get_terminal_size(sys.stderr.fileno()).columns or 80
