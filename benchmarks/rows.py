"""Results that grow by a row at a time, so that a run that was cut off goes on."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a result; none if there is no such file yet."""
    if not path.is_file():
        return []
    rows: list[dict[str, Any]] = json.loads(path.read_text())["rows"]
    return rows


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]], summary: Mapping[str, Any] | None = None) -> None:
    """Write all rows, a line each, and what they come to."""
    lines = ",\n".join(json.dumps(row, sort_keys=True) for row in rows)
    ending = "" if summary is None else f',\n"summary": {json.dumps(summary, indent=1, sort_keys=True)}'
    path.write_text(f'{{"rows": [\n{lines}\n]{ending}}}\n')
