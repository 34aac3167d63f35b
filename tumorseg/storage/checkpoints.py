"""Checkpoints: full training state in, full training state out, no code in between."""

import errno
import io
import os
import struct
from functools import lru_cache
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, TypeGuard
from zipfile import ZIP_STORED, BadZipFile, ZipFile, ZipInfo

import torch
from torch import Tensor

from tumorseg.errors import StorageError, quoted
from tumorseg.schema.quantities import gb_text
from tumorseg.storage.atomic import write_bytes
from tumorseg.storage.damage import TORCH
from tumorseg.storage.formats.library_logs import hearing_library
from tumorseg.storage.sealed import Stamp, crc32_of, stamp_of

NETWORK = "network"
"""Part of a checkpoint that predicts."""
TENSORS = "data"
"""Folder, in the archive that a checkpoint is, of the bytes of tensors."""
LOCAL_HEAD = struct.Struct("<4s22xHH")
"""Of an entry of an archive, before its name: a mark in front, the lengths of name and extra field at the end."""
LOCAL_MARK = b"PK\x03\x04"
IS_UTF_8 = 0x800
"""Flag of an entry's name."""
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


def is_there(path: Path) -> bool:
    """Return whether there is a checkpoint; False before the first one of a training.

    Raises:
        StorageError: something else is in its place.
    """
    if os.path.lexists(path) and not path.is_file():
        raise StorageError("is a folder, or a link to nothing, in the place of a checkpoint; remove it", file=path)
    return path.is_file()


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


def load_network(path: Path) -> dict[str, Any]:
    """Return what a checkpoint predicts with, by name: tensors, which stay on disk until they are used.

    A network of another package may keep more than tensors; whether it is that of a plan, `engine.weights` tells.

    Raises:
        StorageError: the file is missing or damaged, or holds no weights.
    """
    found = _load(path, has_tensors=True).get(NETWORK)
    if not isinstance(found, dict) or not all(isinstance(name, str) for name in found):
        raise StorageError(
            "holds no weights of a network; it is no checkpoint of tumorseg: copy the model anew, or train it again",
            file=path,
        )
    return found


def _load(path: Path, *, has_tensors: bool) -> dict[str, Any]:
    try:
        if (name := damaged_part(path, has_tensors=has_tensors)) is not None:
            raise StorageError(
                f"the checkpoint is damaged ({name}); copy the model anew, or delete it and train again", file=path
            )
        # torch warns of other forms of pickles before it refuses them.
        with hearing_library():
            state: Any = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except FileNotFoundError:
        raise StorageError("there is no checkpoint; train the fold first", file=path) from None
    except TORCH as error:
        if lacks_memory(error):
            raise out_of_memory(path, told(error)) from error
        raise StorageError(
            f"the checkpoint is damaged ({told(error)}); copy the model anew, or delete it and train again", file=path
        ) from error
    if not isinstance(state, dict):
        raise StorageError(
            f"holds {type(state).__name__}; it is no checkpoint of tumorseg: copy the model anew, or train it again",
            file=path,
        )
    return state


def told(error: Exception) -> str:
    """Return what an error of reading a checkpoint says, on one line."""
    if isinstance(error, UnpicklingError):
        # torch's own message advises to read the file in the way that runs code.
        return "it holds other things than tensors and plain values, or torch did not save it"
    return quoted(str(error).splitlines()[0]) if str(error) else type(error).__name__


def _read_in(path: Path, state: dict[str, Any]) -> dict[str, Any]:
    """Copy mapped tensors into memory, apart from the parsing: what fails here is memory, and the file is sound."""
    try:
        # A few bytes can stand for tensors of any size, and for lists in lists without end.
        num_bytes: dict[Any, int] = {}
        _add_bytes(state, num_bytes)
        if sum(num_bytes.values()) > MOST_COPIES * path.stat().st_size:
            raise StorageError(
                "the checkpoint is larger than its file; copy the model anew, or delete it and train again", file=path
            )
        copied: dict[str, Any] = _copied(state, {})
    except RecursionError as error:
        raise StorageError(
            "the checkpoint is damaged; copy the model anew, or delete it and train again", file=path
        ) from error
    except (MemoryError, RuntimeError) as error:
        raise out_of_memory(path, type(error).__name__) from error
    return copied


def is_state_dict(value: Any) -> TypeGuard[dict[str, Tensor]]:
    """Return whether a value holds dense tensors by name, and nothing else."""
    return isinstance(value, dict) and all(map(_is_weight, value.items()))


