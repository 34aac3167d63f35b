"""What the machine has to offer: cores and memory, as far as the system tells."""

import os
from pathlib import Path

GB = 2**30
_MEMINFO = Path("/proc/meminfo")
_CGROUP = Path("/sys/fs/cgroup")


def num_cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


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


def _container_available(root: Path = _CGROUP) -> int | None:
    """Read a version 2 control group; what its page cache holds counts as available."""
    try:
        limit, used = (root / "memory.max").read_text(), (root / "memory.current").read_text()
        statistics = dict(line.split() for line in (root / "memory.stat").read_text().splitlines())
        return max(0, int(limit) - int(used) + int(statistics.get("inactive_file", 0)))
    except (OSError, ValueError):  # no such file, or `max`: no limit
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
