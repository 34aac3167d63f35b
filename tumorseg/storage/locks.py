"""One process at a time in a folder, or several that fill parts of it."""

import logging
import os
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from tumorseg.errors import StorageError, TumorsegError
from tumorseg.storage.atomic import storage_error

logger = logging.getLogger(__name__)

_PART = re.compile(r"shard-\d+-of-\d+")
BRIEFLY_S = 600.0
"""How long to wait for those who write what the parts of a folder share; a record of 20,000 cases takes them a few seconds."""


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
        TumorsegError: of class `error`: another process holds it, or a part of it.
        StorageError: the folder cannot be written.
    """
    folder = _absolute(folder)
    refusal = error(_refusal(f"{folder} is being {doing}"))
    with _locked(folder, _lock_file(folder), refusal, patience_s):
        if held := held_parts(folder):
            raise error(_refusal(f"{folder} is being written to as {held[0]}"))
        yield


@contextmanager
def hold_part(
    folder: Path,
    part: str,
    *,
    fits: Callable[[str], bool],
    error: type[TumorsegError],
    first: Callable[[], None] = lambda: None,
) -> Iterator[None]:
    """Fill one part of a folder beside others who fill other parts of it.

    Args:
        folder: need not be there.
        part: its name, such as `shard-2-of-4`.
        fits: tells by its name whether another part may be filled at the same time.
        error: the class to raise.
        first: is called once the part is taken, before any other process can see that it is.

    Raises:
        TumorsegError: of class `error`: another process holds the whole folder, the same part, or one that does not fit.
        StorageError: the folder cannot be written.
    """
    folder = _absolute(folder)
    taken = error(_refusal(f"{folder} is being written to"))
    with ExitStack() as held:
        # Nobody takes the whole folder until the part is taken.
        with briefly_alone(folder), _locked(folder, _lock_file(folder), taken):
            if others := [other for other in held_parts(folder) if other == part or not fits(other)]:
                raise error(_refusal(f"{folder} is being written to as {others[0]}"))
            held.enter_context(_locked(folder, _part_file(folder, part), taken))
            first()
        yield


@contextmanager
def briefly_alone(folder: Path) -> Iterator[None]:
    """Wait until nobody else writes what the parts of a folder share, and keep them from it meanwhile.

    Raises:
        StorageError: another process does not let go, or the folder cannot be written.
    """
    folder = _absolute(folder)
    refusal = StorageError(_refusal(f"the record of {folder} is being written"))
    with _locked(folder, _part_file(folder, "record"), refusal, BRIEFLY_S):
        yield


def held_parts(folder: Path) -> list[str]:
    """Return the parts of a folder that processes hold, sorted; only they who hold the folder or are `briefly_alone` may ask.

    Raises:
        StorageError: the folder in which locks lie cannot be listed.
    """
    whole = _lock_file(_absolute(folder))
    if not whole.parent.is_dir():
        return []
    prefix = f"{whole.name}."
    try:
        names = sorted(name for name in os.listdir(whole.parent) if name.startswith(prefix))  # noqa: PTH208 (names alone)
    except OSError as failure:
        raise StorageError(
            f"cannot be listed ({failure.strerror}), and holds the locks of {folder}; ask for the right to read it, or "
            "choose another folder",
            file=whole.parent,
        ) from failure
    return [name.removeprefix(prefix) for name in names if _is_held_part(whole, name.removeprefix(prefix))]


def _is_held_part(whole: Path, part: str) -> bool:
    return _PART.fullmatch(part) is not None and _is_held(whole.with_name(f"{whole.name}.{part}"))


def _is_held(path: Path) -> bool:
    """Return whether a process that lives has locked a file."""
    try:
        with FileLock(path, timeout=0):
            return False
    except Timeout:
        return True
    except NotImplementedError:
        return False
    except OSError as failure:
        raise storage_error(path, failure) from failure


@contextmanager
def _locked(folder: Path, path: Path, refusal: TumorsegError, patience_s: float = 0.0) -> Iterator[None]:
    lock = FileLock(path)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        # Refused at once by default: whoever waited would only find the work done.
        lock.acquire(timeout=patience_s)
    except Timeout:
        raise refusal from None
    except NotImplementedError:
        logger.warning("%s: the file system knows no locks; do not start this command twice at once", folder)
    except OSError as failure:
        raise storage_error(folder, failure) from failure
    try:
        yield
    finally:
        lock.release()


def _refusal(what: str) -> str:
    return f"{what} by another process; wait for it, or end it and give the same command again"


def _absolute(folder: Path) -> Path:
    return Path(os.path.abspath(folder))  # noqa: PTH100 (links stay; `.` has no name)


def _lock_file(folder: Path) -> Path:
    parent = folder.parent
    is_shut = parent.is_dir() and not os.access(parent, os.W_OK)
    return folder / ".lock" if is_shut and os.access(folder, os.W_OK) else parent / f".{folder.name}.lock"


def _part_file(folder: Path, part: str) -> Path:
    # Longer than the lock of any folder, which ends in `.lock`, so that no folder's name makes the two one.
    whole = _lock_file(folder)
    return whole.with_name(f"{whole.name}.{part}")
