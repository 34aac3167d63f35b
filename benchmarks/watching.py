"""Running a command and watching what it and its children take of the machine (Linux)."""

import json
import os
import resource
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

POLL_S = 0.05
MIB = 2**20


@dataclass
class Watched:
    """What a command took."""

    seconds: float = 0.0
    """From its start to its end."""
    parent_bytes: int = 0
    """Most that the command's own process held (VmHWM)."""
    child_bytes: int = 0
    """Most that one of its children held (VmHWM)."""
    all_bytes: int = 0
    """Most that all of them held together, shared pages counted once (PSS)."""
    area_byte_s: float = 0.0
    """Area under the curve of what all of them held together (PSS) over time."""
    cpu_s: float = 0.0
    """Processor time of all of them, of all cores."""
    output: str = field(default="", repr=False)

    def figures(self) -> dict[str, float]:
        """Return the figures in s and MiB."""
        sizes = {
            "parent_mib": self.parent_bytes,
            "largest_child_mib": self.child_bytes,
            "all_processes_mib": self.all_bytes,
        }
        return {"seconds": round(self.seconds, 2), **{name: round(size / MIB) for name, size in sizes.items()}}


def watch(command: Sequence[str], *, environment: Mapping[str, str] | None = None, poll_s: float = POLL_S) -> Watched:
    """Run a command to its end.

    Args:
        command: program and arguments.
        environment: variables beside those of this process.
        poll_s: time between two looks at its memory; a look at GB takes some ms of a core.

    Raises:
        RuntimeError: it failed; the message ends with what it said.
    """
    watched = Watched()
    cpu_before = _cpu_s()
    started = time.perf_counter()
    process = subprocess.Popen(
        command, env={**os.environ, **(environment or {})}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    thread = threading.Thread(target=_poll, args=(process, watched, poll_s))
    thread.start()
    watched.output, errors = process.communicate()
    watched.seconds = time.perf_counter() - started
    thread.join()
    watched.cpu_s = _cpu_s() - cpu_before
    if process.returncode:
        raise RuntimeError(f"{command[:4]} ended with {process.returncode}:\n{errors[-3000:]}")
    return watched


def told_by(watched: Watched) -> Any:
    """Return the JSON of the line of a command's output that holds its result."""
    (line,) = [line for line in watched.output.splitlines() if line.startswith("RESULT")]
    return json.loads(line.removeprefix("RESULT"))


def _cpu_s() -> float:
    """Return the processor time of all children that have ended."""
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    return spent.ru_utime + spent.ru_stime


def _poll(process: "subprocess.Popen[str]", watched: Watched, poll_s: float) -> None:
    looked = time.perf_counter()
    while process.poll() is None:
        children = _descendants(process.pid)
        watched.parent_bytes = max(watched.parent_bytes, _kilobytes(process.pid, "status", "VmHWM"))
        watched.child_bytes = max([watched.child_bytes, *(_kilobytes(child, "status", "VmHWM") for child in children)])
        total = sum(_kilobytes(pid, "smaps_rollup", "Pss") for pid in (process.pid, *children))
        watched.all_bytes = max(watched.all_bytes, total)
        before, looked = looked, time.perf_counter()
        watched.area_byte_s += total * (looked - before)
        time.sleep(poll_s)


def _descendants(pid: int) -> list[int]:
    try:
        children = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []
    return [found for child in children for found in (child, *_descendants(child))]


def _kilobytes(pid: int, file: str, name: str) -> int:
    try:
        lines = Path(f"/proc/{pid}/{file}").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:")), 0)
