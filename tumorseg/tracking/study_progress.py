"""Progress of a study: trials done, the best so far, and when it will end; a line on a terminal, plain lines elsewhere."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import click

from tumorseg.schema.quantities import duration_text
from tumorseg.tracking.progress import LINE_EVERY_S, is_quiet
from tumorseg.tracking.terminal_line import TerminalLine

Tell = Callable[["Standing"], None]


class Standing(NamedTuple):
    """How a study stands."""

    phase: str
    """What is done: `trials`, or `judging`."""
    num_done: int
    """Trials, or trainings that judge, that are over."""
    total: int | None = None
    """How many there will be; not known if None."""
    best: str = ""
    """The best so far, in words; nothing if there is none."""
    seconds_left: float | None = None
    """Until the time is up; None without a limit."""


@contextmanager
def study_progress(title: str) -> Iterator[Tell]:
    """Show how a study stands.

    Args:
        title: what is being done.

    Yields:
        A function to call with how it stands, as often as one likes.
    """
    if is_quiet():
        yield lambda _: None
    elif sys.stderr.isatty():
        shown = _Line(title)
        try:
            yield shown
        finally:
            shown.end()
    else:
        yield _Lines(title)


class _Pace:
    """The time that is left, by the pace of this run's own steps and by the limit."""

    def __init__(self) -> None:
        self._phase, self._first, self._started = "", 0, 0.0

    def left(self, now: Standing) -> float | None:
        """Return the seconds until the phase ends, whatever ends it first; None where that is not known."""
        # What was done before this run, or in another phase, says nothing of the pace.
        if now.phase != self._phase:
            self._phase, self._first, self._started = now.phase, now.num_done, time.monotonic()
        own = now.num_done - self._first
        found = [] if now.seconds_left is None else [now.seconds_left]
        if now.total is not None and own > 0:
            taken = time.monotonic() - self._started
            found.append(taken / own * max(now.total - now.num_done, 0))
        return min(found, default=None)


def _text(now: Standing, pace: _Pace) -> str:
    count = str(now.num_done) if now.total is None else f"{now.num_done}/{now.total}"
    left = pace.left(now)
    parts = [f"{now.phase} {count}", now.best, "" if left is None else f"{duration_text(max(left, 0.0))} left"]
    return ", ".join(filter(None, parts))


class _Lines:
    """Plain lines: one whenever something is done, but not one a second."""

    def __init__(self, title: str) -> None:
        self._title, self._pace = title, _Pace()
        self._told: tuple[str, int] | None = None
        self._last = 0.0

    def __call__(self, now: Standing) -> None:
        """Write a line, unless nothing was done since the last one, or that was a moment ago."""
        text = _text(now, self._pace)
        state, clock = (now.phase, now.num_done), time.monotonic()
        is_new_phase = self._told is None or self._told[0] != now.phase
        if state == self._told or (clock - self._last < LINE_EVERY_S and not is_new_phase):
            return
        self._told, self._last = state, clock
        click.echo(f"{self._title}: {text}", err=True)


class _Line:
    """A line on a terminal that is drawn over and over."""

    def __init__(self, title: str) -> None:
        self._title, self._pace, self._line = title, _Pace(), TerminalLine()

    def __call__(self, now: Standing) -> None:
        """Draw the line."""
        self._line.draw(f"{self._title}: {_text(now, self._pace)}")

    def end(self) -> None:
        """Leave the line as it stands, if one was drawn."""
        self._line.end()
