"""NRRD, with its voxels in the file itself or in others beside it."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tumorseg.errors import InputError
from tumorseg.storage.damage import TEXT_HEADERS
from tumorseg.storage.formats.assumed import laid_out
from tumorseg.storage.formats.detached import data_files
from tumorseg.storage.formats.header_text import integers
from tumorseg.storage.formats.nrrd_headers import MAGIC, NrrdAxes, NrrdHeader, affine_of, axes_of, read_header
from tumorseg.storage.formats.packed import Packing, check_claim, read_values
from tumorseg.storage.formats.stored import Geometry, Stored, check_affine, damaged

KIND = "NRRD"
TYPES = {
    "i1": ("signed char", "int8", "int8_t"),
    "u1": ("uchar", "unsigned char", "uint8", "uint8_t"),
    "i2": ("short", "short int", "signed short", "signed short int", "int16", "int16_t"),
    "u2": ("ushort", "unsigned short", "unsigned short int", "uint16", "uint16_t"),
    "i4": ("int", "signed int", "int32", "int32_t"),
    "u4": ("uint", "unsigned int", "uint32", "uint32_t"),
    "i8": ("longlong", "long long", "long long int", "signed long long", "signed long long int", "int64", "int64_t"),
    "u8": ("ulonglong", "unsigned long long", "unsigned long long int", "uint64", "uint64_t"),
    "f4": ("float",),
    "f8": ("double",),
}
"""What a header may call each type."""
ENCODINGS = {
    "raw": ("raw",),
    "gzip": ("gzip", "gz"),
    "bzip2": ("bzip2", "bz2"),
    "ascii": ("ascii", "text", "txt"),
    "hex": ("hex",),
}
"""What a header may call each encoding."""
ENDIANS = {"little": "<", "big": ">"}


def is_nrrd(path: str) -> bool:
    """Tell whether a file begins as NRRD does, whatever its name; what cannot be read does not."""
    try:
        with Path(path).open("rb") as file:
            return file.read(len(MAGIC)) == MAGIC.encode()
    except OSError:
        return False


def open_nrrd(path: str, assumed_orientation: str | None = None) -> Stored:
    """Read and check the header.

    Args:
        path: of the file.
        assumed_orientation: where axes x, y, z point to if the header does not say; None for ITK's reading of it.

    Raises:
        InputError: the file is damaged, or holds no image of two or three axes.
    """
    try:
        header = read_header(path)
    except TEXT_HEADERS as error:
        # An InputError is a ValueError, so it is caught here as well.
        if isinstance(error, InputError):
            raise
        raise damaged(path, KIND, error) from None
    axes = axes_of(header)
    sizes = [header.sizes[axis] for axis in axes.spatial]
    x, y, z = (*sizes, 1)[:3]
    affine, doubt = affine_of(header, axes)
    affine = laid_out(check_affine(path, affine), doubt, (z, y, x), assumed_orientation)
    num_volumes = 1 if axes.channels is None else header.sizes[axes.channels]
    packing, files = _packing(header), data_files(path)
    places = [(file, 0) for file in files] or [(path, header.end)]
    check_claim(path, places, packing, count=math.prod(header.sizes), kind=KIND)
    geometry = Geometry((z, y, x), affine, num_volumes, doubt is None)
    return Stored(
        path, geometry, (1.0, 0.0), lambda indices: _read_volumes(header, axes, packing, places, indices), doubt
    )


def _packing(header: NrrdHeader) -> Packing:
    path, fields = header.path, header.fields
    kind = _known(path, "type", fields.get("type", ""), TYPES)
    encoding = _known(path, "encoding", fields.get("encoding", ""), ENCODINGS)
    order = ENDIANS.get(fields.get("endian", "").lower())
    # Single bytes and text have no order of bytes, and need not state one.
    if order is None and kind[1] != "1" and encoding != "ascii":
        raise InputError(
            "found no endian, expected little or big for numbers of several bytes; mend the header", file=path
        )
    skips = [integers(path, name, fields.get(name, "0"), 1)[0] for name in ("lineskip", "byteskip")]
    return Packing(encoding, np.dtype((order or "<") + kind), *skips)


def _known(path: str, key: str, text: str, names: dict[str, tuple[str, ...]]) -> str:
    """Return what a word of the header means."""
    found = next((known for known, spellings in names.items() if text.lower() in spellings), None)
    if found is None:
        listed = ", ".join(spellings[0] for spellings in names.values())
        raise InputError(f"found the {key} {text[:60]!r}, expected one of {listed}; convert the file", file=path)
    return found


def _read_volumes(
    header: NrrdHeader, axes: NrrdAxes, packing: Packing, places: Sequence[tuple[str, int]], indices: Sequence[int]
) -> list[NDArray[Any]]:
    values = read_values(header.path, places, packing, count=math.prod(header.sizes), kind=KIND)
    last = len(header.sizes) - 1
    # NRRD lists the fastest axis first, numpy last.
    array = values.reshape(header.sizes[::-1])
    array = array[None] if axes.channels is None else np.moveaxis(array, last - axes.channels, 0)
    volumes = array if len(axes.spatial) == 3 else array[:, None]
    return [np.ascontiguousarray(volumes[index]) for index in indices]
