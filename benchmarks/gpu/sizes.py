"""How large a run is, and how a device is timed."""

import gc
import math
import time
from collections.abc import Callable
from statistics import median
from typing import Any, NamedTuple

Row = dict[str, Any]
"""One line of a part's table. `skipped` or `failed` say why there is nothing else in it."""
Tell = Callable[[Row], None]
"""Takes a row as soon as it is measured: a part that is cut off keeps what it told."""

GB = 2**30


class MissingError(Exception):
    """Something is not on this machine; the text says what."""


class Size(NamedTuple):
    """Where parts run, and whether this is but a try."""

    device: str
    """`cuda` or `cpu`."""
    is_tiny: bool
    """Whether everything is as small as it can be: the same code in seconds, on a processor too."""
    ends_at: float = math.inf
    """When the part is ended, by the clock `time.monotonic`."""

    def left_s(self) -> float:
        """Return the seconds until then."""
        return self.ends_at - time.monotonic()

    def options(self) -> list[str]:
        """Return the options that say so to a part's own process."""
        return ["--device", self.device, *(["--dry-run"] if self.is_tiny else [])]


class Timing(NamedTuple):
    """What timing a piece of work costs."""

    warm_up: int
    """Runs before the clock: kernels are chosen and memory is reserved in them."""
    least_runs: int
    """Under the clock, however long they take."""
    most_runs: int
    most_s: float
    """No run begins after so many seconds."""


def timing_of(size: Size) -> Timing:
    """Return how often pieces of work are run."""
    return Timing(0, 1, 1, 0.0) if size.is_tiny else Timing(3, 3, 20, 3.0)


def median_seconds(run: Callable[[], object], device: str, timing: Timing) -> float:
    """Return the median time of a piece of work, waiting for the device before and after each run."""
    for _ in range(timing.warm_up):
        run()
    took: list[float] = []
    while len(took) < timing.most_runs and (len(took) < timing.least_runs or sum(took) < timing.most_s):
        wait_for(device)
        began = time.perf_counter()
        run()
        wait_for(device)
        took.append(time.perf_counter() - began)
    return median(took)


def wait_for(device: str) -> None:
    """Wait until a GPU has done all that it was told; a processor has."""
    import torch

    if device != "cpu":
        torch.cuda.synchronize()


def forget(device: str) -> None:
    """Give back the memory of what nobody holds any longer, and count peaks anew, on a GPU."""
    import torch

    if device == "cpu":
        return
    # Networks hold each other in circles, which only the collector undoes.
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()


def peak_gb(device: str) -> dict[str, float]:
    """Return the most that was allocated and reserved since `forget`, in GB; nothing on a processor."""
    import torch

    if device == "cpu":
        return {}
    figures = {"allocated_gb": torch.cuda.max_memory_allocated(), "reserved_gb": torch.cuda.max_memory_reserved()}
    return {name: round(size / GB, 3) for name, size in figures.items()}


def rounded(seconds: float) -> float:
    """Return seconds to four digits."""
    return float(f"{seconds:.4g}")


def attempt(tell: Tell, known: Row, measure: Callable[[], Row], *, size: Size, takes_s: float = 2.0) -> None:
    """Tell a row: what is known of it beforehand, and what measuring it gives, or why that failed or was not begun.

    One variant that does not work on a device, such as one that its compiler refuses, does not take the others with it. All of torch's
    own errors, that of lacking memory included, and ours of a plan or an option are of these types.

    Args:
        tell: takes the row.
        known: of the row beforehand.
        measure: returns the rest.
        size: knows when the part is ended.
        takes_s: what measuring takes at least; with less left it is not begun.
    """
    if size.left_s() < takes_s:
        tell(known | {"skipped": f"no time is left for what takes some {takes_s:g} s"})
        return
    try:
        found = measure()
    except ModuleNotFoundError as error:
        found = {"skipped": lacking(error)}
    except MissingError as error:
        found = {"skipped": str(error)}
    except (RuntimeError, ValueError) as error:
        lines = str(error).strip().splitlines() or [""]
        found = {"failed": f"{type(error).__name__}: {lines[0][:300]}"}
    tell(known | found)


def lacking(error: ModuleNotFoundError) -> str:
    """Return that a package is not installed.

    Raises:
        ModuleNotFoundError: the module is one of this project's own.
    """
    if is_own(error):
        raise error
    return f"{_package(error)} is not installed"


def is_own(error: ModuleNotFoundError) -> bool:
    """Return whether a module is missing that belongs to this project: a fault, and no package to install."""
    return _package(error) in ("", "benchmarks", "tests", "tumorseg")


def _package(error: ModuleNotFoundError) -> str:
    return (error.name or "").partition(".")[0]
