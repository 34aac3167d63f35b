import gc
import logging
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tumorseg.tracking.progress import set_quiet

REAL = Path(__file__).parents[1].parent / "shared" / "data"

# Child processes that tests start on purpose must not oversubscribe the cores of CI.
os.environ.setdefault("OMP_NUM_THREADS", "2")
# Trainings of tests are not mirrored, unless a test says where to.
os.environ["TUMORSEG_MLFLOW"] = "off"


@pytest.fixture(scope="session")
def real_data() -> Path:
    if not REAL.is_dir():
        pytest.skip(f"no real data beside the checkout ({REAL.name})")
    return REAL


@pytest.fixture(scope="session")
def cuda() -> str:
    import torch

    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    return "cuda"


@pytest.fixture(autouse=True, scope="session")
def _networks_run_by_torch() -> Iterator[None]:
    """Let `auto` be torch: to convert a network for OpenVINO takes longer than most tests; those of engines ask for it by name."""
    from tumorseg.stages.inference.engines import FASTEST

    planned = FASTEST["cpu"]
    FASTEST["cpu"] = "torch"
    yield
    FASTEST["cpu"] = planned


@pytest.fixture(autouse=True, scope="session")
def _nothing_waits_for_the_disk() -> Iterator[None]:
    """Let files be with the system: tests kill processes and cut no power, and a fifth of their time would be spent on it."""
    waiting = os.fsync
    os.fsync = lambda descriptor: None
    yield
    os.fsync = waiting


@pytest.fixture(autouse=True)
def _what_the_command_line_sets_ends_with_the_test() -> Iterator[None]:
    """Put back what a command sets for its whole process: `--quiet` and `-v` would reach whichever test comes next."""
    yield
    set_quiet(False)
    logging.getLogger("tumorseg").setLevel(logging.NOTSET)


def pytest_collection_finish() -> None:
    """Leave the thousands of tests themselves out of each search for garbage."""
    gc.collect()
    gc.freeze()


def pytest_configure() -> None:
    """Let Ctrl-C interrupt: started in the background, a shell has told this process to ignore it, and so its children."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
