"""What a machine is: measured here, and judged by the checks."""

import importlib
import os
import resource
import shutil
import sqlite3
import subprocess
import warnings
from collections.abc import Sequence
from contextlib import closing
from importlib import metadata
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

import psutil
from packaging.requirements import Requirement

from tumorseg.errors import StorageError
from tumorseg.stages.watching.checks.folders import FolderFacts
from tumorseg.stages.watching.checks.gpu import Device, Gpus
from tumorseg.stages.watching.checks.processor import Cores, Memory
from tumorseg.storage.probes import nearest, probe_folder
from tumorseg.workers.machine import available_bytes, num_cores

PACKAGE = "tumorseg"
SHARED = Path("/dev/shm")
CGROUP = Path("/sys/fs/cgroup")
DRIVER_SECONDS = 20
"""Longer than this nobody waits for a driver."""
LOCK_SECONDS = 1.0
"""For so long somebody may be writing to a database."""
SQLITE = "sqlite:///"
"""Beginning of the address of a database that is a file."""


class Packages(NamedTuple):
    """Installed packages."""

    installed: dict[str, str]
    """Version by name, of those that are required."""
    requirements: list[str] | None
    """As the package states them; None if it is not installed itself."""
    python: str | None
    """Versions of Python that it supports."""


def measure_packages() -> Packages:
    """Return the packages that are installed, without importing any."""
    try:
        own = metadata.metadata(PACKAGE)
        requirements = metadata.requires(PACKAGE) or []
    except metadata.PackageNotFoundError:
        return Packages({}, None, None)
    installed = {}
    for requirement in requirements:
        name = Requirement(requirement).name
        try:
            installed[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return Packages(installed, requirements, own["Requires-Python"])


def measure_cores(root: Path = CGROUP) -> Cores:
    """Return cores; `root` holds the control groups of this process."""
    return Cores(total=os.cpu_count() or 1, usable=num_cores(), quota=_quota(root))


def _quota(root: Path) -> float | None:
    """Return how many cores' time a container has, by its control group of version 2 or 1; None: no limit."""
    version_1 = (root / "cpu" / "cpu.cfs_quota_us", root / "cpu" / "cpu.cfs_period_us")
    for files in ((root / "cpu.max",), version_1):
        try:
            fields = " ".join(path.read_text() for path in files).split()
            quota, period = int(fields[0]), int(fields[1])
        except (OSError, ValueError, IndexError):  # no such file, or `max`: no limit
            continue
        if quota > 0 and period > 0:
            return quota / period
    return None


def measure_memory() -> Memory:
    """Return memory, in bytes."""
    shared = shutil.disk_usage(SHARED).total if SHARED.is_dir() else None
    return Memory(total=psutil.virtual_memory().total, available=available_bytes(), shared=shared)


def open_files_limit() -> int | None:
    """Return how many files a process may have open; None: no limit."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return None if limit == resource.RLIM_INFINITY else limit


def measure_gpus() -> Gpus:
    """Return what the driver and torch say of GPUs; imports torch, which takes seconds, and may fail."""
    driver, driver_failure = _ask_driver()
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    failure = _torch_failure()
    if failure:
        return Gpus(driver, driver_failure, build=None, visible=visible, failure=failure)
    import torch

    with warnings.catch_warnings(record=True) as caught:
        # A driver that is too old is told of in a warning.
        warnings.simplefilter("always")
        devices = tuple(map(_device, range(torch.cuda.device_count()))) if torch.cuda.is_available() else ()
        architectures = torch.cuda.get_arch_list() if devices else []
    told = [str(one.message).splitlines()[0] for one in caught]
    cudnn, failure = _cudnn_version() if devices else (None, "")
    return Gpus(
        driver,
        driver_failure,
        build=torch.version.cuda,
        devices=devices,
        architectures=architectures,
        warning=told[0] if told else "",
        visible=visible,
        cudnn=cudnn,
        failure=failure,
    )


def _torch_failure() -> str:
    """Return why torch cannot be imported; nothing if it can."""
    try:
        # Of a torch that is half removed, the name alone can still be imported.
        importlib.import_module("torch.cuda")
    # The second where a library is missing, the last where torch looks for one of CUDA's by itself.
    except (ImportError, OSError, ValueError) as error:
        return f"torch cannot be imported: {' '.join(str(error).split())}"
    return ""


def _device(index: int) -> Device:
    import torch

    found = torch.cuda.get_device_properties(index)
    try:
        free, total = torch.cuda.mem_get_info(index)
    except RuntimeError:  # others have filled it, so that not even a context fits
        free, total = 0, found.total_memory
    return Device(found.name, (found.major, found.minor), total_bytes=total, free_bytes=free)


def _ask_driver() -> tuple[Sequence[str] | None, str]:
    """Return the GPUs that the driver lists, None without one, and what it says if it fails."""
    if shutil.which("nvidia-smi") is None:
        return None, ""
    command = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=DRIVER_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return [], f"no answer in {DRIVER_SECONDS} s"
    except OSError as error:
        return [], str(error)
    if done.returncode != 0:
        lines = (done.stdout + done.stderr).strip().splitlines()
        return [], lines[-1] if lines else f"exit code {done.returncode}"
    return [f"{line} (driver)" for line in done.stdout.strip().splitlines()], ""


def _cudnn_version() -> tuple[str | None, str]:
    """Return the version of cuDNN that torch has loaded, None without one, and why it cannot be loaded."""
    import torch

    try:
        number: int | None = torch.backends.cudnn.version()  # type: ignore[no-untyped-call]
    except RuntimeError as error:  # another version than torch was built for comes first in the path
        return None, f"cuDNN cannot be used: {str(error).partition(chr(10))[0]}"
    return None if number is None else cudnn_text(number), ""


def cudnn_text(number: int) -> str:
    """Return cuDNN's number of its version as people write it: 91002 is 9.10.2, and before version 9 8907 was 8.9.7."""
    scale = 10_000 if number >= 90_000 else 1_000
    return f"{number // scale}.{number % scale // 100}.{number % 100}"


def measure_folder(folder: Path) -> FolderFacts:
    """Try out a folder that is written to, or where it is not there yet the nearest one around it."""
    there = nearest(folder)
    try:
        traits = probe_folder(there)
    except StorageError as error:
        return FolderFacts(str(folder), failure=error.text(file=str(there)))
    entries = os.statvfs(there)
    return FolderFacts(
        str(folder),
        free_bytes=free_bytes(there),
        # A file system without a fixed number of files says that it has none at all.
        free_entries=entries.f_favail if entries.f_files else None,
        **traits._asdict(),
    )


def database_failure(uri: str) -> str:
    """Return why a database that is a file cannot be written; nothing if it can, is not there yet, or is a server's."""
    path = Path(uri.removeprefix(SQLITE))
    if not uri.startswith(SQLITE) or not path.exists():
        return ""
    try:
        with closing(sqlite3.connect(f"file:{quote(str(path))}?mode=rw", uri=True, timeout=LOCK_SECONDS)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("ROLLBACK")
            connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except sqlite3.Error as error:
        return str(error)
    return ""


def free_bytes(folder: Path) -> int:
    """Return what is free on the disk of a folder that is there."""
    return shutil.disk_usage(folder).free
