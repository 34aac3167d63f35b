"""Asking a process of a study to leave: by a signal, or because the one that started it is gone."""

import os
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from tumorseg.stages.opening.stopping import Wish, stop_on_signal

GREETING = b"local\n"
"""First line on the standard input of a worker that is to end with it; any other input means nothing."""


@contextmanager
def leaving_on_signal() -> Iterator[Wish]:
    """Turn SIGTERM and SIGUSR1 into a wish meanwhile, where signals can be caught (the main thread); elsewhere it is the thread's own."""
    if threading.current_thread() is not threading.main_thread():
        yield Wish()
        return
    # The same that preprocessing and prediction ask for, so that a task is left there too.
    with stop_on_signal() as wish:
        yield wish


def leave_with_parent(leave: Wish, descriptor: int) -> None:
    """Ask a process to leave once the coordinator that started it is gone, however it went: the system closes the pipe between them.

    Args:
        leave: what to ask.
        descriptor: of the standard input; if it is no pipe, or does not begin with `GREETING`, nobody is waited for.
    """
    if _is_pipe(descriptor):
        threading.Thread(target=_wait_for_end, args=(leave, descriptor), daemon=True).start()


def _wait_for_end(leave: Wish, descriptor: int) -> None:
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
