"""JSON on disk: read with an error a person can act on, written atomically in one stable form."""

import json
from pathlib import Path
from typing import Any

from tumorseg.errors import InputError, TumorsegError
from tumorseg.schema.base import R, Record, parse_record, to_json
from tumorseg.storage import atomic


def read_json(path: Path, error: type[TumorsegError]) -> Any:
    """Read a JSON file.

    Args:
        path: the file.
        error: the class to raise.

    Raises:
        TumorsegError: of class `error`: the file is missing, unreadable, not UTF-8, or not JSON, or has a key twice.
    """
    try:
        # Editors on Windows put a byte order mark in front, which plain UTF-8 would refuse.
        return json.loads(
            path.read_bytes().decode("utf-8-sig"), parse_constant=_refuse_constant, object_pairs_hook=_once
        )
    except FileNotFoundError:
        raise error("no such file; expected a JSON file; check the path", file=path) from None
    except OSError as failure:
        raise error(f"cannot be read ({failure.strerror}); expected a JSON file", file=path) from None
    except UnicodeDecodeError as failure:
        raise error(
            f"found bytes that are not UTF-8 at position {failure.start}; save it as UTF-8", file=path
        ) from None
    except (ValueError, RecursionError) as failure:
        raise error(f"is not JSON ({failure}); mend the file", file=path) from None


def _refuse_constant(text: str) -> None:
    raise ValueError(f"found {text}, which JSON does not know")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object; of two values of one key, JSON's readers would drop the first in silence."""
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"the key {key!r} stands twice in one object")
        found[key] = value
    return found


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
