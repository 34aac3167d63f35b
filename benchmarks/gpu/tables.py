"""What `make gpu` prints, and what it keeps of the tests."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from benchmarks.gpu.parts import Outcome
from benchmarks.gpu.sizes import Row

MOST_CHARACTERS = 100
"""Of a cell; the whole stands in the file."""
SLOWEST = 5


def condensed(rows: Sequence[Row]) -> list[Row]:
    """Return the outcomes of tests: a row for each file, for each one that failed, for what was skipped of a file and why, for the slowest."""
    passed = [row for row in rows if row["outcome"] == "passed"]
    slowest = sorted(passed, key=lambda row: -row["seconds"])[:SLOWEST]
    failed = [row for row in rows if row["outcome"] == "failed"]
    return [*_files(rows), *failed, *_skipped(rows), *slowest]


def _files(rows: Sequence[Row]) -> Iterable[Row]:
    for file in dict.fromkeys(_file_of(row) for row in rows):
        own = [row for row in rows if _file_of(row) == file]
        outcomes = Counter(row["outcome"] for row in own)
        counts = {name: outcomes[name] for name in ("passed", "failed", "skipped")}
        yield {"file": file, "seconds": round(sum(row.get("seconds", 0.0) for row in own), 1)} | counts


def _skipped(rows: Sequence[Row]) -> Iterable[Row]:
    reasons = Counter((_file_of(row), row["skipped"]) for row in rows if row["outcome"] == "skipped")
    for (file, reason), count in reasons.items():
        yield {"file": file, "skipped": reason, "tests": count}


def _file_of(row: Row) -> str:
    return str(row["test"]).partition("::")[0]


def shown(name: str, outcome: Outcome) -> str:
    """Return a part as text: what came of it, and a table."""
    heading = f"== {name}: {outcome.status}, {outcome.seconds:g} s, {len(outcome.rows)} rows"
    note = [f"   {line}" for line in outcome.note.splitlines()]
    return "\n".join([heading, *note, *table(outcome.rows)])


def table(rows: Sequence[Row]) -> list[str]:
    """Return rows as lines of aligned columns, one block for each set of columns that follow each other."""
    lines: list[str] = []
    start = 0
    for end in range(1, len(rows) + 1):
        if end == len(rows) or list(rows[end]) != list(rows[start]):
            lines += _block(rows[start:end])
            start = end
    return lines


def _block(rows: Sequence[Row]) -> list[str]:
    names = list(rows[0])
    cells = [names]
    for row in rows:
        cells.append([_cell(row[name]) for name in names])
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = [""]
    for line in cells:
        padded = [cell.ljust(width) for cell, width in zip(line, widths, strict=True)]
        lines.append("  ".join(padded).rstrip())
    return lines


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    # The first line of an error says what it is; of a test's report the last one does.
    lines = text.strip().splitlines() or [""]
    return lines[-1][:MOST_CHARACTERS]
