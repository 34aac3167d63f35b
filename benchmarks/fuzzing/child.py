"""The process in which inputs are read: within limits of memory, time and place, and watched while it does."""

import ctypes
import logging
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.fuzzing.inputs import Files, Input, make_inputs, read_files, write_input
from benchmarks.fuzzing.messages import control_signs, message_fault
from benchmarks.fuzzing.targets import Target
from tumorseg.cli.main import Escaping
from tumorseg.errors import TumorsegError

MOST_BYTES = 512 << 20
"""What reading an input of some kilobytes may take beside what the process holds; claims of more are to be refused."""
MOST_CPU_S = 10
PR_SET_PDEATHSIG = 1
"""As the system calls it in <sys/prctl.h>."""
SHOWN = Escaping()
"""Makes the lines that the command line writes."""
CHILDREN_S = 5.0
"""How long children of the reader may take to end after it has returned."""
STARTS_CODE = (
    "subprocess.Popen",
    "os.system",
    "os.exec",
    "os.posix_spawn",
    "os.spawn",
    "os.startfile",
    "socket.connect",
)
LASTING = ("multiprocessing.resource_tracker", "tumorseg.storage.dicom.decoder")
"""Processes that serve one reading after another, and end with the process that started them."""
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
WRITES = {
    "os.mkdir": ((0, 2),),
    "os.rename": ((0, 2), (1, 3)),
    "os.remove": ((0, 1),),
    "os.rmdir": ((0, 1),),
    "os.link": ((1, 3),),
    "os.symlink": ((1, 2),),
    "os.truncate": ((0, None),),
    "os.chmod": ((0, 2),),
    "os.chown": ((0, 3),),
    "os.utime": ((0, 3),),
}
"""What the interpreter tells of before it changes the file system: which arguments are what is changed, and the folder that it is relative to."""


class End(NamedTuple):
    """What became of an input."""

    kind: str
    """`value` and `refused` are right; anything else is a failure."""
    text: str = ""
    """Of a refusal its message, of a failure what shows where."""
    peak_bytes: int = 0
    seconds: float = 0.0
    steps: tuple[str, ...] = ()
    sound: Sequence[Files] = ()
    """What sound folders hold, of a process that says that it is ready."""

    @property
    def is_right(self) -> bool:
        """Return whether an input may end so."""
        return self.kind in ("value", "refused")


class Watch(logging.Handler):
    """What was done, and said, outside what is returned."""

    def __init__(self, *places: Path) -> None:
        super().__init__(logging.DEBUG)
        self.places = [place.resolve() for place in places]
        self.is_on = False
        self.found: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Look at a line of the log: it goes to a terminal."""
        text = record.getMessage()
        if record.name == "py.warnings":
            self.found.append(f"warning\n{text}")
        elif "Traceback (most recent call last)" in text or record.exc_info:
            self.found.append(f"traceback in the log\n{text}")
        elif signs := control_signs(SHOWN.format(record).replace("\n", " ").replace("\t", " ")):
            self.found.append(f"control characters {signs!r} in the log: {text!r}")

    def audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Look at what the interpreter is about to do."""
        if not self.is_on:
            return
        if event == "open":
            path, _, flags = arguments
            if isinstance(flags, int) and flags & WRITING:
                self._look(event, path)
        elif event in WRITES:
            for position, folder in WRITES[event]:
                self._look(event, arguments[position], -1 if folder is None else arguments[folder])
        elif event.startswith(STARTS_CODE) and arguments[0] != sys.executable:
            self.found.append(f"{event} {arguments!r:.300}")

    def _look(self, event: str, path: Any, folder: int = -1) -> None:
        if isinstance(path, int):
            return
        # Only the folder is followed: a link itself is what is removed or renamed.
        start = Path() if folder < 0 else Path(f"/proc/self/fd/{folder}").readlink()
        place = start / os.fsdecode(path)
        real = place.resolve() if event == "open" else place.parent.resolve() / place.name
        if not any(map(real.is_relative_to, self.places)) and real != Path(os.devnull):
            self.found.append(f"escape: {event} {str(real)!r}")


def serve(connection: Connection, name: str, target: Target, place: Path) -> None:
    """Read inputs whose numbers come through a pipe, until it is closed, and answer how each ended.

    Args:
        connection: numbers in, an `End` for each out.
        name: of the target.
        target: what reads.
        place: an empty folder for everything.
    """
    # A group of its own, so that all that is left of it can be ended with it.
    os.setsid()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # With the process that asks, of whose end the pipe does not tell: others that were forked hold it open.
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    _be_quiet()
    os.environ["TMPDIR"] = tempfile.tempdir = os.fspath(place / "tmp")
    (place / "tmp").mkdir()
    sound = sound_folders(target, place / "sound")
    watch = _watched(place)
    _limit_memory()
    connection.send(End("ready", sound=sound))
    while True:
        try:
            number = connection.recv()
        except EOFError:
            return
        if isinstance(number, Input):
            connection.send(_read_one(number, target, place / "input", watch))
        else:
            made = make_inputs(name, number, sound, target.count)
            connection.send(_read_one(made, target, place / "input", watch))


