"""A process of its own in which GDCM decodes pixels, so that damage that crashes it, or keeps it busy for ever, ends that alone.

It lives as long as the process that decodes, ends by itself with it, and is started anew where it died. What GDCM and its codecs write to the
terminal, without a file's name, goes nowhere.
"""

import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import weakref
from contextlib import suppress
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray

from tumorseg.storage.damage import GDCM

DONE, FAILED = "done", "failed"
LEAST_S = 30.0
"""In which the smallest picture has to be decoded, and at first SimpleITK loaded, on a machine that has much else to do."""
BYTES_PER_S = 1 << 20
"""Decoded at the least beyond that; codecs take a tenth of the time."""
LEAST_BYTES = 4 << 30
"""Of addresses that the process may have: SimpleITK's libraries take most of them."""
COPIES = 8
"""Of the pixels that codecs may hold at once, in wider numbers."""
_ANSWER = "pixels.npy"
_START = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from tumorseg.storage.dicom.decoder import serve; serve()"
)


class Undecoded(Exception):  # noqa: N818 (it says what was not done)
    """The pixels could not be decoded; its text says why."""


class _Decoder:
    """The process, and the folder in which files go to it and come back."""

    def __init__(self) -> None:
        self.owner = os.getpid()
        self.folder = tempfile.TemporaryDirectory(prefix="tumorseg-")
        # Not `-m`: modules are to be found where this process finds them. A session of its own, lest Ctrl-C ends it in the middle of a case
        # that this process still finishes.
        self.process = subprocess.Popen(
            [sys.executable, "-c", _START, json.dumps(sys.path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        )
        self.end = weakref.finalize(self, _end, self.process, self.folder)

    def ask(self, path: Path, num_bytes: int, seconds: float) -> NDArray[Any]:
        """Return the pixels of a file.

        Raises:
            Undecoded: they are damaged, or the process died of them.
        """
        request, answers = self.process.stdin, self.process.stdout
        assert request is not None
        assert answers is not None
        try:
            request.write(json.dumps([str(path), num_bytes, seconds]) + "\n")
            request.flush()
            answer = answers.readline().strip()
        except BrokenPipeError:
            answer = ""
        if answer == DONE:
            pixels: NDArray[Any] = np.load(path.with_name(_ANSWER), allow_pickle=False)
            return pixels
        if answer == FAILED:
            raise Undecoded("cannot be decoded")
        code = self.process.wait()
        if code == -signal.SIGALRM:
            raise Undecoded(f"were not decoded within {seconds:.0f} s")
        raise Undecoded(f"stop the decoder ({f'signal {-code}' if code < 0 else f'exit code {code}'})")


_lock = threading.Lock()
_running: list[_Decoder] = []  # one at most


def decode(dataset: Any, num_bytes: int) -> NDArray[Any]:
    """Return the pixels of a file that holds nothing but them.

    Args:
        dataset: pydicom's, that is to be written as the file.
        num_bytes: of the pixels once unpacked.

    Raises:
        Undecoded: they are damaged.
    """
    with _lock:
        decoder = _decoder()
        path = Path(decoder.folder.name) / "pixels.dcm"
        dataset.save_as(path, enforce_file_format=True)
        try:
            return decoder.ask(path, num_bytes, LEAST_S + num_bytes / BYTES_PER_S)
        except Undecoded:
            raise
        except BaseException:
            # Whatever came between, such as Ctrl-C, its next answer would be taken for that to the next question.
            _running.clear()
            decoder.end()
            raise


def _decoder() -> _Decoder:
    """Return the process, started if there is none that is alive and this one's own, not that of one which was forked."""
    if not _running or _running[0].owner != os.getpid() or _running[0].process.poll() is not None:
        _running[:] = [_Decoder()]
    return _running[0]


def _end(process: "subprocess.Popen[str]", folder: "tempfile.TemporaryDirectory[str]") -> None:
    process.kill()
    process.wait()
    for stream in (process.stdin, process.stdout):
        # What was still to be sent can no more be.
        with suppress(OSError):
            if stream is not None:
                stream.close()
    folder.cleanup()


def serve() -> None:
    """Decode what is asked for on standard input until that is closed."""
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    # Libraries print to where answers go.
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    for line in sys.stdin:
        path, num_bytes, seconds = json.loads(line)
        _answer(Path(path), answers, num_bytes=num_bytes, seconds=seconds)


def _answer(path: Path, answers: TextIO, *, num_bytes: int, seconds: float) -> None:
    """Decode a file within bounds that the system keeps, even where a codec never returns: an alarm ends the process."""
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    wanted = LEAST_BYTES + COPIES * num_bytes
    resource.setrlimit(resource.RLIMIT_AS, (wanted if hard == resource.RLIM_INFINITY else min(wanted, hard), hard))
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        np.save(path.with_name(_ANSWER), _read(path))
        answer = DONE
    except GDCM:
        answer = FAILED
    signal.setitimer(signal.ITIMER_REAL, 0)
    print(answer, file=answers, flush=True)


def _read(path: Path) -> NDArray[Any]:
    import SimpleITK

    reader: Any = SimpleITK.ImageFileReader()  # type: ignore[no-untyped-call]
    reader.SetFileName(str(path))
    reader.SetImageIO("GDCMImageIO")
    array: NDArray[Any] = SimpleITK.GetArrayFromImage(reader.Execute())
    return array
