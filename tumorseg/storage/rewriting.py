"""Images from file to file, as NIfTI-1: what is read from the new file is what was read from the old one.

A file that is as it has to be is copied byte for byte; any other is rewritten, its voxels in their own dtype and order, with
slope and intercept beside them. The first file of a case gives all others their header, so that no program sees them apart.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tumorseg.schema.dataset import ImageFile
from tumorseg.storage import atomic
from tumorseg.storage.formats import nifti, nifti_writing
from tumorseg.storage.image_writing import write_segmentation
from tumorseg.storage.images import StoredVolume, read_geometry, read_stored
from tumorseg.types import Affine, Segmentation

ENDING = ".nii.gz"
"""Of every file written here."""


def rewrite_channel(path: Path, file: ImageFile, *, like: Path | None = None, affine: Affine | None = None) -> None:
    """Write one channel as a file of its own.

    Args:
        path: where to; ends in `.nii.gz`.
        file: the channel.
        like: the case's first file as written here, on whose grid the channel lies; None if this is the first.
        affine: (4, 4), the grid that a new header is to state, because the file's own states none; None to keep it.

    Raises:
        InputError: the channel cannot be read.
        StorageError: the file cannot be written.
    """
    if affine is not None:
        write_placed(path, read_stored(file)._replace(affine=affine))
    elif _is_ready(file.path, like):
        atomic.write_bytes(path, Path(file.path).read_bytes())
    else:
        write_stored(path, read_stored(file), like=str(like or file.path))


def rewrite_label(path: Path, segmentation: Segmentation, *, source: str, like: Path) -> None:
    """Write a label map, as a copy of its source where that holds the same values on the same grid.

    Args:
        path: where to; ends in `.nii.gz`.
        segmentation: (Z, Y, X), the values to be written.
        source: the file that it was read from.
        like: the case's first image as written here.

    Raises:
        StorageError: the file cannot be written.
    """
    if _is_ready(source, like) and _holds(source, segmentation):
        atomic.write_bytes(path, Path(source).read_bytes())
    else:
        write_segmentation(path, segmentation, like=ImageFile(path=str(like)))


def rewrite_joined(
    path: Path, files: Sequence[ImageFile], read: StoredVolume, *, is_moved: bool, affine: Affine | None = None
) -> None:
    """Write the channels of a case as one 4D file, channels last.

    Args:
        path: where to; ends in `.nii.gz`.
        files: the channels; the first gives the grid.
        read: (C, Z, Y, X), float32, the channels as they were read and brought onto that grid.
        is_moved: whether one of them was reoriented or interpolated there, so that `read` has to be written.
        affine: as for `rewrite_channel`.

    Raises:
        InputError: a channel cannot be read.
        StorageError: the file cannot be written.
    """
    if affine is None and _is_whole_file(files):
        atomic.write_bytes(path, Path(files[0].path).read_bytes())
        return
    # Channels without a stored type in common are written as they were read, in float32.
    joined = None if is_moved else _join([read_stored(file) for file in files])
    if affine is not None or is_moved:
        write_placed(path, (joined or read)._replace(affine=read.affine))
    else:
        write_stored(path, joined or read, like=files[0].path)


def write_stored(path: Path, volume: StoredVolume, *, like: str) -> None:
    """Write a volume (Z, Y, X) or (C, Z, Y, X) with the header of a file that is NIfTI-1; else with a new one.

    Raises:
        StorageError: the file cannot be written.
    """
    if nifti.is_nifti1(like):
        array = volume.array.astype(_native(volume.array.dtype), copy=False)
        nifti_writing.write_like(path, nifti_writing.voxels_of(array, volume.scaling), like)
    else:
        write_placed(path, volume)


def write_placed(path: Path, volume: StoredVolume) -> None:
    """Write a volume (Z, Y, X) or (C, Z, Y, X) with a new header that states its grid.

    Raises:
        StorageError: the file cannot be written.
    """
    array = volume.array.astype(_native(volume.array.dtype), copy=False)
    flat = array[0] if array.ndim == 3 and array.shape[0] == 1 and _lies_flat(volume.affine) else array
    nifti_writing.write_new(path, nifti_writing.voxels_of(flat, volume.scaling), volume.affine)


def _is_ready(path: str, like: Path | None) -> bool:
    """Tell whether a file can be copied as it is: compressed NIfTI-1 of one volume, with the header grid of `like`."""
    if not path.endswith(ENDING) or not nifti.is_nifti1(path):
        return False
    return nifti.has_header_grid_of(path, str(like or path))


def _is_whole_file(files: Sequence[ImageFile]) -> bool:
    """Tell whether channels are all volumes of one compressed NIfTI-1 file, in order."""
    path = files[0].path
    if {file.path for file in files} != {path} or not path.endswith(ENDING) or not nifti.is_nifti1(path):
        return False
    return [file.index for file in files] == list(range(read_geometry(path).num_volumes))


def _holds(source: str, segmentation: Segmentation) -> bool:
    """Tell whether a label file stores these very values, not others that its header scales to them."""
    stored = read_stored(ImageFile(path=source))
    return stored.scaling == (1.0, 0.0) and np.array_equal(stored.array, segmentation)


def _join(volumes: Sequence[StoredVolume]) -> StoredVolume | None:
    """Return one 4D volume (C, Z, Y, X) of the same stored values, or None where they have no type or scaling in common."""
    dtypes = {_native(volume.array.dtype) for volume in volumes}
    common = np.result_type(*dtypes)
    # A wider integer holds every value of a narrower one; a float may not hold every integer.
    if len({volume.scaling for volume in volumes}) > 1 or (len(dtypes) > 1 and common.kind not in "iu"):
        return None
    array = np.stack([volume.array.astype(common, copy=False) for volume in volumes])
    return StoredVolume(array, volumes[0].scaling, volumes[0].affine)


def _native(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return the type of this machine's byte order in which NIfTI can hold such voxels."""
    if dtype.kind == "b":
        return np.dtype(np.uint8)
    if dtype.kind == "f":
        return np.dtype(np.float32 if dtype.itemsize <= 4 else np.float64)
    return dtype.newbyteorder("=")


def _lies_flat(affine: Affine) -> bool:
    """Tell whether a slice lies in the world's x-y plane; other programs know no other 2D images."""
    # Direction cosines of an axial slice are 0 in its header but for rounding.
    return bool(np.allclose([affine[2, :2], affine[:2, 2]], 0, atol=1e-6))
