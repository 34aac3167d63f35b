"""The parts of `make gpu`, each in a process of its own with a time limit."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from benchmarks.gpu.sizes import Row, Size

ROOT = Path(__file__).parents[2]
"""Of the checkout, below which the parts' modules are found."""
LAST_WORDS = 12
"""Lines of what a part that failed said last."""


class Part(NamedTuple):
    """One of them."""

    name: str
    """Of its module here, whose `measure(size, tell)` tells its rows."""
    limit_s: float
    """Seconds after which it is ended."""


PARTS = (
    Part("environment", 20),
    Part("tests", 240),
    Part("training", 135),
    Part("augmentation", 45),
    Part("feeding", 35),
    Part("prediction", 75),
    Part("losses", 25),
)
"""The most important first: what a lease of a GPU leaves no time for is missed least."""
MOST_S = 580.0
"""Seconds of all parts together: a run of ten minutes that is cut off from outside would not be told what came of it."""


class Outcome(NamedTuple):
    """What came of a part."""

    status: str
    """`done`, `skipped`, `failed` or `over its limit`."""
    seconds: float
    note: str
    """What it lacks, or what it said last."""
    rows: list[Row]
    """As far as it came."""

    @property
    def is_sound(self) -> bool:
        """Return whether nothing failed in it."""
        # The rows of files of tests count those that failed.
        return self.status in ("done", "skipped") and not any(row.get("failed") for row in self.rows)


def run_part(name: str, size: Size, limit_s: float) -> Outcome:
    """Run a part to its end or to its limit; whatever becomes of it, its processes are gone afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        told, said = Path(folder) / "rows.jsonl", Path(folder) / "said.txt"
        options = ["--rows", str(told), "--seconds", str(limit_s), *size.options()]
        command = [sys.executable, "-m", "benchmarks.gpu.part", name, *options]
        began = time.perf_counter()
        code = _exit_code(command, said, limit_s)
        seconds = round(time.perf_counter() - began, 1)
        rows = _read(told)
        note = "\n".join(said.read_text("utf-8", "replace").splitlines()[-LAST_WORDS:])
    if code is None:
        return Outcome("over its limit", seconds, f"ended after {limit_s:g} s", rows)
    if code:
        return Outcome("failed", seconds, note or f"exit code {code}", rows)
    reasons = {row["skipped"] for row in rows if set(row) == {"skipped"}}
    if reasons and len(reasons) == len(rows):
        return Outcome("skipped", seconds, "; ".join(sorted(reasons)), [])
    return Outcome("done", seconds, "", rows)


def _exit_code(command: list[str], said: Path, limit_s: float) -> int | None:
    """Run a command, all it says going to a file; None if it was ended at the limit."""
    with said.open("wb") as file:
        # A group of its own, so that what it starts ends with it.
        process = subprocess.Popen(command, cwd=ROOT, stdout=file, stderr=subprocess.STDOUT, process_group=0)
        try:
            return process.wait(limit_s)
        except subprocess.TimeoutExpired:
            return None
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _read(file: Path) -> list[Row]:
    """Return the rows that were told; the last line of a process that was ended may be half of one."""
    rows = []
    for line in file.read_text("utf-8").splitlines() if file.is_file() else ():
        with suppress(json.JSONDecodeError):
            rows.append(json.loads(line))
    return rows
