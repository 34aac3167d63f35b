"""The worker's side: take a case, work, answer, until the parent hangs up."""

import os
import signal
import threading
from collections.abc import Callable
from multiprocessing import connection as mp_connection
from multiprocessing import parent_process
from multiprocessing.connection import Connection
from multiprocessing.reduction import ForkingPickler
from pickle import PicklingError
from typing import Any

from tumorseg.workers.outcomes import Failure, attempt

READY = "ready"
"""First message of a worker, once it has started and imported the function."""

VALUE = "value"
"""Says that the next message is a case's value."""


def main(connection: Connection, function: Callable[[Any], Any]) -> None:
    """Serve cases in a process of its own, which ends with its parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides
    threading.Thread(target=_end_with_parent, daemon=True).start()
    serve(connection, function)


def serve(connection: Connection, function: Callable[[Any], Any]) -> None:
    """Answer (case_id, argument) messages with a `Failure`, or `VALUE` and then the value, until the pipe closes."""

    def call(argument: Any) -> memoryview:
        # Within the attempt: a value that cannot be sent fails its case, not the worker.
        return encode(function(argument), "the result")

    try:
        connection.send(READY)
        while True:
            case_id, argument = connection.recv()
            outcome = attempt(call, case_id, argument)
            if isinstance(outcome, Failure):
                connection.send(outcome)
            else:
                connection.send(VALUE)
                connection.send_bytes(outcome.value)
    except (EOFError, BrokenPipeError, ConnectionResetError):  # the parent has hung up
        return


def encode(value: Any, what: str) -> memoryview:
    """Return the bytes that the other side's `recv` turns back into the value.

    Raises:
        TypeError: the value cannot be sent to another process.
    """
    try:
        return ForkingPickler.dumps(value)
    except (PicklingError, AttributeError, TypeError, ValueError, RecursionError) as error:
        raise TypeError(
            f"{what} cannot be sent between processes: {error}; functions must stand at the top of a module, values must be plain data"
        ) from error


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        mp_connection.wait([parent.sentinel])
        # At once and from this thread: the main one may be deep in a case that nobody waits for any more.
        os._exit(1)
