"""Records with a seal, which tells whether they and the files beside them are still what was written.

Disks, cables and copies change bits without a word. A seal holds the CRC-32 of a record and of each file that it speaks of: one
that finds every change of a single bit, and all but one in four billion others (decision 060).
"""

import json
import os
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, BinaryIO, Generic, NamedTuple

from isal import isal_zlib
from pydantic import Field

from tumorseg.errors import StorageError
from tumorseg.schema.base import R, Record, json_text, parse_record
from tumorseg.storage.atomic import write_text
from tumorseg.storage.json_files import read_json

SEAL = "seal"
"""Key in the JSON object of a record, which has no such field of its own."""
BLOCK_BYTES = 1 << 20
"""Read at a time: a file is never in memory as a whole."""
ABSENT = (FileNotFoundError, NotADirectoryError, IsADirectoryError)
"""What opening raises where there is no such file."""
MOST_KNOWN = 1 << 16
"""Files of which the sum is known, some hundred bytes each."""
Stamp = tuple[int, int, int, int]
"""Size, times in ns and inode of a file."""
Crc32 = Annotated[int, Field(ge=0, lt=2**32)]


class FileSeal(Record):
    """What a file was when it was written."""

    num_bytes: int
    """Its size."""
    crc32: Crc32
    """Of its bytes."""


class _Seal(Record):
    key: str
    files: dict[str, FileSeal]
    crc32: Crc32


class Sealed(NamedTuple, Generic[R]):
    """A record that is what was written, and what the files beside it should be."""

    record: R
    files: Mapping[str, FileSeal]
    """By name."""


def seal_of(data: bytes) -> FileSeal:
    """Return what a file of these bytes is."""
    return FileSeal(num_bytes=len(data), crc32=isal_zlib.crc32(data))


def seal_of_file(path: Path) -> FileSeal:
    """Return what a file is now; one that was read in this process before is not read again, unless it was changed.

    Raises:
        OSError: it cannot be read.
    """
    found = path.stat()
    return FileSeal(num_bytes=found.st_size, crc32=_file_crc32(path, stamp_of(found)))


def stamp_of(found: os.stat_result) -> Stamp:
    """Return what changes with a file, unless it rots."""
    return found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino


@lru_cache(MOST_KNOWN)
def _file_crc32(path: Path, stamp: Stamp) -> int:
    with path.open("rb") as file:
        return crc32_of(file, stamp[0])


def crc32_of(file: BinaryIO, num_bytes: int) -> int:
    """Return the CRC-32 of the next bytes of a file, or of those that there are if it ends before.

    Raises:
        OSError: it cannot be read.
    """
    found, left = 0, num_bytes
    while left and (block := file.read(min(BLOCK_BYTES, left))):
        found = isal_zlib.crc32(block, found)
        left -= len(block)
    return found


def is_intact(path: Path, seal: FileSeal, *, in_full: bool) -> bool:
    """Tell whether a file is what was written, as far as one looks.

    Args:
        path: the file, which need not be there.
        seal: what it should be.
        in_full: compare its bytes, not just its size.

    Raises:
        StorageError: it cannot be read, which a drive may do for a moment: that says nothing of the file.
    """
    try:
        if path.stat().st_size != seal.num_bytes:
            return False
        return not in_full or seal_of_file(path) == seal
    except ABSENT:
        return False
    except OSError as error:
        raise _unreadable(path, error) from error


def require_readable(path: Path) -> None:
    """Tell a file that is damaged or missing from one that the system cannot read now.

    Raises:
        StorageError: the system cannot read it.
    """
    try:
        with path.open("rb") as file:
            crc32_of(file, path.stat().st_size)
    except ABSENT:
        return
    except OSError as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: OSError) -> StorageError:
    return StorageError(f"cannot be read ({error.strerror}); check the drive", file=path)


def write_sealed(path: Path, record: Record, *, key: str, files: Mapping[str, FileSeal] | None = None) -> None:
    """Write a record with its seal, after the files beside it.

    Args:
        path: where to.
        record: what is written.
        key: what the record is found by, such as its folder's name: under another one it is not sound.
        files: what the files beside it are, by name.

    Raises:
        StorageError: the file cannot be written.
    """
    kept = dict(files or {})
    document = record.model_dump(mode="json")
    seal = _Seal(key=key, files=kept, crc32=_crc32(document, key, kept))
    write_text(path, json_text(document | {SEAL: seal.model_dump(mode="json")}))


def read_sealed(kind: type[R], path: Path, *, key: str) -> Sealed[R]:
    """Read a record, and see that it is what was written; the files beside it are not looked at.

    Args:
        kind: the record's class.
        path: the file.
        key: what it was found by.

    Raises:
        StorageError: it is missing, damaged, was written under another key, or has no seal.
    """
    document: Any = read_json(path, StorageError)
    if not isinstance(document, dict) or SEAL not in document:
        raise StorageError("has no seal; an earlier version of tumorseg wrote it, or it is damaged", file=path)
    seal = parse_record(_Seal, document.pop(SEAL), source=str(path), error=StorageError)
    record = parse_record(kind, document, source=str(path), error=StorageError)
    # Of the document as read: a record of today may have fields more than the one that was written.
    if seal.key != key or seal.crc32 != _crc32(document, seal.key, seal.files):
        raise StorageError("is not what was written there; it is damaged, or was copied from elsewhere", file=path)
    return Sealed(record, seal.files)


def _crc32(document: dict[str, Any], key: str, files: Mapping[str, FileSeal]) -> int:
    listed = {name: seal.model_dump() for name, seal in files.items()}
    # In ASCII and one form, so that it does not depend on how the file is laid out.
    text = json.dumps([document, key, listed], sort_keys=True)
    return int(isal_zlib.crc32(text.encode()))
