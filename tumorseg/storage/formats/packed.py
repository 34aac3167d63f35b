"""Voxels in the data files of NRRD and MetaImage: as they are, packed, or written out as text.

Every file is read to the end of what it announces, with its checksum where it has one: damage must not become voxels.
"""

import bz2
import os
import re
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from isal import igzip
from numpy.typing import NDArray

from tumorseg.errors import InputError
from tumorseg.storage.damage import TEXT_HEADERS
from tumorseg.storage.formats.signatures import path_fault
from tumorseg.storage.formats.stored import damaged

SEPARATORS = re.compile(rb"[\s,]+")
MOST_PACKED = {"raw": 1.0, "gzip": 1032.0, "zlib": 1032.0, "bzip2": 1e6, "hex": 0.5}
"""Bytes that one byte of a file can hold at most, by encoding."""
MOST_SURPLUS = 1 << 26
"""Bytes behind the voxels, where no header announces any; a kilobyte of a packed file may become a megabyte."""
MOST_DIGITS = 1100
"""Of a number as text; float64 has up to 1074 behind its point."""
PIECE_NUMBERS = 1 << 10
"""Converted at a time: numpy gives each as much room as the longest takes."""
ZLIB_OR_GZIP = 47
"""Window bits that tell zlib to find out which of the two it is."""


class Packing(NamedTuple):
    """Encoding and offset of the voxels in a file."""

    encoding: str
    """`ascii`, or one of `MOST_PACKED`."""
    dtype: np.dtype[Any]
    """Of a voxel, with its byte order."""
    line_skip: int = 0
    """Lines before the data."""
    byte_skip: int = 0
    """Bytes before the voxels once unpacked; -1: raw voxels are the last bytes of the file."""


def read_values(
    path: str, places: Sequence[tuple[str, int]], packing: Packing, *, count: int, kind: str
) -> NDArray[Any]:
    """Read all voxels of an image, in the order of the files.

    Args:
        path: the header's file, which errors name.
        places: data files, and where in them the data begin; each holds an equal share.
        packing: how they hold it.
        count: of the voxels' numbers.
        kind: what the format is called.

    Returns:
        (count,), read-only.

    Raises:
        InputError: a file is missing or damaged.
    """
    share, rest = divmod(count, len(places))
    if rest:
        raise InputError(
            f"found {len(places)} data files for {count} numbers, expected an equal share in each", file=path
        )
    parts = []
    for file, start in places:
        if (fault := path_fault(file)) is not None:
            raise InputError(f"its data file {Path(file).name}: {fault}", file=path)
        try:
            parts.append(_read_share(file, start, packing, share))
        except TEXT_HEADERS as error:
            raise damaged(path, kind, error) from None
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def check_claim(path: str, places: Sequence[tuple[str, int]], packing: Packing, *, count: int, kind: str) -> None:
    """Check that data files can hold what a header announces, before memory is asked for; those that are missing are told when they are read.

    Args:
        path: the header's file, which errors name.
        places: as for `read_values`.
        packing: as for `read_values`.
        count: of the voxels' numbers.
        kind: what the format is called.

    Raises:
        InputError: they cannot.
    """
    for file, _ in places:
        try:
            _check_claim(file, packing, count // len(places))
        except FileNotFoundError:
            continue
        except TEXT_HEADERS as error:
            raise damaged(path, kind, error) from None


def _check_claim(file: str, packing: Packing, count: int) -> None:
    num_bytes = max(packing.byte_skip, 0) + count * packing.dtype.itemsize
    held = Path(file).stat().st_size
    # as text a number takes a byte at least
    if (count if packing.encoding == "ascii" else num_bytes) > held * MOST_PACKED.get(packing.encoding, 1.0):
        raise EOFError(f"{count * packing.dtype.itemsize} bytes of voxels announced, the file is too short")


def _read_share(file: str, start: int, packing: Packing, count: int) -> NDArray[Any]:
    num_bytes = count * packing.dtype.itemsize
    _check_claim(file, packing, count)
    with Path(file).open("rb") as stream:
        stream.seek(start)
        for _ in range(packing.line_skip):
            if not stream.readline():  # or lines by the quintillion would be skipped one by one
                break
        if packing.encoding == "ascii":
            return _numbers(stream.read(), packing.dtype, count)
        data = _read_bytes(stream, packing, num_bytes)
    if len(data) < num_bytes:
        raise EOFError(f"the file ends after {len(data)} of {num_bytes} bytes of voxels")
    return np.frombuffer(data, packing.dtype, count)


def _read_bytes(stream: BinaryIO, packing: Packing, num_bytes: int) -> bytes:
    """Return the bytes of voxels; too few where the file has no more."""
    skip = packing.byte_skip
    if packing.encoding == "raw":
        if skip < 0:
            stream.seek(-num_bytes, os.SEEK_END)
        else:
            stream.seek(skip, os.SEEK_CUR)
        return stream.read(num_bytes)
    # Counting from the end means nothing for packed data, which begin where they begin.
    skip = max(skip, 0)
    if packing.encoding == "hex":
        return bytes.fromhex(stream.read().decode("ascii"))[skip : skip + num_bytes]
    if packing.encoding == "zlib":
        return _inflate(stream.read(), skip + num_bytes)[skip:]
    unpacked: Any = bz2.BZ2File(stream) if packing.encoding == "bzip2" else igzip.GzipFile(fileobj=stream)  # type: ignore[no-untyped-call]
    with unpacked:
        data: bytes = unpacked.read(skip + num_bytes)[skip:]
        read_surplus(unpacked)
    return data


def read_surplus(stream: Any) -> None:
    """Read what comes behind the voxels of a packed file: only at its end stands the checksum.

    Raises:
        EOFError: that is more than a few bytes that some program left there.
    """
    count = 0
    while block := stream.read(1 << 20):
        count += len(block)
        if count > MOST_SURPLUS:
            raise EOFError(f"more than {MOST_SURPLUS} bytes come behind its voxels")


def _inflate(data: bytes, num_bytes: int) -> bytes:
    inflater = zlib.decompressobj(ZLIB_OR_GZIP)
    # One byte more than announced, so that a surplus is seen without unpacking all of it.
    unpacked = inflater.decompress(data, num_bytes + 1)
    # All bytes may be there with the checksum still to come.
    if not inflater.eof:
        unpacked += inflater.decompress(inflater.unconsumed_tail, 1)
    if len(unpacked) == num_bytes and not inflater.eof:
        raise EOFError("the packed data end before their checksum")
    if len(unpacked) > num_bytes:
        raise EOFError(f"more than the {num_bytes} bytes of voxels announced are packed")
    return unpacked


def _numbers(text: bytes, dtype: np.dtype[Any], count: int) -> NDArray[Any]:
    words = SEPARATORS.split(text.strip(), count)[:count]
    if len(words) < count:
        raise EOFError(f"the file ends after {len(words)} of {count} numbers")
    if max(map(len, words)) > MOST_DIGITS:
        raise ValueError(f"a number of more than {MOST_DIGITS} digits")
    values = np.empty(count, dtype)
    for start in range(0, count, PIECE_NUMBERS):
        values[start : start + PIECE_NUMBERS] = np.array(words[start : start + PIECE_NUMBERS]).astype(dtype)
    return values
