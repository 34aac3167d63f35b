"""NIfTI files from voxels, atomically, slab by slab: a volume is never copied as a whole."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tumorseg.storage import atomic
from tumorseg.storage.formats.nifti import header_bytes, image_like, load_header, new_image
from tumorseg.storage.formats.zipping import packed, plain, quickly_packed, slabs
from tumorseg.types import Affine


class Voxels(NamedTuple):
    """Voxels to be written, which need not be in memory at once."""

    shape: tuple[int, ...]
    """(Z, Y, X), (C, Z, Y, X), which becomes 4D with channels last, or (Y, X), which becomes 2D."""
    dtype: np.dtype[Any]
    """In which they are stored."""
    parts: Iterable[NDArray[Any]]
    """Arrays that hold all voxels in C order, one part after the other."""
    scaling: tuple[float, float] = (1.0, 0.0)
    """Slope and intercept from stored to real values."""
    names: tuple[str, ...] = ()
    """Of the channels of a 4D file, kept in a header extension of the kind `comment`: JSON, {"volumes": [names]}."""
    is_quick: bool = False
    """Whether it matters more that a compressed file is soon written than that it is small and the same on every processor."""


def voxels_of(array: NDArray[Any], scaling: tuple[float, float] = (1.0, 0.0)) -> Voxels:
    """Return the voxels of an array, stored in its own dtype."""
    return Voxels(array.shape, array.dtype, slabs(array), scaling)


def write_like(path: Path, voxels: Voxels, like: str) -> None:
    """Write voxels with the header of a NIfTI file: same sform, qform, codes, voxel sizes and units.

    Args:
        path: `.nii` or `.nii.gz`.
        voxels: what to write.
        like: the file; of a 4D one the grid of its volumes counts.

    Raises:
        InputError: `like` cannot be read.
        StorageError: the file cannot be written.
    """
    stated = load_header(like)
    _write(path, image_like(stated, voxels.shape, voxels.dtype), voxels, raw=stated.raw)


def write_new(path: Path, voxels: Voxels, affine: Affine) -> None:
    """Write voxels with a new header of NIfTI-1.

    Args:
        path: `.nii` or `.nii.gz`.
        voxels: what to write.
        affine: (4, 4), voxels (x, y, z, 1) to RAS+ mm.

    Raises:
        StorageError: the file cannot be written.
    """
    _write(path, new_image(voxels.shape, voxels.dtype, affine), voxels)


def _write(path: Path, nifti: Any, voxels: Voxels, *, raw: Any = None) -> None:
    comment = json.dumps({"volumes": voxels.names}, ensure_ascii=False) if voxels.names else ""
    header = header_bytes(nifti, scaling=voxels.scaling, comment=comment, raw=raw)
    # A file may be big-endian, and then what is like it is so too.
    parts = _file_parts(header, voxels.parts, nifti.get_data_dtype())
    if not path.name.lower().endswith("gz"):
        atomic.write_parts(path, plain(parts))
    else:
        atomic.write_parts(path, quickly_packed(parts) if voxels.is_quick else packed(parts))


def _file_parts(header: bytes, parts: Iterable[NDArray[Any]], dtype: np.dtype[Any]) -> Iterator[NDArray[Any]]:
    yield np.frombuffer(header, np.uint8)
    for part in parts:
        yield np.ascontiguousarray(part, dtype)
