"""What the other parts' figures depend on: GPU, driver, versions, and which of this project's packages are there."""

import os
import platform
import re
import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version

from benchmarks.gpu.parts import ROOT
from benchmarks.gpu.sizes import GB, Size, Tell

COMPILERS = ("nvcc", "gcc", "g++", "cc")
QUERY = ("nvidia-smi", "--query-gpu=name,driver_version,pstate,power.limit", "--format=csv,noheader")
BESIDE = ("triton", "cuda-toolkit")
"""Packages that the compiler of torch needs on a GPU."""


def measure(size: Size, tell: Tell) -> None:
    """Tell one fact a row."""
    facts: list[tuple[str, object]] = [
        ("python", platform.python_version()),
        ("system", platform.platform()),
        ("cores", len(os.sched_getaffinity(0))),
    ]
    facts += [("nvidia-smi", line) for line in _said(QUERY)]
    facts += [(name, shutil.which(name) or "not there") for name in COMPILERS]
    facts += [(name, _installed(name)) for name in packages()]
    for what, found in facts:
        tell({"what": what, "found": found})
    # Last: where torch itself is missing, all else is told.
    for what, found in _of_torch(size.device):
        tell({"what": what, "found": found})


def packages() -> list[str]:
    """Return the names of the packages that tumorseg and its tests depend on, as pyproject.toml lists them."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    listed = list(project["dependencies"])
    for extra, needed in project["optional-dependencies"].items():
        # Tools that look at the source run nothing.
        listed += needed if extra != "dev" else []
    names = [re.split(r"[^\w.-]", one, maxsplit=1)[0] for one in listed]
    return [*(name for name in names if name != project["name"]), *BESIDE]


def _installed(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def _said(command: tuple[str, ...]) -> list[str]:
    """Return the lines that a program prints; none where it is not there or fails."""
    if shutil.which(command[0]) is None:
        return []
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=False)
    return [line.strip() for line in done.stdout.splitlines() if done.returncode == 0]


def _of_torch(device: str) -> Iterator[tuple[str, object]]:
    import torch

    yield "torch", str(torch.__version__)
    yield "CUDA of torch", torch.version.cuda
    yield "cuDNN", torch.backends.cudnn.version()  # type: ignore[no-untyped-call]  # torch leaves it without types
    yield "GPUs", torch.cuda.device_count()
    if device == "cpu":
        return
    properties = torch.cuda.get_device_properties(0)
    free, total = torch.cuda.mem_get_info(0)
    yield "GPU", properties.name
    yield "compute capability", f"{properties.major}.{properties.minor}"
    yield "multiprocessors", properties.multi_processor_count
    yield "free of memory, GB", f"{free / GB:.2f} of {total / GB:.2f}"
    yield "bf16", torch.cuda.is_bf16_supported()
