"""Long writes: room for them, asked for before hours are spent on filling a disk, and words for how far they are."""

import shutil
from collections.abc import Callable
from pathlib import Path

from tumorseg.errors import StorageError
from tumorseg.storage.atomic import storage_error

BYTE_UNITS = (("GB", 2**30), ("MB", 2**20), ("kB", 2**10), ("bytes", 1))

WatchBytes = Callable[[int, int | None, str], None]
"""Told of the bytes that are there, of all (None: not known), and what is worth a line of its own, or nothing."""


def require_room(folder: Path, num_bytes: int, *, what: str) -> None:
    """Check that a folder's disk has room.

    Args:
        folder: must be there.
        num_bytes: how much will be written.
        what: for the message.

    Raises:
        StorageError: there is less.
    """
    try:
        free = shutil.disk_usage(folder).free
    except OSError as error:
        raise storage_error(folder, error) from error
    if num_bytes > free:
        raise StorageError(
            f"{folder}: {what} needs {byte_text(num_bytes)}, {byte_text(free)} are free; nothing was written; "
            "free disk space, or give --data-root on another disk"
        )


def byte_text(done: int, total: int | None = None) -> str:
    """Return a number of bytes, or how many there are of all, in the largest unit that fits."""
    unit, size = next((name, size) for name, size in BYTE_UNITS if size <= max(done if total is None else total, 1))
    digits = 1 if size > 1 else 0
    all_bytes = "" if total is None else f"/{total / size:.{digits}f}"
    return f"{done / size:.{digits}f}{all_bytes} {unit}"
