"""Every test that is marked `gpu`, in one process: several would share the GPU's memory and time."""

import importlib
import time
from pathlib import Path
from typing import Any

import pytest

from benchmarks.gpu.parts import ROOT
from benchmarks.gpu.sizes import Row, Size, Tell, is_own, lacking, rounded

MARK = "mark.gpu"
SLOW = ("stages", "planning")
"""Folders whose tests train, and those that measure plan after plan: they come last, so that a limit costs few tests."""
OPTIONS = (
    *("-m", "gpu", "-q", "-p", "no:cacheprovider", "--continue-on-collection-errors"),
    # A version of torch that a release is not tested with may warn of what it will drop; that is no failure of this machine's.
    *("-W", "default"),
)
MOST_CHARACTERS = 1500
"""Of what a failed test said."""


class Recorder:
    """A plugin of pytest that tells the outcome of each test as it ends."""

    def __init__(self, tell: Tell) -> None:
        """Tell nothing yet."""
        self._tell = tell
        self._raised: dict[str, BaseException] = {}
        self._began = time.perf_counter()

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_makereport(self, item: Any, call: Any) -> None:
        """Remember what a test raised: the report holds but words."""
        if call.excinfo is not None:
            self._raised[item.nodeid] = call.excinfo.value

    def pytest_exception_interact(self, node: Any, call: Any) -> None:
        """Remember why a file cannot be imported: pytest raises an error of its own because of it."""
        if isinstance(node, pytest.Collector):
            self._raised[node.nodeid] = call.excinfo.value.__cause__ or call.excinfo.value

    def pytest_collectreport(self, report: Any) -> None:
        """Tell of a file that cannot be imported."""
        if report.failed:
            self._tell_broken(report)

    def pytest_runtest_logreport(self, report: Any) -> None:
        """Tell of a test that was run, or of one whose fixture failed or skipped it."""
        seconds = {"seconds": rounded(time.perf_counter() - self._began)}
        if report.failed:
            self._tell_broken(report)
        elif report.skipped:
            # A reason is the last of (file, line, reason).
            self._tell({"test": report.nodeid, "outcome": "skipped", "skipped": str(report.longrepr[-1])})
        elif report.when == "call":
            self._tell({"test": report.nodeid, "outcome": "passed", **seconds})
        if report.when == "teardown":
            # The next test's time, its fixtures' included, begins here.
            self._began = time.perf_counter()

    def _tell_broken(self, report: Any) -> None:
        raised = self._raised.get(report.nodeid)
        row: Row = {"test": report.nodeid, "outcome": "failed"}
        if isinstance(raised, ModuleNotFoundError) and not is_own(raised):
            self._tell(row | {"outcome": "skipped", "skipped": lacking(raised)})
        else:
            self._tell(row | {"failed": report.longreprtext[-MOST_CHARACTERS:]})


def measure(size: Size, tell: Tell) -> None:
    """Run the tests; on a processor they are imported, and skipped.

    Raises:
        RuntimeError: pytest itself failed.
    """
    files = []
    for file in files_with_gpu_tests():
        try:
            import_conftests(file)
        except ModuleNotFoundError as error:
            name = str(file.relative_to(ROOT))
            tell({"test": name, "outcome": "skipped", "skipped": lacking(error)})
        else:
            files.append(str(file))
    code = pytest.main([*OPTIONS, *files], plugins=[Recorder(tell)]) if files else pytest.ExitCode.OK
    if code not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
        raise RuntimeError(f"pytest ended with {code!r}")


def import_conftests(file: Path) -> None:
    """Import what pytest imports before a file of tests: for what is missing there it would run nothing at all.

    Raises:
        ModuleNotFoundError: a package is not installed.
    """
    for folder in file.relative_to(ROOT).parents:
        if (ROOT / folder / "conftest.py").is_file():
            importlib.import_module(".".join((*folder.parts, "conftest")))


def files_with_gpu_tests() -> list[Path]:
    """Return the files that hold such tests, the slow ones last: to import all of the others would take a minute."""
    mark = MARK.encode()
    found = [file for file in (ROOT / "tests").rglob("test_*.py") if mark in file.read_bytes()]
    return sorted(found, key=lambda file: ([folder in file.parts for folder in reversed(SLOW)], file))
