"""Asking a process of a study to leave: by SIGTERM, or because the one that started it is gone."""

import os
import signal
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

GREETING = b"local\n"
"""First line on the standard input of a worker that is to end with it; any other input means nothing."""


@dataclass
class Leave:
    """Whether this process is to leave; no event, whose lock a signal could find held by the thread that it interrupts."""

    is_asked: bool = False

    def ask(self) -> None:
        """Ask it to."""
        self.is_asked = True


@contextmanager
def leaving_on_signal() -> Iterator[Leave]:
    """Turn SIGTERM into a wish meanwhile, where signals can be caught (the main thread)."""
    leave = Leave()
    if threading.current_thread() is not threading.main_thread():
        yield leave
        return
    before = signal.signal(signal.SIGTERM, lambda *_: leave.ask())
    try:
        yield leave
    finally:
        signal.signal(signal.SIGTERM, before)


def leave_with_parent(leave: Leave, descriptor: int) -> None:
    """Ask a process to leave once the coordinator that started it is gone, however it went: the system closes the pipe between them.

    Args:
        leave: what to ask.
        descriptor: of the standard input; if it is no pipe, or does not begin with `GREETING`, nobody is waited for.
    """
    if _is_pipe(descriptor):
        threading.Thread(target=_wait_for_end, args=(leave, descriptor), daemon=True).start()


def _wait_for_end(leave: Leave, descriptor: int) -> None:
    # Not through sys.stdin, whose lock Python wants at its end.
    if os.read(descriptor, len(GREETING)) != GREETING:
        return
    while os.read(descriptor, 1):
        pass
    leave.ask()


def _is_pipe(descriptor: int) -> bool:
    try:
        return stat.S_ISFIFO(os.fstat(descriptor).st_mode)
    except OSError:
        # Services may be started without a standard input.
        return False
