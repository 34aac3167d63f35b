"""MetaImage, `.mha` and `.mhd`, read without ITK.

ITK's own reader ends the process for some headers, takes what it could not unpack for voxels, and writes to the terminal without a
file's name.

References:
    MetaIO's documentation (itk.org/Wiki/MetaIO/Documentation), and its source where that is silent.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tumorseg.errors import InputError
from tumorseg.storage.damage import TEXT_HEADERS
from tumorseg.storage.formats.assumed import Doubt, laid_out
from tumorseg.storage.formats.detached import data_files
from tumorseg.storage.formats.header_text import header_lines, integers, millimetres, numbers
from tumorseg.storage.formats.packed import Packing, check_claim, read_values
from tumorseg.storage.formats.stored import Geometry, Stored, check_affine, check_shape, damaged
from tumorseg.types import Affine

KIND = "MetaImage"
IMAGE = "Image"
LAST_KEY = "ElementDataFile"
TYPES = {
    "MET_CHAR": "i1",
    "MET_UCHAR": "u1",
    "MET_SHORT": "i2",
    "MET_USHORT": "u2",
    "MET_INT": "i4",
    "MET_UINT": "u4",
    "MET_LONG": "i4",  # whatever the machine's own long is
    "MET_ULONG": "u4",
    "MET_LONG_LONG": "i8",
    "MET_ULONG_LONG": "u8",
    "MET_FLOAT": "f4",
    "MET_DOUBLE": "f8",
}
ARRAY = "_ARRAY"
"""Ends the type of voxels of several numbers."""
MATRIX_KEYS = ("TransformMatrix", "Orientation", "Rotation")
ORIGIN_KEYS = ("Offset", "Position", "Origin")
SPACING_KEYS = ("ElementSpacing", "ElementSize")
ANATOMY = "AnatomicalOrientation"
ITK_ANATOMY = "RAI"
"""What ITK writes for axes that run to L, P, S: where they come from. MetaIO's documentation says: where they go to."""
TRUE = ("true", "t", "1")
INTENSITY = (("ElementToIntensityFunctionSlope", 1.0), ("ElementToIntensityFunctionOffset", 0.0))


class MetaHeader(NamedTuple):
    """The fields of a header."""

    path: str
    fields: dict[str, str]
    end: int
    """Where the text ends, in bytes."""
    size: list[int]
    """Voxels along x, y[, z]."""
    num_channels: int
    """Numbers of a voxel."""


def open_metaimage(path: str, assumed_orientation: str | None = None) -> Stored:
    """Read and check the header.

    Args:
        path: of the file.
        assumed_orientation: where axes x, y, z point to if the header does not say; None for ITK's reading of it.

    Raises:
        InputError: the file is damaged, or holds no image of two or three axes.
    """
    header = _read_header(path)
    x, y, z = (*header.size, 1)[:3]
    affine, doubt = _affine_of(header), _doubt(header)
    affine = laid_out(check_affine(path, affine), doubt, (z, y, x), assumed_orientation)
    geometry = Geometry((z, y, x), affine, header.num_channels, doubt is None)
    packing, places = _packing(header), _places(header)
    check_claim(path, places, packing, count=math.prod(header.size) * header.num_channels, kind=KIND)
    return Stored(path, geometry, (1.0, 0.0), lambda indices: _read_volumes(header, packing, places, indices), doubt)


def _read_header(path: str) -> MetaHeader:
    """Read and check what a header says of its voxels."""
    fields: dict[str, str] = {}
    end = 0
    try:
        for line, position in header_lines(path):
            # The earlier of the two signs ends the key.
            separator = ":" if ":" in line.partition("=")[0] else "="
            key, _, value = (part.strip() for part in line.partition(separator))
            # Behind the text come voxels, where a header lacks its last key.
            if not key or separator not in line:
                break
            fields[key], end = value, position
            if key == LAST_KEY:
                break
    except TEXT_HEADERS as error:
        raise damaged(path, KIND, error) from None
    if (kind := fields.get("ObjectType", IMAGE)) != IMAGE:
        raise InputError(f"found the ObjectType {kind[:40]!r}, expected {IMAGE}; convert it", file=path)
    if LAST_KEY not in fields:
        raise damaged(path, KIND, f"its header does not end with {LAST_KEY}")
    count = integers(path, "NDims", fields.get("NDims", ""), 1)[0]
    if not 2 <= count <= 3:
        raise InputError(
            f"found {count} axes, expected 2 or 3, channels as components of a voxel; split the file", file=path
        )
    size = integers(path, "DimSize", fields.get("DimSize", ""), count)
    check_shape(path, size)
    num_channels = integers(path, "ElementNumberOfChannels", fields.get("ElementNumberOfChannels", "1"), 1)[0]
    if num_channels < 1:
        raise InputError(
            f"found ElementNumberOfChannels {num_channels}, expected at least 1; mend the header", file=path
        )
    return MetaHeader(path, fields, end, size, num_channels)


