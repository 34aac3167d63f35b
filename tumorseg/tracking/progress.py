"""Progress: a bar with an ETA on a terminal, plain lines elsewhere; always on stderr."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import click

LINE_EVERY_S = 10.0
"""Least time between two plain lines."""


class Advance(Protocol):
    """Called once per finished step, with a short text on where things stand."""

    def __call__(self, text: str = "", /) -> None:
        """Count one more step."""
        ...


class _Display:
    """Whether anything is shown; set once by the command line."""

    is_quiet = False


def set_quiet(is_quiet: bool) -> None:
    """Show no progress from now on, or show it again."""
    _Display.is_quiet = is_quiet


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
    """How far the work is, and how long the rest takes at the pace of this run's own steps."""

    def __init__(self, total: int, done: int) -> None:
        """Start the clock; steps that were finished before say nothing of the pace."""
        self.count, self._total, self._done, self._started = done, total, done, time.monotonic()

    def step(self) -> str:
        """Count one more step and return the time that is left, or that was taken."""
        self.count += 1
        taken = time.monotonic() - self._started
        if self.count >= self._total:
            return f"took {_duration(taken)}"
        return f"{_duration(taken / (self.count - self._done) * (self._total - self.count))} left"


def _bar(title: str, total: int, done: int) -> Iterator[Advance]:
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


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