def _be_quiet() -> None:
    """Let libraries say nothing on the terminal."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)


def _watched(place: Path) -> Watch:
    watch = Watch(place / "input", place / "tmp")
    sys.addaudithook(watch.audit)
    logger = logging.getLogger()
    logger.handlers[:] = [watch]
    logging.getLogger("tumorseg").setLevel(logging.DEBUG)
    # They reach the terminal, too, with lines of the code, and are of a place that nobody thought of.
    logging.captureWarnings(True)
    warnings.simplefilter("always", RuntimeWarning)
    return watch


def _limit_memory() -> None:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + 4 * MOST_BYTES
    # Address space is asked for in larger pieces than are used, so that what is used is bounded apart.
    # The soft limit alone: the process that decodes DICOM has one of its own.
    resource.setrlimit(resource.RLIMIT_AS, (most, resource.RLIM_INFINITY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def sound_folders(target: Target, folder: Path) -> Sequence[Files]:
    """Return what the sound folders of a target hold."""
    folder.mkdir()
    target.make(folder)
    found = [read_files(variant) for variant in sorted(folder.iterdir())]
    shutil.rmtree(folder)
    return found


def _read_one(made: Input, target: Target, folder: Path, watch: Watch) -> End:
    folder.mkdir()
    write_input(made, folder)
    before = _listing(folder.parent)
    _reset_peak()
    held, begun = _status("VmRSS"), time.monotonic()
    _limit_seconds()
    watch.found.clear()
    watch.is_on = True
    end = ended(lambda: target.read(folder))
    watch.is_on = False
    end = end._replace(seconds=time.monotonic() - begun, peak_bytes=_status("VmHWM") - held, steps=made.steps)
    end = _looked_at(end, watch, _children())
    shutil.rmtree(folder, ignore_errors=True)
    if end.is_right and (left := _listing(folder.parent) - before):
        return end._replace(kind="escape", text=f"left behind: {sorted(left)}")
    return end


def ended(read: Callable[[], object]) -> End:
    """Call a reader. The bug that it may have is what is looked for, whatever it raises."""
    try:
        read()
    except TumorsegError as error:
        if fault := message_fault(error):
            return End("message", f"{fault}: {str(error)!r:.1500}\n{traceback.format_exc(limit=-4)}")
        return End("refused", str(error))
    except BaseException as error:
        return End(f"traceback {type(error).__name__}", traceback.format_exc()[-6000:])
    return End("value")


def _looked_at(end: End, watch: Watch, children: list[int]) -> End:
    """Return the end, or what is worse than it was."""
    if not end.is_right:
        return end
    if watch.found:
        kind = "escape" if "escape" in watch.found[0] else "log"
        return end._replace(
            kind="code" if watch.found[0].startswith(STARTS_CODE) else kind, text="\n".join(watch.found[:3])
        )
    if end.peak_bytes > MOST_BYTES:
        return end._replace(kind="memory", text=f"took {end.peak_bytes >> 20} MiB; then: {end.kind} {end.text}")
    if children:
        return end._replace(kind="children", text=f"left {len(children)} processes behind")
    return end


def _listing(place: Path) -> set[str]:
    """Return what lies beside the input, one level up included, where a name that leads out would put it."""
    return {os.fspath(path) for folder in (place, place.parent) for path in folder.iterdir() if path.name != "tmp"}


def _children() -> list[int]:
    """Return the processes that this one has started and that do not end, those apart that stay on purpose."""
    last = time.monotonic() + CHILDREN_S
    while True:
        texts = [path.read_text() for path in Path("/proc/self/task").glob("*/children")]
        found = [int(process) for process in " ".join(texts).split()]
        left = [process for process in found if not any(name in _command(process) for name in LASTING)]
        if not left or time.monotonic() > last:
            return left
        time.sleep(0.05)


def _command(process: int) -> str:
    try:
        return Path(f"/proc/{process}/cmdline").read_text(errors="replace")
    except OSError:
        return ""


def _reset_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def _status(name: str) -> int:
    """Return a number of bytes that the system knows of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))


def _limit_seconds() -> None:
    """Let the system end this process after some more seconds of computing."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    soft = int(used.ru_utime + used.ru_stime) + 1 + MOST_CPU_S
    resource.setrlimit(resource.RLIMIT_CPU, (soft, resource.RLIM_INFINITY))
