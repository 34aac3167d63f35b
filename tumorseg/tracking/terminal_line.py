"""A line on a terminal that is drawn over and over, with log messages above it."""

import logging
import os
import sys
import time

import click

DRAW_EVERY_S = 0.1
"""Least time between two drawings."""


class TerminalLine(logging.Filter):
    """The last line of a terminal, on stderr; whatever is logged meanwhile wipes it first and stands above it."""

    def __init__(self) -> None:
        """Begin to look after what is logged to the terminal."""
        super().__init__()
        self._width, self._last = 0, 0.0
        handlers = [one for one in logging.getLogger().handlers if isinstance(one, logging.StreamHandler)]
        self._handlers = [handler for handler in handlers if handler.stream is sys.stderr]
        for handler in self._handlers:
            handler.addFilter(self)

    def filter(self, record: logging.LogRecord) -> bool:
        """Wipe the line before a message is written; the next drawing brings it back."""
        self.wipe()
        return True

    def is_due(self) -> bool:
        """Return whether the last drawing is old enough for another one."""
        return time.monotonic() - self._last >= DRAW_EVERY_S

    def draw(self, text: str) -> None:
        """Draw a text, cut to the width of the terminal: a longer line would wrap, and could not be drawn over."""
        self._last = time.monotonic()
        line = text[: num_columns() - 1]
        # Blanks over what is left of a longer line.
        click.echo(f"\r{line:{self._width}}", nl=False, err=True)
        self._width = len(line)

    def wipe(self) -> None:
        """Leave an empty line, with the cursor at its beginning."""
        if self._width:
            click.echo(f"\r{'':{self._width}}\r", nl=False, err=True)
        self._width, self._last = 0, 0.0

    def leave(self) -> None:
        """Leave the line as it stands, if one was drawn, and go below it."""
        if self._width:
            click.echo(err=True)
        self._width, self._last = 0, 0.0

    def end(self) -> None:
        """Leave the line, and no longer look after what is logged."""
        self.leave()
        for handler in self._handlers:
            handler.removeFilter(self)


def num_columns() -> int:
    """Return how wide the terminal of stderr is."""
    # A terminal may not know its size, and say 0.
    return os.get_terminal_size(sys.stderr.fileno()).columns or 80
