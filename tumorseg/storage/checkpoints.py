"""Checkpoints: full training state in, full training state out, no code in between."""

import io
import struct
import zlib
from pathlib import Path
from pickle import UnpicklingError
from typing import Any
from zipfile import BadZipFile, ZipFile

import torch

from tumorseg.errors import StorageError
from tumorseg.schema.quantities import gb_text
from tumorseg.storage.atomic import write_bytes

DAMAGED = (
    OSError,
    RuntimeError,
    EOFError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    AssertionError,
    struct.error,
    UnpicklingError,
)
"""What torch raises when it parses a file whose bytes were changed or cut off; the first two also where memory is short."""


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write tensors and plain values atomically.

    Raises:
        StorageError: the file cannot be written; an older one is untouched.
    """
    buffer = io.BytesIO()
    torch.save(state, buffer)
    write_bytes(path, buffer.getbuffer())


def load_checkpoint(path: Path, *, is_mapped: bool = False) -> dict[str, Any]:
    """Read what `save_checkpoint` wrote onto the CPU; nothing but tensors and plain values is accepted.

    Args:
        path: the file.
        is_mapped: leave tensors on disk until they are used, for a look at the plain values.

    Raises:
        StorageError: the file is missing or damaged, or memory cannot hold it.
    """
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except FileNotFoundError:
        raise StorageError("there is no checkpoint; train the fold first", file=path) from None
    except (MemoryError, *DAMAGED) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        if lacks_memory(path, error):
            raise out_of_memory(path, reason) from error
        raise StorageError(f"the checkpoint is damaged ({reason}); delete it and train again", file=path) from error
    return state if is_mapped else _read_in(path, state)


def _read_in(path: Path, state: dict[str, Any]) -> dict[str, Any]:
    """Copy mapped tensors into memory, apart from the parsing: what fails here is memory, and the file is sound."""
    try:
        copied: dict[str, Any] = _copied(state)
    except (MemoryError, RuntimeError) as error:
        raise out_of_memory(path, type(error).__name__) from error
    return copied


def lacks_memory(path: Path, error: Exception) -> bool:
    """Tell whether a file failed to load though its bytes are sound: torch says both by the same types of error."""
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError | OSError) and _is_sound(path))


def _is_sound(path: Path) -> bool:
    """Tell whether every part of a checkpoint has the checksum that was stored with it; reads block by block."""
    try:
        with ZipFile(path) as parts:
            return parts.testzip() is None
    except (BadZipFile, OSError, ValueError, NotImplementedError, zlib.error, EOFError):
        return False


def out_of_memory(path: Path, reason: str) -> StorageError:
    """Return the error for a sound file that memory cannot hold."""
    return StorageError(
        f"memory cannot hold the checkpoint of {gb_text(path.stat().st_size)} ({reason}), which is sound; end other processes, or use a larger machine",
        file=path,
    )


def _copied(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.clone()
    if isinstance(value, dict):
        return {key: _copied(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_copied(item) for item in value)
    return value
