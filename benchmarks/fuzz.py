"""Damaged and hostile inputs for every reader and every document, by mutation of sound ones.

    python -m benchmarks.fuzz                          1,000 more inputs of each target, or as many as an hour allows
        --targets nifti checkpoint                     of these alone
        --inputs 200 --minutes 5                       as many of each at most, and so long at most
        --seed 0                                       from this number on; without it, from where the result file ends
        --jobs 2                                       processes
        --keep FOLDER                                  where inputs that fail are left; runs/fuzz
        --result FILE                                  where the counts go; none: `--result ""`
    python -m benchmarks.fuzz --replay runs/fuzz/nifti-17      read one again that was kept

An input is right if a value comes back, or an error of tumorseg with a message of one line. Everything else is a failure: another
exception, a crash, a hang, memory beyond a bound, a file written or removed elsewhere, a process left behind, a log that a terminal
obeys. Each is left in a folder with what was done to it and the traceback. A row of benchmarks/results/fuzz.json tells how the inputs
of one target ended; a rerun adds rows for the next numbers. docs/decisions/059 says what is covered.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.machine import machine
from tumorseg.schema.base import json_text

RESULT = Path(__file__).parent / "results" / "fuzz.json"


def main() -> int:
    """Run, and return 1 if any input failed."""
    given = _options()
    # One thread: a process that has several cannot be forked safely.
    os.environ["OMP_NUM_THREADS"] = "1"
    sys.dont_write_bytecode = True
    from benchmarks.fuzzing.registry import TARGETS
    from benchmarks.fuzzing.session import Session, Turn

    names = given.targets or list(TARGETS)
    if unknown := set(names) - set(TARGETS):
        raise SystemExit(f"no target is called {', '.join(sorted(unknown))}; there are {', '.join(TARGETS)}")
    with tempfile.TemporaryDirectory(prefix="fuzz-") as work:
        session = Session(TARGETS, Path(work), given.keep)
        if given.replay is not None:
            end = session.replay(given.replay)
            print(f"{end.kind}, {end.seconds:.2f} s, {end.peak_bytes >> 20} MiB more\n{end.text}")
            return 0 if end.is_right else 1
        rows = _Rows(given.result)
        first = {name: rows.following(name) if given.seed is None else given.seed for name in names}

        def finished(turn: Turn, counts: Counter[str]) -> None:
            rows.add(turn.name, turn.first, counts)
            right = counts["value"] + counts["refused"]
            failed = counts.total() - right
            print(
                f"{turn.name}: {turn.first} to {turn.first + counts.total() - 1}, {right} right, {failed} failed",
                flush=True,
            )

        turns = _turns(first, given.inputs, time.monotonic() + 60 * given.minutes)
        session.run((Turn(*turn) for turn in turns), jobs=given.jobs, finished=finished)
    return _report(session, given.keep)


def _turns(first: dict[str, int], inputs: int, last_s: float) -> Iterator[tuple[str, int, int]]:
    """Yield a name, a number and a count, one target after the other, until there are enough or time is up."""
    from benchmarks.fuzzing.session import OF_A_TURN

    for start in range(0, inputs, OF_A_TURN):
        for name, number in first.items():
            if time.monotonic() > last_s:
                return
            yield name, number + start, min(OF_A_TURN, inputs - start)


class _Rows:
    """The result file: a row for numbers of a target that follow each other, on one commit."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        is_there = path is not None and path.is_file()
        self._content: dict[str, Any] = json.loads(path.read_text()) if path is not None and is_there else {"rows": []}
        self._machine = machine()

    def following(self, name: str) -> int:
        """Return the first number of a target that no row has."""
        return max((row["last"] + 1 for row in self._content["rows"] if row["target"] == name), default=0)

    def add(self, name: str, first: int, counts: Counter[str]) -> None:
        """Add how some inputs ended, and write the file."""
        if self._path is None:
            return
        rows: list[dict[str, Any]] = self._content["rows"]
        commit = self._machine["commit"]
        alike = [row for row in rows if (row["target"], row["commit"], row["last"]) == (name, commit, first - 1)]
        if alike:
            row = alike[0]
        else:
            row = {"target": name, "commit": commit, "first": first, "last": first - 1, "inputs": 0, "ends": {}}
            rows.append(row)
        row["inputs"] += counts.total()
        row["last"] = first + counts.total() - 1
        row["ends"] = dict(sorted((Counter(row["ends"]) + counts).items()))
        self._content["machine"] = self._machine
        self._content["inputs"] = sum(row["inputs"] for row in rows)
        self._path.write_text(json_text(self._content))


def _report(session: Any, keep: Path) -> int:
    total, failures = sum((ends.total() for ends in session.ends.values()), 0), session.failures
    print(f"{total} inputs of {len(session.ends)} targets, {len(failures)} failures")
    for looks, count in Counter(f"{failed.name}: {failed.looks}" for failed in failures).most_common():
        print(f"{count:6} {looks}")
    if failures:
        print(f"see {keep}; read one again with python -m benchmarks.fuzz --replay {keep}/NAME")
    return 1 if failures else 0


def _options(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--targets", nargs="+")
    parser.add_argument("--inputs", type=int, default=1000)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--keep", type=Path, default=Path("runs/fuzz"))
    parser.add_argument("--result", type=lambda text: Path(text) if text else None, default=RESULT)
    parser.add_argument("--replay", type=Path)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    raise SystemExit(main())
