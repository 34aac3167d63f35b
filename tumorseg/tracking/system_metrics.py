"""The load of the machine while a training runs, under the names that MLflow's page of system metrics shows."""

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

MB = 1e6
QUERY = "index,utilization.gpu,memory.used,power.draw"
GPU_FIELDS = ("utilization_percentage", "memory_usage_megabytes", "power_usage_watts")
GPU_SECONDS = 5


def sample_system(process: int | None, folder: Path) -> dict[str, float]:
    """Measure processors, memory, disk and GPUs.

    Args:
        process: id of the training's, whose memory is measured with that of its children, except this process.
        folder: on the disk that is measured.

    Returns:
        Values by name, and the Unix time as `time`.
    """
    memory, disk = psutil.virtual_memory(), psutil.disk_usage(str(folder))
    found = {
        "time": time.time(),
        # Since the sample before.
        "cpu_utilization_percentage": psutil.cpu_percent(),
        "system_memory_usage_megabytes": memory.used / MB,
        "system_memory_usage_percentage": memory.percent,
        "disk_usage_percentage": disk.percent,
    }
    if process is not None and (held := _held_bytes(process)):
        found["training_memory_megabytes"] = held / MB
    return found | dict(_gpus())


def _held_bytes(process: int) -> int:
    """Return the resident memory of a process and its children but this one; 0 if it is gone."""
    try:
        root = psutil.Process(process)
        members = [root, *root.children(recursive=True)]
    except psutil.Error:
        return 0
    total = 0
    for member in members:
        if member.pid == os.getpid():
            continue
        try:
            total += member.memory_info().rss
        except psutil.Error:  # it ended meanwhile
            continue
    return total


def _gpus() -> Iterator[tuple[str, float]]:
    command = ["nvidia-smi", f"--query-gpu={QUERY}", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=GPU_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return
    for line in done.stdout.splitlines() if done.returncode == 0 else ():
        index, *values = line.split(",")
        for field, value in zip(GPU_FIELDS, values, strict=False):
            # A card that does not measure one says "[N/A]".
            if value.strip().replace(".", "", 1).isdigit():
                yield f"gpu_{index.strip()}_{field}", float(value)