def _is_weight(entry: tuple[Any, Any]) -> bool:
    name, value = entry
    return isinstance(name, str) and isinstance(value, Tensor) and value.layout == torch.strided


def lacks_memory(error: Exception) -> bool:
    """Tell whether a file failed to load for want of memory: torch tells damage by RuntimeError and OSError, too."""
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    # torch puts the system's word into its own where a file cannot be mapped; other words of it may tell damage.
    text = str(error) if isinstance(error, RuntimeError) else ""
    return isinstance(error, MemoryError) or ("mmap" in text and os.strerror(errno.ENOMEM) in text)


def damaged_part(path: Path, *, has_tensors: bool) -> str | None:
    """Return which part of a file that torch saved does not have the checksum that was stored with it; None if all do.

    torch itself compares none. A file is looked at once, unless it changes.

    Args:
        path: an archive, as torch writes it.
        has_tensors: look at tensors, too, not at plain values alone.

    Raises:
        StorageError: a part is packed.
        Exception: of a type that `damage.ZIPFILE` lists: it is no archive, or cannot be read.
    """
    found = path.stat()
    return _damaged_part(path, stamp_of(found), has_tensors)


@lru_cache(MOST_KNOWN)
def _damaged_part(path: Path, stamp: Stamp, has_tensors: bool) -> str | None:
    with path.open("rb") as file:
        entries = ZipFile(file).infolist()
        # torch can be told to leave checksums out, which other people's files may be without.
        has_checksums = any(entry.CRC for entry in entries)
        for entry in entries:
            # torch packs nothing: what is packed could unpack to any size.
            if entry.compress_type != ZIP_STORED or entry.file_size != entry.compress_size:
                raise StorageError(f"its part {entry.filename!a} is packed; save it with torch again", file=path)
            is_compared = has_checksums and (has_tensors or Path(entry.filename).parent.name != TENSORS)
            if is_compared and _crc32(file, entry) != entry.CRC:
                return ascii(entry.filename)
    return None


def _crc32(file: io.BufferedReader, entry: ZipInfo) -> int:
    # Where torch looks for it: behind the entry's own head, whose fields are of other lengths than in the directory.
    file.seek(entry.header_offset)
    mark, name_length, extra_length = LOCAL_HEAD.unpack(file.read(LOCAL_HEAD.size))
    name = file.read(name_length).decode("utf-8" if entry.flag_bits & IS_UTF_8 else "cp437")
    if mark != LOCAL_MARK or name != entry.orig_filename:
        raise BadZipFile(f"the head of {entry.orig_filename!a} is another one's")
    file.seek(extra_length, io.SEEK_CUR)
    return crc32_of(file, entry.file_size)


def out_of_memory(path: Path, reason: str) -> StorageError:
    """Return the error for a sound file that memory cannot hold."""
    return StorageError(
        f"memory cannot hold the checkpoint of {gb_text(path.stat().st_size)} ({reason}), which is sound; end other processes, or use a larger machine",
        file=path,
    )


def _place(value: Any) -> Any:
    """Return what is equal for the same tensor under several names, and for the same list or dictionary."""
    if not isinstance(value, Tensor) or value.layout != torch.strided:
        return id(value)
    return value.untyped_storage().data_ptr(), value.storage_offset(), value.shape, value.stride(), value.dtype


def _add_bytes(value: Any, found: dict[Any, int]) -> None:
    """Add the bytes that a value takes in memory once it is copied, by place."""
    is_tensor = isinstance(value, Tensor)
    if not (is_tensor or isinstance(value, dict | list | tuple)) or (place := _place(value)) in found:
        return
    found[place] = value.numel() * value.element_size() if is_tensor else 0
    if not is_tensor:
        for item in value.values() if isinstance(value, dict) else value:
            _add_bytes(item, found)


def _copied(value: Any, copies: dict[Any, Any]) -> Any:
    """Copy what there is, each part once; `copies` holds those made so far, by place."""
    if not isinstance(value, Tensor | dict | list | tuple):
        return value
    if (place := _place(value)) not in copies:
        copies[place] = _copy(value, copies)
    return copies[place]


def _copy(value: Any, copies: dict[Any, Any]) -> Any:
    if isinstance(value, Tensor):
        return value.clone()
    if isinstance(value, dict):
        return {key: _copied(item, copies) for key, item in value.items()}
    return type(value)(_copied(item, copies) for item in value)
