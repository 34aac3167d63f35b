"""Checkpoints: full training state in, full training state out, no code in between."""

import io
import struct
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

from tumorseg.errors import StorageError
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
"""What torch raises when it parses a file whose bytes were changed or cut off. Tensors are mapped then, so that none of these
can mean that memory is short."""
GB = 2**30


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
        raise StorageError(f"{path}: there is no checkpoint; train the fold first") from None
    except DAMAGED as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise StorageError(f"{path}: the checkpoint is damaged ({reason}); delete it and train again") from error
    return state if is_mapped else _read_in(path, state)


def _read_in(path: Path, state: dict[str, Any]) -> dict[str, Any]:
    """Copy mapped tensors into memory, apart from the parsing: what fails here is memory, and the file is sound."""
    try:
        copied: dict[str, Any] = _copied(state)
    except (MemoryError, RuntimeError) as error:
        size = path.stat().st_size / GB
        raise StorageError(
            f"{path}: memory cannot hold the checkpoint of {size:.2f} GB, which is sound; end other processes, or use a larger machine"
        ) from error
    return copied


def _copied(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.clone()
    if isinstance(value, dict):
        return {key: _copied(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_copied(item) for item in value)
    return value
