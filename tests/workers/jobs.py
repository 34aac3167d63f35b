"""What the tests let workers do; they import this file, so it must not need pytest."""

import os
import signal
import sys
import threading
import time
from multiprocessing.connection import Connection
from typing import Any

from tumorseg.errors import InputError


def double(value: int) -> int:
    return 2 * value


def misbehave(value: Any) -> Any:
    if value == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if value == "exit":
        os._exit(3)
    if value == "user":
        raise InputError("file a.nii.gz is truncated")
    if value == "bug":
        return {}["missing"]
    if value == "unsendable":
        return threading.Lock()
    return value


def grow_and_die(num_bytes: int) -> None:
    held = bytearray(num_bytes)
    held[::4096] = b"x" * len(held[::4096])
    time.sleep(1.2)
    os.kill(os.getpid(), signal.SIGKILL)


def hold_and_count(argument: tuple[int, str]) -> int:
    """Hold some memory for a while, and return how many do so at once."""
    num_bytes, folder = argument
    mark = os.path.join(folder, str(os.getpid()))  # noqa: PTH118
    with open(mark, "w"):  # noqa: PTH123
        pass
    held = bytearray(num_bytes)
    held[::4096] = b"x" * len(held[::4096])
    time.sleep(0.25)
    at_once = len(os.listdir(folder))
    os.remove(mark)  # noqa: PTH107
    return at_once


def nap(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


def thread_setting(name: str) -> str | None:
    return os.environ.get(name)


class Poison:
    """Cannot be rebuilt on the other side, which kills a worker before it is ready."""

    def __call__(self, value: Any) -> Any:
        return value

    def __reduce__(self) -> Any:
        return sys.exit, (7,)


def orphan_parent(folder: str) -> None:
    """Start two long cases, each leaving its process id in the folder."""
    from tumorseg.workers.pool import run_cases

    for _ in run_cases(leave_id_and_nap, [("a", folder), ("b", folder)], num_workers=2):
        pass


def leave_id_and_nap(folder: str) -> None:
    with open(os.path.join(folder, str(os.getpid())), "w"):  # noqa: PTH118, PTH123
        time.sleep(60)


if __name__ == "__main__":
    orphan_parent(sys.argv[1])


def stop_itself(number: int) -> int:
    if number == 1:
        os.kill(os.getpid(), signal.SIGSTOP)
    return number


def stop_while_it_answers(number: int) -> int:
    """Stop this process between the two messages of which an answer consists."""

    def send_bytes(self: Connection, buffer: object) -> None:
        os.kill(os.getpid(), signal.SIGSTOP)

    if number == 1:
        Connection.send_bytes = send_bytes  # type: ignore[method-assign, assignment]
    return number
