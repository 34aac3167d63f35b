"""Warnings about files that are read: logged, or captured by a command that reports them otherwise."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import NamedTuple

logger = logging.getLogger(__name__)


class FileWarning(NamedTuple):
    """Something to know of a file that does not keep it from being read."""

    file: str
    """The file, or the folder of a series; the first of several that make up one label."""
    reason: str
    """What was found, without the file."""
    source: str
    """What the reader of a log knows the file by: its path, or those of all that make up one label."""

    @property
    def text(self) -> str:
        """Return the line of the log."""
        return f"{self.source}: {self.reason}"


_captured: ContextVar[list[FileWarning] | None] = ContextVar("captured", default=None)


def warn(file: str | Path, reason: str, *, source: str | None = None) -> None:
    """Log a warning about a file, unless warnings are captured here.

    Args:
        file: the file, or the first of several.
        reason: what was found, without the file.
        source: what the line of the log begins with; `file` if None.
    """
    warning = FileWarning(str(file), reason, source or str(file))
    if (captured := _captured.get()) is not None:
        captured.append(warning)
    else:
        logger.warning("%s", warning.text)


@contextmanager
def captured_warnings() -> Iterator[list[FileWarning]]:
    """Capture the warnings about files in this block and thread, instead of logging them."""
    captured: list[FileWarning] = []
    token = _captured.set(captured)
    try:
        yield captured
    finally:
        _captured.reset(token)
