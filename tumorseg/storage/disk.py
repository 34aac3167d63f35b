"""Long writes: room for them, asked for before hours are spent on filling a disk."""

import shutil
from collections.abc import Callable
from pathlib import Path

from tumorseg.errors import StorageError
from tumorseg.schema.quantities import bytes_text
from tumorseg.storage.atomic import storage_error

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
            f"{what} needs {bytes_text(num_bytes)}, {bytes_text(free)} are free; nothing was written; "
            "free disk space, or give --data-root on another disk",
            file=folder,
        )