def _stated(header: MetaHeader, keys: Sequence[str], count: int) -> list[float] | None:
    """Return the numbers of the first of a field's names that the header has."""
    key = next((key for key in keys if key in header.fields), None)
    return None if key is None else numbers(header.path, key, header.fields[key], count)


def _affine_of(header: MetaHeader) -> Affine:
    """Return where voxels lie, in RAS+ mm; a 2D image gets a normal of 1 mm."""
    axes = len(header.size)
    matrix = np.array(_stated(header, MATRIX_KEYS, axes * axes) or np.eye(axes).ravel())
    spacing = np.array(_stated(header, SPACING_KEYS, axes) or [1.0] * axes)
    origin = np.array(_stated(header, ORIGIN_KEYS, axes) or [0.0] * axes)
    unit = millimetres(header.path, "DistanceUnits", [header.fields.get("DistanceUnits", "")])[0]
    affine = np.eye(4)
    # the matrix has the directions of x, y, z as rows
    affine[:axes, :axes] = unit * matrix.reshape(axes, axes).T * spacing
    affine[:axes, 3] = unit * origin
    # MetaImage's world is LPS, as all of ITK's.
    return np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine


def _doubt(header: MetaHeader) -> Doubt | None:
    """Return why a header does not say where the patient lies; where it has a matrix, that counts, whatever the letters say."""
    if any(key in header.fields for key in MATRIX_KEYS):
        return None
    letters = header.fields.get(ANATOMY, "???").upper()
    if letters == ITK_ANATOMY:
        return None
    if set(letters) <= {"?"}:
        return Doubt("the header has no TransformMatrix")
    return Doubt(f"the header has no TransformMatrix, and {ANATOMY} {letters[:20]} is read in two ways by programs")


def _packing(header: MetaHeader) -> Packing:
    path, fields = header.path, header.fields
    name = fields.get("ElementType", "").upper()
    kind = TYPES.get(name.removesuffix(ARRAY))
    if kind is None:
        raise InputError(
            f"found the ElementType {name[:40]!r}, expected one of {', '.join(TYPES)}; convert the file", file=path
        )
    for key, plain in INTENSITY:
        if key in fields and numbers(path, key, fields[key], 1) != [plain]:
            raise InputError(
                f"found {key} {fields[key][:40]}, which most programs ignore; expected {plain:g}; store intensities",
                file=path,
            )
    is_big = any(_is_true(header, key) for key in ("BinaryDataByteOrderMSB", "ElementByteOrderMSB"))
    encoding = "zlib" if _is_true(header, "CompressedData") else "raw"
    if "BinaryData" in fields and not _is_true(header, "BinaryData"):
        encoding = "ascii"
    # Only -1 is left to the packing, which knows how many bytes voxels take; else `_places` says where they begin.
    return Packing(encoding, np.dtype((">" if is_big else "<") + kind), byte_skip=min(_header_size(header), 0))


def _places(header: MetaHeader) -> list[tuple[str, int]]:
    """Return the files with voxels, and where they begin; a stated size of the header counts in whatever file that is."""
    start = max(_header_size(header), 0)
    return [(file, start) for file in data_files(header.path)] or [(header.path, start or header.end)]


def _header_size(header: MetaHeader) -> int:
    """Return how many bytes come before voxels; -1: as many as are left over."""
    return integers(header.path, "HeaderSize", header.fields.get("HeaderSize", "0"), 1)[0]


def _is_true(header: MetaHeader, key: str) -> bool:
    return header.fields.get(key, "").lower() in TRUE


def _read_volumes(
    header: MetaHeader, packing: Packing, places: Sequence[tuple[str, int]], indices: Sequence[int]
) -> list[NDArray[Any]]:
    count = math.prod(header.size) * header.num_channels
    values = read_values(header.path, places, packing, count=count, kind=KIND)
    z, y, x = (1, *header.size[::-1])[-3:]
    volumes = values.reshape(z, y, x, header.num_channels)
    return [np.ascontiguousarray(volumes[..., index]) for index in indices]
