"""Running a command and watching what it and its children take of the machine (Linux)."""

import os
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

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
    output: str = field(default="", repr=False)

    def figures(self) -> dict[str, float]:
        """Return the figures in s and MiB."""
        sizes = {
            "parent_mib": self.parent_bytes,
            "largest_child_mib": self.child_bytes,
            "all_processes_mib": self.all_bytes,
        }
        return {"seconds": round(self.seconds, 2), **{name: round(size / MIB) for name, size in sizes.items()}}


def watch(command: Sequence[str], *, environment: Mapping[str, str] | None = None) -> Watched:
    """Run a command to its end.

    Raises:
        RuntimeError: it failed; the message ends with what it said.
    """
    watched = Watched()
    started = time.perf_counter()
    process = subprocess.Popen(
        command, env={**os.environ, **(environment or {})}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    thread = threading.Thread(target=_poll, args=(process, watched))
    thread.start()
    watched.output, errors = process.communicate()
    watched.seconds = time.perf_counter() - started
    thread.join()
    if process.returncode:
        raise RuntimeError(f"{command[:4]} ended with {process.returncode}:\n{errors[-3000:]}")
    return watched


def _poll(process: "subprocess.Popen[str]", watched: Watched) -> None:
    while process.poll() is None:
        children = _descendants(process.pid)
        watched.parent_bytes = max(watched.parent_bytes, _kilobytes(process.pid, "status", "VmHWM"))
        watched.child_bytes = max([watched.child_bytes, *(_kilobytes(child, "status", "VmHWM") for child in children)])
        total = sum(_kilobytes(pid, "smaps_rollup", "Pss") for pid in (process.pid, *children))
        watched.all_bytes = max(watched.all_bytes, total)
        time.sleep(POLL_S)


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
