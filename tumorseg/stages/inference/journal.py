"""The journal of a run: what it has done in a folder of predictions, a line for each step, until the record takes it over.

To write the record anew for every case would take as long for the last of 20,000 cases as all their masks.
"""

import json
import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from io import FileIO
from pathlib import Path
from typing import NamedTuple

from tumorseg.errors import TumorsegError
from tumorseg.schema.base import Record, parse_record
from tumorseg.stages.inference.case_report import CaseEntry, RunEntry
from tumorseg.stages.inference.predictions import Made, Predictions
from tumorseg.storage.atomic import storage_error, write_bytes


class Header(Record):
    """The first line: what the run makes."""

    made_by: Predictions
    """A record without cases."""
    run: RunEntry
    """As the report tells it."""
    outputs: str
    """Hash of what is written of each case, which the shards of one command share."""


class Begun(Record):
    """A case whose files are being written, so that they are results of nothing for now."""

    begun: str
    """The case_id."""
    replaceable: dict[str, str | None]
    """All its files: hash, or null for those that are being written."""


class Finished(Record):
    """A case that is done."""

    finished: str
    """The case_id."""
    made: Made
    entry: CaseEntry
    """Of the report."""


class Notes(NamedTuple):
    """What a journal holds."""

    header: Header
    path: Path
    """Its file."""
    steps: Iterator[tuple[int, Begun | Finished]]
    """Each after the first byte of its line; read as they are asked for, from a file that is open."""


class Journal:
    """A journal that is being written."""

    def __init__(self, path: Path, header: Header) -> None:
        """Begin it.

        Raises:
            StorageError: it cannot be written.
        """
        line = _line(header)
        write_bytes(path, line)
        self._path, self._size = path, len(line)

    def note(self, step: Begun | Finished) -> None:
        """Add a line; it is on the disk when this returns.

        Raises:
            StorageError: the disk is full, or the journal is gone; otherwise it is as it was.
        """
        line = _line(step)
        try:
            # Opened each time, so that no descriptor outlives the run; unbuffered, so that what a write leaves over is known.
            with self._path.open("r+b", buffering=0) as file:
                self._write(file, line)
        except OSError as failure:
            raise storage_error(self._path, failure) from failure
        self._size += len(line)

    def _write(self, file: FileIO, line: bytes) -> None:
        # Again, where that was not possible after the last failure: no line may follow a half one.
        file.truncate(self._size)
        file.seek(self._size)
        try:
            written = 0
            # A disk that fills up takes a part of it, and refuses the rest.
            while written < len(line):
                written += file.write(line[written:])
            os.fsync(file.fileno())
        except OSError:
            with suppress(OSError):
                file.truncate(self._size)
            raise


def open_notes(journals: Iterable[Path], error: type[TumorsegError]) -> list[Notes]:
    """Open those journals that are there; another process may let the record take one over at any moment, which then tells the same.

    Raises:
        TumorsegError: of class `error`: as from `read_notes`.
    """
    found = (read_notes(path, error) for path in journals)
    return [notes for notes in found if notes is not None]


def read_notes(path: Path, error: type[TumorsegError]) -> Notes | None:
    """Open a journal, or return None where there is none; a last line that a kill has cut short is left out.

    Raises:
        TumorsegError: of class `error`: it cannot be read, is damaged, or another version of tumorseg wrote it; for a later line
            when that is read.
    """
    lines = _lines(path, error)
    try:
        _, first = next(lines, (0, b""))
    except FileNotFoundError:
        return None
    header = parse_record(Header, first, source=str(path), error=error)
    return Notes(header, path, ((start, _step(line, path, error)) for start, line in lines))


def read_entry(path: Path, start: int, error: type[TumorsegError]) -> CaseEntry:
    """Return the entry of the case that is finished by the line at `start` of a journal.

    Raises:
        TumorsegError: of class `error`: the journal cannot be read, or is damaged.
    """
    try:
        with path.open("rb") as file:
            file.seek(start)
            line = file.readline()
    except OSError as failure:
        raise error(f"cannot be read ({failure.strerror})", file=path) from None
    return parse_record(Finished, line, source=str(path), error=error).entry


def _lines(path: Path, error: type[TumorsegError]) -> Iterator[tuple[int, bytes]]:
    start = 0
    try:
        with path.open("rb") as file:
            for line in file:
                # A kill cuts a line before its end; nothing comes after it.
                if line.endswith(b"\n"):
                    yield start, line
                start += len(line)
    except FileNotFoundError:
        raise
    except OSError as failure:
        raise error(f"cannot be read ({failure.strerror})", file=path) from None


def _step(line: bytes, path: Path, error: type[TumorsegError]) -> Begun | Finished:
    if line.startswith(b'{"begun"'):
        return parse_record(Begun, line, source=str(path), error=error)
    return parse_record(Finished, line, source=str(path), error=error)


def _line(record: Record) -> bytes:
    text = json.dumps(
        record.model_dump(mode="json"), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )
    return f"{text}\n".encode()
