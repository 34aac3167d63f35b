"""A process of its own in which GDCM decodes pixels, so that damage that crashes it, or keeps it busy for ever, ends that alone.

It lives as long as the process that decodes, ends with it, and is started anew where it died. Pixels go to it and come back through pipes, and
nothing is left on a disk. What GDCM and its codecs write to the terminal, without a file's name, goes nowhere.
"""

import json
import os
import subprocess
import sys
import threading
import weakref
from contextlib import ExitStack, suppress
from io import BytesIO, FileIO
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tumorseg.errors import StorageError
from tumorseg.storage.dicom.decoder_process import ANSWER, DONE, FAILED, LATE, READY, REQUEST

LEAST_S = 30.0
"""Of computing, in which the smallest picture has to be decoded."""
BYTES_PER_S = 1 << 20
"""Decoded at the least beyond that; codecs take a tenth of the time."""
START_S = 600.0
"""In which the process has to be up, on a machine that has much else to do and a slow disk."""
END_S = 10.0
"""In which it has to be gone once it has closed its end."""
MOST_WIDER = 8
"""Bytes of an answer to one that was announced at most: 64 bits for 8."""
THREADS = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"), "1")
"""Environment of a process that decodes one picture at a time; each thread would take addresses."""
_START = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from tumorseg.storage.dicom.decoder_process import serve; serve(int(sys.argv[2]))"
)


class Undecoded(Exception):  # noqa: N818 (it says what was not done)
    """The pixels could not be decoded; its text says why."""


class _Decoder:
    """The process, and the two pipes to it. None of them is buffered, so that a fork copies nothing that is still to be sent."""

    def __init__(self) -> None:
        """Start it.

        Raises:
            StorageError: it does not start.
        """
        try:
            self.process, self.answers = _start()
        except OSError as error:
            raise StorageError(
                f"found no room for a process that decodes DICOM ({error.strerror}); expected memory, and open files, "
                "for one more; end others"
            ) from None
        self.end = weakref.finalize(self, _end, self.process, self.answers)
        if not wait([self.answers.fileno()], START_S) or self.answers.read(len(READY)) != READY:
            self.end()
            raise StorageError(
                f"the process that decodes DICOM did not start (exit code {self.process.returncode}); expected that "
                f"`{sys.executable} -c 'import SimpleITK'` works; install tumorseg anew, or free memory"
            )

    def ask(self, file: memoryview, num_bytes: int, seconds: float) -> NDArray[Any]:
        """Return the pixels of a file, in one row.

        Raises:
            Undecoded: they are damaged, or the process died of them.
            StorageError: there is no room for them.
        """
        with suppress(BrokenPipeError):
            self._send(memoryview(REQUEST.pack(len(file), num_bytes, seconds)))
            self._send(file)
        head = self._receive(ANSWER.size)
        if len(head) == ANSWER.size:
            status, dtype, count = ANSWER.unpack(head)
            if status == FAILED:
                raise Undecoded("cannot be decoded")
            if status != DONE:
                raise StorageError("found no room in memory to decode DICOM; end other processes, or add memory")
            data = self._receive(min(count, MOST_WIDER * num_bytes))
            if len(data) == count:
                return np.frombuffer(data, dtype.rstrip(b"\0").decode())
        raise Undecoded(self._cause(seconds))

    def _cause(self, seconds: float) -> str:
        """Return why there is no answer; the process is ended, if it is not yet."""
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(END_S)
        self.end()
        code = self.process.returncode
        if -code in LATE:
            return f"were not decoded within {seconds:.0f} s"
        return f"stop the decoder ({f'signal {-code}' if code < 0 else f'exit code {code}'})"

    def _send(self, data: memoryview) -> None:
        assert self.process.stdin is not None
        while data:
            data = data[self.process.stdin.write(data) :]

    def _receive(self, count: int) -> bytearray:
        """Return so many bytes; fewer where there are no more."""
        data = bytearray(count)
        view, done = memoryview(data), 0
        while done < count and (added := self.answers.readinto(view[done:])):
            done += added
        return data if done == count else bytearray()


_lock = threading.Lock()
_running: list[_Decoder] = []  # one at most


def decode(dataset: Any, num_bytes: int) -> NDArray[Any]:
    """Return the pixels of a file that holds nothing but them, in one row.

    Args:
        dataset: pydicom's, that is to be written as the file.
        num_bytes: of the pixels once unpacked.

    Raises:
        Undecoded: they are damaged.
        StorageError: the process that decodes does not start, or has no room.
    """
    file = BytesIO()
    dataset.save_as(file, enforce_file_format=True)
    with _lock:
        decoder, is_answered = _decoder(), False
        try:
            pixels = decoder.ask(file.getbuffer(), num_bytes, LEAST_S + num_bytes / BYTES_PER_S)
            is_answered = True
        except Undecoded:
            is_answered = True
            raise
        finally:
            # Whatever came between, such as Ctrl-C, its next answer would be taken for that to the next question.
            if not is_answered:
                _running.clear()
                decoder.end()
        return pixels


def _decoder() -> _Decoder:
    """Return the process, started if there is none that is alive."""
    if not _running or not _running[0].end.alive or _running[0].process.poll() is not None:
        _running[:] = [_Decoder()]
    return _running[0]


def _start() -> tuple["subprocess.Popen[bytes]", FileIO]:
    """Start the process, which answers on a pipe of its own, as libraries print to the usual one."""
    # Modules are to be found where this process finds them, but not in the folder in which it happens to be, where a stranger's data may lie:
    # thus neither `-m` nor paths relative to it, of the environment (`-I`) or its own.
    paths = [*filter(os.path.isabs, sys.path), str(Path(__file__).parents[3])]
    reading, writing = os.pipe()
    with ExitStack() as opened:
        answers = opened.enter_context(FileIO(reading))
        try:
            # A session of its own, lest Ctrl-C ends it in the middle of a case that this process still finishes.
            process = subprocess.Popen(
                [sys.executable, "-I", "-B", "-c", _START, json.dumps(paths), str(writing)],
                bufsize=0,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=(writing,),
                start_new_session=True,
                env={**os.environ, **THREADS},
            )
        finally:
            os.close(writing)
        opened.pop_all()  # it stays open with the process
    return process, answers


def _end(process: "subprocess.Popen[bytes]", answers: FileIO) -> None:
    process.kill()
    process.wait()
    _close(process, answers)


def _close(process: "subprocess.Popen[bytes]", answers: FileIO) -> None:
    assert process.stdin is not None
    process.stdin.close()
    answers.close()


def _forget() -> None:
    """Leave the process to the one that started it; this one was forked from that, perhaps in the middle of a question."""
    global _lock
    _lock = threading.Lock()
    for decoder in _running:
        decoder.end.detach()
        # Or it would not see that its own end of the pipe is closed when its owner dies.
        _close(decoder.process, decoder.answers)
        decoder.process.returncode = 0  # no child of this process
    _running.clear()


os.register_at_fork(after_in_child=_forget)
