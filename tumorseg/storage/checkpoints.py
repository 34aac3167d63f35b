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
"""What torch raises when it reads a file whose bytes were changed or cut off."""


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write tensors and plain values atomically.

    Raises:
        StorageError: the file cannot be written; an older one is untouched.
    """
    buffer = io.BytesIO()
    torch.save(state, buffer)
    write_bytes(path, buffer.getbuffer())


def load_checkpoint(path: Path, device: str = "cpu", *, is_mapped: bool = False) -> dict[str, Any]:
    """Read what `save_checkpoint` wrote; nothing but tensors and plain values is accepted.

    Args:
        path: the file.
        device: where tensors go.
        is_mapped: leave tensors on disk until they are used, for a look at the plain values.

    Raises:
        StorageError: the file is missing or damaged.
    """
    try:
        state: dict[str, Any] = torch.load(path, map_location=device, weights_only=True, mmap=is_mapped)
    except FileNotFoundError:
        raise StorageError(f"{path}: there is no checkpoint; train the fold first") from None
    except DAMAGED as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise StorageError(f"{path}: the checkpoint is damaged ({reason}); delete it and train again") from error
    return state
