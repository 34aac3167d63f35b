"""Whether cores, memory and settings of the machine let a run go at its speed."""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from tumorseg.schema.health import Check
from tumorseg.schema.quantities import GB, bytes_text

LEAST_MEMORY, USUAL_MEMORY = 2 * GB, 8 * GB
"""Below the one, training a small network does not fit; below the other, few workers do."""
LEAST_SHARED = GB
"""Of /dev/shm, for GPUs that train together; a container has 64 MB by default."""
LEAST_FILES = 1024
"""Files that a process may have open: those of the case store beside the usual ones."""


class Cores(NamedTuple):
    """Processor cores."""

    total: int
    """Of the machine."""
    usable: int
    """That this process may run on."""
    quota: float | None
    """Of processor time that its container has, in cores; None without a limit."""

    @property
    def granted(self) -> int:
        """Cores that a run can keep busy."""
        return self.usable if self.quota is None else min(self.usable, max(int(self.quota), 1))


class Memory(NamedTuple):
    """Main memory, in bytes; None where the system does not tell."""

    total: int | None
    """Of the machine."""
    available: int | None
    """That can still be used, within the limit of the container."""
    shared: int | None
    """Size of /dev/shm."""


def check_cores(cores: Cores, threads: int | None = None) -> Check:
    """Return whether a run has the cores that it sees, or keeps to those that it has.

    Args:
        cores: of the machine and its container.
        threads: that a step on the processor is told to use, if it is.
    """
    found = f"{cores.usable} of {cores.total} cores"
    if cores.quota is not None and cores.quota < cores.usable:
        found, whole = f"{found} are seen, but the container has the time of {cores.quota:g}", cores.granted
        if threads is not None and threads <= whole:
            return Check(name="cores", grade="ok", found=f"{found}, to which OMP_NUM_THREADS={threads} keeps")
        return Check(
            name="cores",
            grade="warning",
            found=f"{found}: threads hold each other up",
            advice=f"give the container more, or set OMP_NUM_THREADS={whole}, or start the command with taskset -c 0-{whole - 1}",
        )
    if cores.usable == 1:
        advice = "give it more cores, if there are any: reading and steps take turns on one"
        return Check(name="cores", grade="note", found=found, advice=advice)
    return Check(name="cores", grade="ok", found=found)


def check_memory(memory: Memory) -> Check:
    """Return whether there is memory for a run."""
    if memory.available is None:
        return Check(name="memory", grade="note", found="the system does not tell how much is available")
    limit = "" if memory.total is None else f" of {bytes_text(memory.total)}"
    found = f"{bytes_text(memory.available)} available{limit}"
    if memory.available < LEAST_MEMORY:
        advice = f"end other programs, or raise the container's limit: {bytes_text(LEAST_MEMORY)} are needed for small networks"
        return Check(name="memory", grade="blocker", found=found, advice=advice)
    if memory.available < USUAL_MEMORY:
        advice = "end other programs, or raise the container's limit: preprocessing and reading will take few workers"
        return Check(name="memory", grade="warning", found=found, advice=advice)
    return Check(name="memory", grade="ok", found=found)


def check_shared_memory(shared: int | None, num_gpus: int) -> Check:
    """Return whether /dev/shm has room for processes that train together.

    References:
        github.com/NVIDIA/nccl/issues/342: a container has 64 MB by default, which is too little.
    """
    if shared is None:
        return Check(
            name="/dev/shm", grade="note", found="there is none; needed only where several GPUs train together"
        )
    found = bytes_text(shared)
    if shared >= LEAST_SHARED or num_gpus < 2:
        return Check(name="/dev/shm", grade="ok", found=found)
    return Check(
        name="/dev/shm",
        grade="warning",
        found=f"{found}; too little for train --num-gpus {num_gpus}",
        advice="start the container with --shm-size=1g, or set NCCL_SHM_DISABLE=1",
    )


def check_open_files(limit: int | None) -> Check:
    """Return whether a process may open enough files; None: there is no limit."""
    found = "no limit" if limit is None else f"{limit} files"
    if limit is not None and limit < LEAST_FILES:
        return Check(name="open files", grade="warning", found=found, advice=f"ulimit -n {LEAST_FILES}")
    return Check(name="open files", grade="ok", found=found)


def num_threads(variables: Mapping[str, str], name: str = "OMP_NUM_THREADS") -> int | None:
    """Return how many threads an environment variable sets, at the outer level; None if it does not."""
    value = variables.get(name, "").partition(",")[0].strip()
    return int(value) if value.isdecimal() else None


def check_environment(variables: Mapping[str, str], cores: int) -> Iterator[Check]:
    """Yield which environment variables slow a run down.

    Args:
        variables: by name.
        cores: that this process may run on, and has the time of.
    """
    slow: list[tuple[str, str]] = []
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        threads = num_threads(variables, name)
        if threads is not None and threads < cores:
            slow.append((name, f"steps on the processor use {threads} of {cores} cores"))
        if threads is not None and threads > cores:
            slow.append((name, f"{threads} threads share {cores} cores, and hold each other up"))
    if variables.get("OMP_WAIT_POLICY", "").lower() == "active":
        slow.append(("OMP_WAIT_POLICY", "threads turn idly on cores that readers want"))
    if variables.get("CUDA_LAUNCH_BLOCKING", "0") not in ("", "0"):
        slow.append(("CUDA_LAUNCH_BLOCKING", "each operation of the GPU is waited for"))
    if variables.get("PYTORCH_NO_CUDA_MEMORY_CACHING", "0") not in ("", "0"):
        slow.append(("PYTORCH_NO_CUDA_MEMORY_CACHING", "each tensor is asked of the driver"))
    for name, what in slow:
        found = f"{name}={variables[name]}: {what}"
        yield Check(name="environment", grade="warning", found=found, advice=f"unset {name}, unless it is meant")
    if not slow:
        yield Check(name="environment", grade="ok", found="no variable slows a run down")
