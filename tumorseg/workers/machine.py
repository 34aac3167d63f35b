"""Resources of the machine: cores and memory, as far as the system reports them."""

import os
import platform
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

_CPUINFO = Path("/proc/cpuinfo")
_MEMINFO = Path("/proc/meminfo")
_CGROUP = Path("/sys/fs/cgroup")
_BOOT = Path("/proc/sys/kernel/random/boot_id")
STOPPED = ("T", "t")
"""States of a process that a signal or a debugger has stopped."""
GONE = ("Z", "X")
"""States of a process that has ended."""


def num_cores() -> int:
    """Return the number of cores that this process may use."""
    # A scheduler or `taskset` may have left this process fewer cores than the machine has.
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def processor_name() -> str:
    """Return what the processor calls itself, as far as the system tells; else the kind that it is of."""
    try:
        lines = _CPUINFO.read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def available_bytes() -> int | None:
    """Return the memory that can still be used, by the machine and by a container's limit; None if unknown."""
    known = [value for value in (_machine_available(), _container_available()) if value is not None]
    return min(known, default=None)


def peak_bytes(process_id: int) -> int | None:
    """Return the most memory that a running process has held (VmHWM); None if unknown."""
    return _kilobytes(Path(f"/proc/{process_id}/status"), "VmHWM")


def resident_bytes(process_id: int) -> int | None:
    """Return the memory that a running process holds now (VmRSS); None if unknown."""
    return _kilobytes(Path(f"/proc/{process_id}/status"), "VmRSS")


def _machine_available() -> int | None:
    return _kilobytes(_MEMINFO, "MemAvailable")


def _container_available(root: Path = _CGROUP, own: Path = Path("/proc/self/cgroup")) -> int | None:
    """Return what is left under the tightest limit of this process's control groups, of version 1 or 2."""
    limits = map(_left_in, _control_groups(root, own))
    return min((left for left in limits if left is not None), default=None)


def _control_groups(root: Path, own: Path) -> Iterator[Path]:
    """Yield the folders of the memory control groups that a process is in, and of those around them."""
    try:
        lines = own.read_text().splitlines()
    except OSError:
        lines = []
    # Within a container the paths below may be the host's; its own group is what is mounted here.
    yield from (root, root / "memory")
    for line in lines:
        fields = line.split(":", 2)  # number, controllers, path
        if len(fields) != 3:
            continue
        _, controllers, path = fields
        # Version 2 names no controllers; of version 1 each has a hierarchy, and only that of memory counts.
        if controllers and "memory" not in controllers.split(","):
            continue
        base = root / "memory" if controllers else root
        inner = base / path.lstrip("/")
        for folder in (inner, *inner.parents):
            if folder.is_relative_to(base):
                yield folder


def _left_in(folder: Path) -> int | None:
    """Return what a control group may still take; what its page cache holds counts as available. None: no limit."""
    for limit, usage, cache in (
        ("memory.max", "memory.current", "inactive_file"),
        ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    ):
        try:
            # Version 1 says a huge number for no limit; the machine's own figure is below it.
            most, used = int((folder / limit).read_text()), int((folder / usage).read_text())
            statistics = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
            return max(0, most - used + int(statistics.get(cache, 0)))
        except (OSError, ValueError):  # no such file, or `max`: no limit
            continue
    return None


def _kilobytes(path: Path, field: str) -> int | None:
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    return None


class ProcessState(NamedTuple):
    """State of a running process, as the system reports it."""

    letter: str
    """`T` or `t`: stopped; `D`: a thread of it waits for a disk or a network; else as the main thread has it (R, S, …)."""
    cpu_s: float
    """Processor time that it has taken so far."""


def process_state(process_id: int) -> ProcessState | None:
    """Return what a process does; None if it has ended, or the system does not tell.

    References:
        proc_pid_stat(5): field 3 is the state, 14 and 15 are ticks in user and kernel mode.
    """
    fields = _stat_fields(Path(f"/proc/{process_id}/stat"))
    if len(fields) < 13:
        return None
    # The fields begin with the third: each stands three before its number.
    ticks = int(fields[11]) + int(fields[12])
    # The main thread may sleep while another one, which reads, is stuck.
    threads = [_stat_fields(path) for path in Path(f"/proc/{process_id}/task").glob("*/stat")]
    waits = any(found[:1] == ["D"] for found in threads)
    letter = "D" if waits and fields[0] not in STOPPED else fields[0]
    return ProcessState(letter, ticks / os.sysconf("SC_CLK_TCK"))


def started_ticks(process_id: int) -> int | None:
    """Return when the system started a process, in ticks since the system itself was; None if it is gone, or the system does not tell.

    References:
        proc_pid_stat(5): field 22.
    """
    fields = _stat_fields(Path(f"/proc/{process_id}/stat"))
    # A process that has ended and that nobody has asked after is no more than its number.
    return int(fields[19]) if len(fields) > 19 and fields[0] not in GONE else None


def machine_identity() -> str | None:
    """Return what tells one running system, and the process numbers that are seen in it, from another; None if it does not tell."""
    try:
        boot = _BOOT.read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"  # noqa: PTH115 (no file that is there)
    except OSError:
        return None


def _stat_fields(path: Path) -> list[str]:
    """Return the fields after the command, whose name may hold blanks and brackets; none if the process is gone."""
    try:
        return path.read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return []
