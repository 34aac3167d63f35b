"""What the file system of a folder can do, found out by doing it with files that are gone afterwards."""

import os
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from filelock import FileLock, Timeout

from tumorseg.storage.atomic import storage_error
from tumorseg.storage.file_system_time import file_system_now


class Traits(NamedTuple):
    """What a file system can do."""

    has_locks: bool
    """Whether one who opens a file sees that another holds it."""
    has_atomic_rename: bool
    """Whether a file can take the place of another."""
    is_case_sensitive: bool
    """Whether `a` and `A` are two files."""
    skew_s: float
    """How far its clock is ahead of this machine's."""


def probe_folder(folder: Path) -> Traits:
    """Try out a folder.

    Raises:
        StorageError: nothing can be written there.
    """
    try:
        with tempfile.TemporaryDirectory(dir=folder, prefix=".probe-") as name:
            place = Path(name)
            return Traits(
                has_locks=_has_locks(place),
                has_atomic_rename=_has_atomic_rename(place),
                is_case_sensitive=_is_case_sensitive(place),
                skew_s=file_system_now(place) - time.time(),
            )
    except OSError as error:
        raise storage_error(folder, error) from error


def nearest(folder: Path) -> Path:
    """Return a folder, or of one that is not there yet the nearest around it that is."""
    whole = folder.absolute()
    return next((one for one in (whole, *whole.parents) if one.is_dir()), Path(os.sep))


def _has_locks(place: Path) -> bool:
    path = place / "lock"
    try:
        with FileLock(path, timeout=0), FileLock(path, timeout=0):
            return False
    except Timeout:
        return True
    except (NotImplementedError, OSError):
        return False


def _has_atomic_rename(place: Path) -> bool:
    old, new = place / "old", place / "new"
    old.write_text("old")
    new.write_text("new")
    try:
        new.replace(old)
    except OSError:
        return False
    return old.read_text() == "new" and not new.exists()


def _is_case_sensitive(place: Path) -> bool:
    (place / "name").write_text("")
    return not (place / "NAME").exists()
