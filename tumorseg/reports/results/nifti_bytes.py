"""NIfTI-1 files in memory."""

import struct

import numpy as np
from numpy.typing import NDArray

from tumorseg.types import Affine

_UINT8 = 2  # the standard's number of the type
_MILLIMETRES = 2
_SCANNER = 1  # the affine leads into the scanner's space
_HEADER_BYTES = 348
_OFFSET = 352  # four bytes behind the header say that no extension follows


def nifti_bytes(array: NDArray[np.uint8], affine: Affine) -> bytes:
    """Return a volume as an uncompressed NIfTI-1 file, placed by its sform alone.

    Args:
        array: (Z, Y, X), uint8.
        affine: (4, 4), voxels (x, y, z, 1) to RAS+ mm.

    References:
        Cox et al., A (sort of) new image data format standard: NIfTI-1, HBM 2004.
    """
    shape = array.shape[::-1]
    spacing_mm = np.linalg.norm(affine[:3, :3], axis=0)
    header = bytearray(_HEADER_BYTES)
    struct.pack_into("<i", header, 0, _HEADER_BYTES)
    struct.pack_into("<8h", header, 40, 3, *shape, 1, 1, 1, 1)
    struct.pack_into("<2h", header, 70, _UINT8, 8)
    struct.pack_into("<8f", header, 76, 1, *spacing_mm, 0, 0, 0, 0)
    struct.pack_into("<3f", header, 108, _OFFSET, 1, 0)
    struct.pack_into("<B", header, 123, _MILLIMETRES)
    # The shown range, which readers else look for in the voxels.
    struct.pack_into("<2f", header, 124, 255, 0)
    struct.pack_into("<2h", header, 252, 0, _SCANNER)
    struct.pack_into("<12f", header, 280, *affine[:3].ravel())
    struct.pack_into("<4s", header, 344, b"n+1\0")
    # Arrays in C order with x last are files with x first.
    return bytes(header) + bytes(_OFFSET - _HEADER_BYTES) + np.ascontiguousarray(array).tobytes()
