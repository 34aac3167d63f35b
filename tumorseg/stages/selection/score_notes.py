"""Notes of what choices score in each case: a line for each case of a pass, so that a killed `select` goes on."""

import json
import logging
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from threading import Lock
from typing import Any

from tumorseg.schema.base import load_json
from tumorseg.storage.atomic import storage_error

logger = logging.getLogger(__name__)

Scores = Mapping[str, list[float]]
"""Hash of a choice to the DSC of each label or region."""


class ScoreNotes:
    """A file of notes that one process writes to."""

    def __init__(self, path: Path) -> None:
        """Take up a file, which need not be there; a last line that a kill has cut short is removed.

        Raises:
            StorageError: it cannot be read or written.
        """
        self._path, self._lock = path, Lock()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("a+b") as file:
                file.seek(0)
                sound = sum(len(line) for line in file if line.endswith(b"\n"))
                file.truncate(sound)
        except OSError as error:
            raise storage_error(path, error) from error

    def read(self, num_names: int) -> Iterator[tuple[str, Scores]]:
        """Yield what was noted: a case_id and its scores; cases come as often as they were noted.

        Damaged lines are passed over with one warning: what they told is found out again.

        Args:
            num_names: labels or regions that each choice has scores of.
        """
        damaged = []
        with self._path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                try:
                    parsed = _parsed(line, num_names)
                except (ValueError, TypeError, AttributeError):
                    damaged.append(number)
                else:
                    yield parsed
        if damaged:
            logger.warning(
                "%s: %d damaged lines, the first of which is line %d; their cases are scored again",
                self._path,
                len(damaged),
                damaged[0],
            )

    def add(self, case_id: str, scores: Scores) -> None:
        """Note what choices score in a case; may be called from several threads.

        Raises:
            StorageError: the disk is full.
        """
        line = json.dumps([case_id, scores], sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
        with self._lock:
            try:
                # Opened each time, so that no descriptor outlives the run. What a kill cuts short is no line.
                with self._path.open("ab", buffering=0) as file:
                    size = file.tell()
                    _write(file.fileno(), f"{line}\n".encode(), size)
            except OSError as error:
                raise storage_error(self._path, error) from error


def _write(descriptor: int, line: bytes, size: int) -> None:
    """Append a line as a whole, or leave the file as it was."""
    try:
        left = memoryview(line)
        while left:
            left = left[os.write(descriptor, left) :]
        os.fsync(descriptor)
    except OSError:
        os.ftruncate(descriptor, size)
        raise


def _parsed(line: bytes, num_names: int) -> tuple[str, Scores]:
    """Return what a line tells.

    Raises:
        ValueError, TypeError, AttributeError: it is damaged.
    """
    value: Any = load_json(line.decode())
    case_id, found = value
    scores = {str(key): [float(one) for one in row] for key, row in found.items()}
    for row in scores.values():
        if len(row) != num_names or not all(0 <= one <= 1 for one in row):
            raise ValueError("no DSC of each name")
    return str(case_id), scores
