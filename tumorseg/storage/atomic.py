"""Writing so that a file is old or new, never half."""

import errno
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Container, Iterable
from pathlib import Path
from threading import Lock

from tumorseg.errors import InputError, StorageError
from tumorseg.schema.quantities import bytes_text

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""Failures of a disk, a quota or a limit that has no room left."""
ADVICE = {
    errno.EACCES: "ask for the right to write there, or choose another folder",
    errno.EPERM: "ask for the right to write there, or choose another folder",
    errno.EROFS: "the file system is read-only; choose another folder",
    **dict.fromkeys(FULL, "free disk space, or choose another folder"),
}
"""What to do about a failure of the system."""
HTML_ENDINGS = (".html", ".htm")
# tempfile appends eight characters of this alphabet.
LEFTOVER = re.compile(r"\.(.+)\.[a-z0-9_]{8}")
"""Name of a temporary file, and in it that of the file it was to become."""
SPECIAL = {
    stat.S_ISDIR: "a folder",
    stat.S_ISFIFO: "a pipe",
    stat.S_ISSOCK: "a socket",
    stat.S_ISCHR: "a device",
    stat.S_ISBLK: "a device",
}
"""What is no regular file, by what tells it."""
_UMASK = Lock()
"""Held while the mask is another: a second thread would read that one, and put it back for good."""


def write_bytes(path: Path, data: bytes | memoryview) -> None:
    """Write a file by way of a temporary one beside it: written, fsynced, renamed.

    Raises:
        StorageError: the disk is full, the folder cannot be written, or what is there is no regular file; nothing is left behind.
    """
    write_parts(path, [data], num_bytes=len(data))


def write_parts(path: Path, parts: Iterable[bytes | memoryview], *, num_bytes: int | None = None) -> None:
    """Write a file as `write_bytes` does, of parts that need not be in memory at once.

    Args:
        path: where to.
        parts: made while the file is written; if making one fails, nothing is left behind.
        num_bytes: of all parts, if that is known, for the error.

    Raises:
        StorageError: as from `write_bytes`.
    """
    temporary: Path | None = None
    try:
        require_replaceable(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        # In the same folder, since a rename is atomic only within one file system.
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
            temporary = Path(file.name)
            for part in parts:
                file.write(part)
            file.flush()
            os.fsync(file.fileno())
        # tempfile makes files that nobody else may read; results get the rights that new files have here.
        temporary.chmod(0o666 & ~umask())
        temporary.replace(path)
        temporary = None
    except OSError as error:
        if temporary is not None:
            # First, so that what it took counts as free.
            temporary.unlink(missing_ok=True)
        raise storage_error(path, error, num_bytes=num_bytes) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def require_writable(folder: Path) -> None:
    """Make a folder and see that files can be written there.

    Raises:
        StorageError: they cannot.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise storage_error(folder, error) from error
    except ValueError as failure:
        raise _no_path(folder, failure) from None


def require_replaceable(path: Path) -> None:
    """Refuse to write where something is that is no regular file, as a rename would put a file in its place.

    Root may replace the machine's /dev/null, and pipes and sockets have their readers. A link counts as what it leads to.

    Args:
        path: where a file is to be written; nothing need be there.

    Raises:
        StorageError: there is a folder, a pipe, a socket or a device, or the name is one of the system's own.
    """
    try:
        mode = path.stat().st_mode
    except OSError:  # nothing is there; what else is wrong shows when it is written
        mode = stat.S_IFREG
    except ValueError as failure:
        raise _no_path(path, failure) from None
    found = next((what for is_so, what in SPECIAL.items() if is_so(mode)), None)
    # /dev/stdout may lead to a regular file, and is the machine's own all the same.
    folder = os.path.realpath(path.parent)
    if found is None and (folder == "/dev" or folder.startswith("/proc/")):
        found = "a name of the system's own"
    if found is not None:
        raise StorageError(
            f"cannot write: is {found}, expected a file or nothing; nothing was changed; give another name", file=path
        )


def require_file_name(option: str, path: Path, endings: tuple[str, ...]) -> None:
    """See that a file can be written where a user wants it, before any work is done.

    Args:
        option: what the user gave it by, such as `--html`.
        path: the file.
        endings: what its name may end in, lower case.

    Raises:
        InputError: its name ends otherwise, or it is a folder.
        StorageError: its folder cannot be written, or what is there is no regular file.
    """
    if path.suffix.lower() not in endings:
        raise InputError(f"{option} {path}: expected a name that ends in {' or '.join(endings)}; rename it")
    if path.is_dir():
        raise InputError(f"{option} {path}: is a folder, expected a file; give another name")
    require_replaceable(path)
    require_writable(path.parent)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text atomically."""
    write_bytes(path, text.encode())


def remove_leftovers(folder: Path, names: Container[str] | None = None) -> None:
    """Remove the temporary files of killed processes from a folder that no other process writes to.

    Args:
        folder: need not be there.
        names: of the files that they were to become, in a folder that may hold others of a user's; any if None.
    """
    for path in folder.glob(".*"):
        found = LEFTOVER.fullmatch(path.name)
        if found and (names is None or found[1] in names):
            remove_file(path)


def remove_file(path: Path) -> None:
    """Remove a file that need not be there.

    Raises:
        StorageError: it cannot be removed.
    """
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise storage_error(path, error) from error


def umask() -> int:
    """Return what the user withholds from new files; it can only be read by setting it."""
    # Strict, so that a file that another thread makes in between is too private rather than too open.
    with _UMASK:
        mask = os.umask(0o077)
        os.umask(mask)
    return mask


def storage_error(path: Path, error: OSError, *, num_bytes: int | None = None) -> StorageError:
    """Return the error that tells a user what could not be written, why, and what to do.

    Args:
        path: the file or the folder.
        error: of the system.
        num_bytes: what was to be written, if that is known.
    """
    advice = ADVICE.get(error.errno or 0, "check the path, or choose another folder")
    room = _room(path, num_bytes) if error.errno in FULL and num_bytes is not None else ""
    return StorageError(f"cannot write: {error.strerror or error}; nothing was changed; {advice}{room}", file=path)


def _no_path(path: Path, failure: ValueError) -> StorageError:
    """Return the error of a text that Python cannot take to the system, as one with a null byte."""
    return StorageError(f"cannot write: can be no path ({failure}); give another name", file=path)


def _room(path: Path, num_bytes: int) -> str:
    """Return how much was to be written, and how much room there is."""
    try:
        free = bytes_text(shutil.disk_usage(path.parent).free)
    except OSError:
        return f" ({bytes_text(num_bytes)} needed)"
    return f" ({bytes_text(num_bytes)} needed, {free} free)"
