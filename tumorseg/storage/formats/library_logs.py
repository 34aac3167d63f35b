"""Messages that libraries log while they read a file, matched to that file.

Their own lines would reach the user without a name. In a block that reads one file they are kept, per thread, and reported once
the file is read; outside of such blocks they go where they always went.
"""

import ctypes
import logging
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

warnings_lock = threading.RLock()
"""To be held wherever warnings are caught: Python keeps what to do with them for the whole process."""

_heard: ContextVar[list[str] | None] = ContextVar("heard", default=None)


class _Diversion(logging.Filter):
    """Keeps what a library's logger is told while a file is read, so that it goes no further."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether a record is to go on."""
        heard = _heard.get()
        if heard is None:
            return True
        if record.levelno >= logging.WARNING:
            heard.append(record.getMessage())
        return False


class WarningCollector(logging.Handler):
    """Keeps the messages of warnings."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a message."""
        self.messages.append(record.getMessage())


_diversion = _Diversion()


def divert(logger: str) -> None:
    """Let `hearing_library` hear a logger; filters of the loggers above it are never asked."""
    logging.getLogger(logger).addFilter(_diversion)


@contextmanager
def hearing_library() -> Iterator[list[str]]:
    """Collect the Python warnings, and what diverted loggers are told, in this block and thread."""
    heard: list[str] = []
    token = _heard.set(heard)
    try:
        with warnings_lock, warnings.catch_warnings(record=True) as caught:
            # Python tells a warning once for a line of code; here each file has to hear it.
            warnings.simplefilter("always")
            yield heard
            heard += [str(warning.message) for warning in caught]
    finally:
        _heard.reset(token)


@contextmanager
def muting_libtiff(library: str) -> Iterator[None]:
    """Keep libtiff from writing what it finds wrong to the terminal, in this block; Pillow raises it as well.

    To be used in `hearing_library`, whose lock keeps others from doing the same meanwhile.

    Args:
        library: path of one that libtiff is linked to.
    """
    try:
        set_handler = ctypes.CDLL(library).TIFFSetErrorHandler
    except (OSError, AttributeError):  # built without it, or into it
        yield
        return
    set_handler.restype, set_handler.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
    handler = set_handler(None)
    try:
        yield
    finally:
        set_handler(handler)


def listening_logger() -> tuple[logging.Logger, list[str]]:
    """Return a logger of nobody else's, for libraries that take one, and the list of what it is told."""
    logger, collector = logging.Logger("library", logging.WARNING), WarningCollector()
    logger.addHandler(collector)
    return logger, collector.messages


def remark(library: str, heard: list[str]) -> str:
    """Return what a library said, on one line."""
    lines = dict.fromkeys(" ".join(line.split()) for line in heard)
    return f"{library} says: {'; '.join(lines)}"
