"""What the process does in which GDCM decodes pixels: one picture after another, within bounds that the system keeps."""

import os
import resource
import signal
import struct
import sys
import tempfile
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from tumorseg.storage.damage import GDCM

REQUEST = struct.Struct("<QQd")
"""Bytes of the file that follows, of its pixels once unpacked, and seconds."""
ANSWER = struct.Struct("<1s4sQ")
"""What became of it, numpy's name of the pixels' type, and how many bytes of them follow."""
READY, DONE, FAILED, NO_ROOM = b"r", b"d", b"f", b"n"
LATE = (signal.SIGPROF, signal.SIGALRM)
"""What ends the process when its time is over: of computing, and by the clock."""
WAITING = 20
"""Times as long as it may compute, until it is ended by the clock: a machine may be busy, or its disk slow."""
SPARE_BYTES = 1 << 30
"""Of addresses, beyond those that libraries have taken when they are loaded."""
PIECE_BYTES = 1 << 20
"""Of a file that are passed on at a time."""
COPIES = 8
"""Of the pixels that codecs may hold at once, in wider numbers."""
LIBRARY_BYTES = 4 << 30
"""Of addresses that libraries take, where the system does not tell; it is 1 to 2 GB with one thread."""


def serve(descriptor: int) -> None:
    """Decode what comes on standard input until that is closed.

    Args:
        descriptor: where answers go.
    """
    import SimpleITK  # noqa: F401 (before the clock runs, and before addresses are counted)

    for number in LATE:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, LATE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a dump of memory holds a patient's picture
    loaded = _num_addresses()
    requests = sys.stdin.buffer
    with os.fdopen(descriptor, "wb") as answers:
        answers.write(READY)
        answers.flush()
        while len(head := requests.read(REQUEST.size)) == REQUEST.size:
            length, num_bytes, seconds = REQUEST.unpack(head)
            bound(loaded + SPARE_BYTES + COPIES * num_bytes + length, seconds)
            _answer(requests, answers, length)
            bound(None, 0.0)


def bound(num_addresses: int | None, seconds: float) -> None:
    """Let the system end this process when its time is over, even in a codec that never returns.

    Args:
        num_addresses: bytes that it may have; None for as many as before.
        seconds: that it may compute; 0 for ever.
    """
    if num_addresses is not None:
        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        most = num_addresses if hard == resource.RLIM_INFINITY else min(num_addresses, hard)
        resource.setrlimit(resource.RLIMIT_AS, (most, hard))
    signal.setitimer(signal.ITIMER_PROF, seconds)
    signal.setitimer(signal.ITIMER_REAL, WAITING * seconds)


def _num_addresses() -> int:
    """Return the bytes of addresses that this process has."""
    try:
        return int(Path("/proc/self/statm").read_text("ascii").split()[0]) * resource.getpagesize()
    except OSError:
        return LIBRARY_BYTES


def _answer(requests: BinaryIO, answers: BinaryIO, length: int) -> None:
    pixels = np.empty(0, np.uint8)
    try:
        with _nameless_file() as file:
            for start in range(0, length, PIECE_BYTES):
                file.write(requests.read(min(PIECE_BYTES, length - start)))
            file.flush()
            pixels = _read(f"/dev/fd/{file.fileno()}")
        status = DONE
    except GDCM:
        status = FAILED
    except OSError:
        status = NO_ROOM
    answers.write(ANSWER.pack(status, pixels.dtype.str.encode(), pixels.nbytes))
    answers.write(pixels.view(np.uint8).data)
    answers.flush()


def _nameless_file() -> Any:
    """Return a file that nobody has to clear away, whatever becomes of this process; in memory, where the system has such."""
    return os.fdopen(os.memfd_create("pixels"), "w+b") if hasattr(os, "memfd_create") else tempfile.TemporaryFile()


def _read(path: str) -> NDArray[Any]:
    """Return the pixels of a file, in one row."""
    import SimpleITK

    reader: Any = SimpleITK.ImageFileReader()  # type: ignore[no-untyped-call]
    reader.SetFileName(path)
    reader.SetImageIO("GDCMImageIO")
    array: NDArray[Any] = SimpleITK.GetArrayFromImage(reader.Execute())
    return array.ravel()
