"""The results of `benchmarks.networks`, part by part in one file."""

import json
from pathlib import Path
from typing import Any

from benchmarks.machine import machine

RESULT = Path(__file__).parent / "results" / "networks.json"


def read_part(part: str) -> list[dict[str, Any]]:
    """Return the rows of a part; none if it has not run."""
    found = json.loads(RESULT.read_text()) if RESULT.is_file() else {}
    rows: list[dict[str, Any]] = found.get(part, {}).get("rows", [])
    return rows


def keep_part(part: str, rows: list[dict[str, Any]]) -> None:
    """Put the rows of a part in the place of those that it had; other parts stay."""
    found = json.loads(RESULT.read_text()) if RESULT.is_file() else {}
    found[part] = {"machine": machine(), "rows": rows}
    RESULT.write_text(json.dumps(found, indent=2, sort_keys=True) + "\n")
