"""Checkpoints: full training state in, full training state out, no code in between."""

import io
import struct
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeGuard
from zipfile import ZIP_STORED, ZipFile, ZipInfo

import torch
from torch import Tensor

from tumorseg.errors import StorageError, escaped
from tumorseg.schema.quantities import gb_text
from tumorseg.storage.atomic import write_bytes
from tumorseg.storage.damage import TORCH, ZIPFILE
from tumorseg.storage.sealed import crc32_of

NETWORK = "network"
"""Part of a checkpoint that predicts."""
TENSORS = "data"
"""Folder, in the archive that a checkpoint is, of the bytes of tensors."""
LOCAL_HEAD = struct.Struct("<26xHH")
"""Of an entry of an archive, before its name: the lengths of name and extra field at the end."""
MOST_KNOWN = 1024
"""Files that are known to be sound, some hundred bytes each."""
MOST_COPIES = 4
"""Sizes of its file that a checkpoint may take in memory: parts that it names twice are few."""


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
        is_mapped: leave tensors on disk, unlooked at, for a look at the plain values.

    Raises:
        StorageError: the file is missing or damaged, or memory cannot hold it.
    """
    state = _load(path, has_tensors=not is_mapped)
    return state if is_mapped else _read_in(path, state)


def load_network(path: Path) -> dict[str, Tensor]:
    """Return the weights that a checkpoint predicts with, by name; they stay on disk until they are used.

    Raises:
        StorageError: the file is missing or damaged, or holds no weights.
    """
    found = _load(path, has_tensors=True).get(NETWORK)
    if not is_state_dict(found):
        raise StorageError(
            "holds no weights of a network; it is no checkpoint of tumorseg: copy the model anew", file=path
        )
    return found


def _load(path: Path, *, has_tensors: bool) -> dict[str, Any]:
    try:
        if (name := damaged_part(path, has_tensors=has_tensors)) is not None:
            raise StorageError(f"the checkpoint is damaged ({name}); delete it and train again", file=path)
        state: Any = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except FileNotFoundError:
        raise StorageError("there is no checkpoint; train the fold first", file=path) from None
    except TORCH as error:
        reason = escaped(str(error).splitlines()[0]) if str(error) else type(error).__name__
        if lacks_memory(path, error):
            raise out_of_memory(path, reason) from error
        raise StorageError(f"the checkpoint is damaged ({reason}); delete it and train again", file=path) from error
    if not isinstance(state, dict):
        raise StorageError(f"holds {type(state).__name__}; it is no checkpoint of tumorseg: train again", file=path)
    return state


def _read_in(path: Path, state: dict[str, Any]) -> dict[str, Any]:
    """Copy mapped tensors into memory, apart from the parsing: what fails here is memory, and the file is sound."""
    try:
        # A few bytes can stand for tensors of any size, and for lists in lists without end.
        if _num_bytes(state) > MOST_COPIES * path.stat().st_size:
            raise StorageError("the checkpoint is larger than its file; delete it and train again", file=path)
        copied: dict[str, Any] = _copied(state)
    except RecursionError as error:
        raise StorageError("the checkpoint is damaged; delete it and train again", file=path) from error
    except (MemoryError, RuntimeError) as error:
        raise out_of_memory(path, type(error).__name__) from error
    return copied


def is_state_dict(value: Any) -> TypeGuard[dict[str, Tensor]]:
    """Return whether a value holds dense tensors by name, and nothing else."""
    return isinstance(value, dict) and all(map(_is_weight, value.items()))


def _is_weight(entry: tuple[Any, Any]) -> bool:
    name, value = entry
    return isinstance(name, str) and isinstance(value, Tensor) and value.layout == torch.strided


def lacks_memory(path: Path, error: Exception) -> bool:
    """Tell whether a file failed to load though its bytes are sound: torch says both by the same types of error."""
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError | OSError) and _is_sound(path))


def _is_sound(path: Path) -> bool:
    try:
        return damaged_part(path, has_tensors=True) is None
    except ZIPFILE:
        return False


def damaged_part(path: Path, *, has_tensors: bool) -> str | None:
    """Return which part of a file that torch saved does not have the checksum that was stored with it; None if all do.

    torch itself compares none. A file is looked at once, unless it changes.

    Args:
        path: an archive, as torch writes it.
        has_tensors: look at tensors, too, not at plain values alone.

    Raises:
        Exception: of a type that `damage.ZIPFILE` lists: it is no archive, or cannot be read.
    """
    found = path.stat()
    return _damaged_part(path, (found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino), has_tensors)


@lru_cache(MOST_KNOWN)
def _damaged_part(path: Path, stamp: tuple[int, int, int, int], has_tensors: bool) -> str | None:
    with path.open("rb") as file:
        entries = ZipFile(file).infolist()
        # torch can be told to leave checksums out, which other people's files may be without.
        has_checksums = any(entry.CRC for entry in entries)
        for entry in entries:
            # torch packs nothing: what is packed could unpack to any size.
            if entry.compress_type != ZIP_STORED or entry.file_size != entry.compress_size:
                return ascii(entry.filename)
            is_compared = has_checksums and (has_tensors or Path(entry.filename).parent.name != TENSORS)
            if is_compared and _crc32(file, entry) != entry.CRC:
                return ascii(entry.filename)
    return None


def _crc32(file: io.BufferedReader, entry: ZipInfo) -> int:
    # Where torch looks for it: behind the entry's own head, whose fields are of other lengths than in the directory.
    file.seek(entry.header_offset)
    lengths = LOCAL_HEAD.unpack(file.read(LOCAL_HEAD.size))
    file.seek(sum(lengths), io.SEEK_CUR)
    return crc32_of(file, entry.file_size)


def out_of_memory(path: Path, reason: str) -> StorageError:
    """Return the error for a sound file that memory cannot hold."""
    return StorageError(
        f"memory cannot hold the checkpoint of {gb_text(path.stat().st_size)} ({reason}), which is sound; end other processes, or use a larger machine",
        file=path,
    )


def _num_bytes(value: Any) -> int:
    if isinstance(value, Tensor):
        return value.numel() * value.element_size()
    if isinstance(value, dict):
        return sum(map(_num_bytes, value.values()))
    return sum(map(_num_bytes, value)) if isinstance(value, list | tuple) else 0


def _copied(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.clone()
    if isinstance(value, dict):
        return {key: _copied(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_copied(item) for item in value)
    return value
