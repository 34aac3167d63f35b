"""JSON on disk: read with an error a person can act on, written atomically in one stable form."""

import os
import stat
from pathlib import Path
from typing import Any

from tumorseg.errors import InputError, TumorsegError
from tumorseg.schema.base import R, Record, load_json, parse_record, to_json
from tumorseg.schema.quantities import GB, bytes_text
from tumorseg.storage import atomic

# Fingerprints and scores of ten thousand cases take a tenth of it; read, a document takes some ten times as much memory.
MOST_BYTES = GB // 2
"""Of a document."""


def read_json(path: Path, error: type[TumorsegError]) -> Any:
    """Read a JSON file.

    Args:
        path: the file.
        error: the class to raise.

    Raises:
        TumorsegError: of class `error`: the file is missing, unreadable, not UTF-8, or not JSON, or has a key twice.
    """
    try:
        data = read_document(path)
    except FileNotFoundError:
        raise error("no such file; expected a JSON file; check the path", file=path) from None
    except OSError as failure:
        raise error(f"cannot be read ({failure.strerror}); expected a JSON file", file=path) from None
    except ValueError as failure:
        raise error(f"cannot be read ({failure}); expected a JSON file", file=path) from None
    try:
        # Editors on Windows put a byte order mark in front, which plain UTF-8 would refuse.
        return load_json(data.decode("utf-8-sig"))
    except UnicodeDecodeError as failure:
        raise error(
            f"found bytes that are not UTF-8 at position {failure.start}; save it as UTF-8", file=path
        ) from None
    except ValueError as failure:
        raise error(f"is not JSON ({failure}); mend the file", file=path) from None


def read_document(path: Path) -> bytes:
    """Return the content of a file that a person or a program wrote as text, never more than fits in memory.

    Raises:
        OSError: it cannot be read.
        ValueError: the path is none, or leads to no regular file, or to one of more than `MOST_BYTES`.
    """
    with open(path, "rb", opener=_open_at_once) as file:
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode):
            raise ValueError("is a pipe, a socket or a device, expected a file")
        if found.st_size > MOST_BYTES:
            raise ValueError(f"more than {bytes_text(MOST_BYTES)}")
        # As much as is there: what is asked for is set aside, whatever the file holds.
        return file.read(found.st_size + 1)


def _open_at_once(path: str, flags: int) -> int:
    """Open a file, or a pipe without waiting for somebody who writes to it."""
    return os.open(path, flags | os.O_NONBLOCK)


def write_record(path: Path, record: Record) -> None:
    """Write a record as stable JSON, atomically.

    Raises:
        StorageError: the file cannot be written.
    """
    atomic.write_text(path, to_json(record))


def read_record(kind: type[R], path: Path, *, error: type[TumorsegError] = InputError) -> R:
    """Read a JSON file as a record.

    Raises:
        TumorsegError: of class `error`: as from `read_json`, or a field is wrong; one line names every one.
    """
    return parse_record(kind, read_json(path, error), source=str(path), error=error)
