"""One process at a time in a folder."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from tumorseg.errors import TumorsegError
from tumorseg.storage.atomic import storage_error

logger = logging.getLogger(__name__)


@contextmanager
def hold_folder(folder: Path, *, doing: str, error: type[TumorsegError], patience_s: float = 0.0) -> Iterator[None]:
    """Keep other processes out of a folder meanwhile; the system lets go when this one dies, however it does.

    The lock is a file beside the folder, so that it stays where it is when the folder is moved aside. Only where nothing can be
    written there, as beside a mounted volume, it lies inside.

    Args:
        folder: need not be there.
        doing: what is done to it, as in "is being trained".
        error: the class to raise.
        patience_s: how long to wait for another process that is about to end.

    Raises:
        TumorsegError: of class `error`: another process holds it.
        StorageError: the folder cannot be written.
    """
    folder = Path(os.path.abspath(folder))  # noqa: PTH100 (links stay; `.` has no name)
    lock = FileLock(_lock_file(folder))
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        # Refused at once by default: whoever waited would only find the work done.
        lock.acquire(timeout=patience_s)
    except Timeout:
        raise error(
            f"{folder} is being {doing} by another process; wait for it, or end it and give the same command again"
        ) from None
    except NotImplementedError:
        logger.warning("%s: the file system knows no locks; do not start this command twice at once", folder)
    except OSError as failure:
        raise storage_error(folder, failure) from failure
    try:
        yield
    finally:
        lock.release()


def _lock_file(folder: Path) -> Path:
    parent = folder.parent
    is_shut = parent.is_dir() and not os.access(parent, os.W_OK)
    return folder / ".lock" if is_shut and os.access(folder, os.W_OK) else parent / f".{folder.name}.lock"
