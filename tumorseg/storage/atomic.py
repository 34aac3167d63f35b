"""Writing so that a file is old or new, never half."""

import os
import tempfile
from pathlib import Path

from tumorseg.errors import StorageError


def write_bytes(path: Path, data: bytes | memoryview) -> None:
    """Write a file by way of a temporary one beside it: written, fsynced, renamed.

    Raises:
        StorageError: the disk is full, or the folder cannot be written; nothing is left behind.
    """
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
            temporary = Path(file.name)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
    except OSError as error:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
        raise storage_error(path, error) from error


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text atomically."""
    write_bytes(path, text.encode())


def storage_error(path: Path, error: OSError) -> StorageError:
    """Return the error that tells a user what could not be written and why."""
    return StorageError(
        f"{path}: cannot write: {error.strerror or error}; nothing was changed; free disk space or choose another --work folder"
    )
