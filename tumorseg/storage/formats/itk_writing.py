"""NRRD and MetaImage from label maps, written without ITK: exact numbers in the header, the same bytes for the same voxels.

Both state the world as LPS, and always three axes, since a file of two could not tell where its plane lies.

References:
    The NRRD format (teem.sourceforge.net/nrrd/format.html), sections 3 to 5.
    MetaIO's documentation (itk.org/Wiki/MetaIO/Documentation).
"""

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from tumorseg.errors import InputError
from tumorseg.storage import atomic
from tumorseg.storage.formats.zipping import ZLIB, packed, slabs
from tumorseg.types import Affine, Segmentation

LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
"""From RAS+ mm to the world of both formats, and back."""
MOST_SHEARED = 1e-3
"""Cosine between two axes that counts as a right angle: headers are often rounded to a few digits."""
NRRD_TYPES = {
    "u1": "unsigned char",
    "i1": "signed char",
    "u2": "unsigned short",
    "i2": "short",
    "u4": "unsigned int",
    "i4": "int",
    "u8": "unsigned long long int",
    "i8": "long long int",
}
META_TYPES = {
    "u1": "MET_UCHAR",
    "i1": "MET_CHAR",
    "u2": "MET_USHORT",
    "i2": "MET_SHORT",
    "u4": "MET_UINT",
    "i4": "MET_INT",
    "u8": "MET_ULONG_LONG",
    "i8": "MET_LONG_LONG",
}


def write_nrrd(path: Path, segmentation: Segmentation, affine: Affine) -> None:
    """Write a label map as NRRD, gzip-encoded; any affine can be told, a sheared one too.

    Args:
        path: `.nrrd`.
        segmentation: (Z, Y, X), stored in its own type.
        affine: (4, 4), voxels (x, y, z, 1) to RAS+ mm.

    Raises:
        StorageError: the file cannot be written.
    """
    stored, world = _little_endian(segmentation), LPS @ affine
    lines = [
        "NRRD0004",
        f"type: {NRRD_TYPES[stored.dtype.str[1:]]}",
        "dimension: 3",
        "space: left-posterior-superior",
        f"sizes: {_spaced(stored.shape[::-1])}",
        f"space directions: {' '.join(_vector(column) for column in world[:3, :3].T)}",
        "kinds: domain domain domain",
        "endian: little",
        "encoding: gzip",
        f"space origin: {_vector(world[:3, 3])}",
        "",
        "",
    ]
    atomic.write_parts(path, ["\n".join(lines).encode(), *packed(slabs(stored))])


def write_metaimage(path: Path, segmentation: Segmentation, affine: Affine) -> None:
    """Write a label map as MetaImage, compressed.

    Args:
        path: `.mha`.
        segmentation: (Z, Y, X), stored in its own type.
        affine: (4, 4), voxels (x, y, z, 1) to RAS+ mm, with axes at right angles.

    Raises:
        InputError: its axes are sheared.
        StorageError: the file cannot be written.
    """
    check_right_angles(path, affine)
    stored, world = _little_endian(segmentation), LPS @ affine
    spacing = np.linalg.norm(world[:3, :3], axis=0)
    voxels = list(packed(slabs(stored), ZLIB))
    header = {
        "ObjectType": "Image",
        "NDims": 3,
        "BinaryData": True,
        "BinaryDataByteOrderMSB": False,
        "CompressedData": True,
        "CompressedDataSize": sum(map(len, voxels)),
        # the directions of x, y and z, one after the other
        "TransformMatrix": _spaced((world[:3, :3] / spacing).T.ravel()),
        "Offset": _spaced(world[:3, 3]),
        "ElementSpacing": _spaced(spacing),
        "DimSize": _spaced(stored.shape[::-1]),
        "ElementType": META_TYPES[stored.dtype.str[1:]],
        "ElementDataFile": "LOCAL",
    }
    text = "".join(f"{key} = {value}\n" for key, value in header.items())
    atomic.write_parts(path, [text.encode(), *voxels])


def check_right_angles(path: Path, affine: Affine) -> None:
    """Refuse a grid that MetaImage cannot hold: its directions are those of a rotation.

    Args:
        path: what was to be written.
        affine: (4, 4).

    Raises:
        InputError: two axes are not at a right angle.
    """
    directions = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    cosine = float(np.abs(directions.T @ directions - np.eye(3)).max())
    if cosine > MOST_SHEARED:
        degrees = np.degrees(np.arcsin(min(cosine, 1.0)))
        raise InputError(
            f"found an image whose axes are up to {degrees:.3g} degrees off a right angle, which MetaImage cannot hold; "
            "expected right angles; write .nii.gz or .nrrd",
            file=path,
        )


def _little_endian(segmentation: Segmentation) -> Segmentation:
    return segmentation.astype(segmentation.dtype.newbyteorder("<"), copy=False)


def _vector(numbers: Iterable[float]) -> str:
    return f"({','.join(map(_number, numbers))})"


def _spaced(numbers: Iterable[float]) -> str:
    return " ".join(map(_number, numbers))


def _number(number: float) -> str:
    """Return the shortest text that is read as the very same number; whole numbers come without a point."""
    # adding 0 turns -0 into 0
    return str(int(number)) if number == int(number) else repr(float(number) + 0.0)
