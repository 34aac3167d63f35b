"""Image files: the one place where file axes (X, Y, Z, channel) become array axes (C, Z, Y, X) and back.

Affines are in RAS+ millimetres. Each format has a module of its own that opens a file; here its volumes become channels or
labels. What has none of the known endings may be DICOM. Results are written as NIfTI.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tumorseg.errors import InputError
from tumorseg.schema.dataset import ImageFile
from tumorseg.storage import itk, raster
from tumorseg.storage.dicom_files import is_dicom_file
from tumorseg.storage.dicom_labels import label_names, paint_labels
from tumorseg.storage.dicom_series import open_series
from tumorseg.storage.stored import NIFTI_ENDINGS, Geometry, Stored
from tumorseg.types import Affine, Segmentation


def _open_nifti(path: str) -> Stored:
    # nibabel's import takes a while, which those who read none are spared
    from tumorseg.storage.nifti import open_nifti

    return open_nifti(path)


OPENERS: dict[str, Callable[[str], Stored]] = {
    **dict.fromkeys(NIFTI_ENDINGS, _open_nifti),
    **dict.fromkeys(itk.ENDINGS, itk.open_itk),
    **dict.fromkeys(raster.ENDINGS, raster.open_raster),
}
"""How an image file's name may end, and what opens it; the longer ending of two that fit stands first."""
ENDINGS = tuple(OPENERS)
FLAT_ENDINGS = raster.ENDINGS
"""Of formats without depth; among volumes such files are most likely pictures of something else."""
ROUNDING = 1e-3
"""How far a label may be from an integer where the file scales its values; elsewhere it must be exact."""


class Volume(NamedTuple):
    """One image volume in stored axis order."""

    array: NDArray[Any]
    """(Z, Y, X)."""
    affine: Affine
    """(4, 4), voxels (x, y, z, 1) to RAS+ mm."""


class StoredVolume(NamedTuple):
    """One image volume as its file holds it."""

    array: NDArray[Any]
    """(Z, Y, X), in the file's own dtype."""
    scaling: tuple[float, float]
    """Slope and intercept from stored to real values."""
    affine: Affine
    """(4, 4), voxels (x, y, z, 1) to RAS+ mm."""


def strip_ending(name: str) -> str | None:
    """Return a file's name without its format's ending, or None where it has none of `ENDINGS`."""
    return next((name[: -len(ending)] for ending in ENDINGS if name.lower().endswith(ending)), None)


def read_image(file: ImageFile) -> Volume:
    """Read one channel: float32 (Z, Y, X), the header's scaling applied. Values may be non-finite.

    Raises:
        InputError: the file is missing, damaged, of another format, or does not hold that volume.
    """
    return read_images([file])[0]


def read_images(files: Sequence[ImageFile]) -> list[Volume]:
    """Read several channels as `read_image` does, each file only once however many of its volumes are asked for.

    Raises:
        InputError: as from `read_image`.
    """
    volumes: dict[ImageFile, Volume] = {}
    for path, parts in dict.fromkeys((file.path, file.parts) for file in files):
        held = {file for file in files if (file.path, file.parts) == (path, parts)}
        wanted = sorted(held, key=lambda file: file.index or 0)
        stored = _open(wanted[0])
        arrays = stored.read([_volume_index(file, stored.geometry) for file in wanted])
        for file, array in zip(wanted, arrays, strict=True):
            volumes[file] = Volume(_scale(array, stored, np.dtype(np.float32)), stored.geometry.affine)
    return [volumes[file] for file in files]


def read_stored(file: ImageFile) -> StoredVolume:
    """Read one channel without turning its values into others.

    Raises:
        InputError: as from `read_image`.
    """
    stored = _open(file)
    (array,) = stored.read([_volume_index(file, stored.geometry)])
    return StoredVolume(array, stored.scaling, stored.geometry.affine)


def read_segmentation(path: str) -> Volume:
    """Read a label map: int16 (Z, Y, X), or int32 where int16 does not hold the values.

    Raises:
        InputError: as from `read_image`, or a value is not an integer.
    """
    stored = _open(ImageFile(path=path))
    (array,) = stored.read([_volume_index(ImageFile(path=path), stored.geometry)])
    is_scaled = stored.scaling != (1.0, 0.0)
    if array.dtype.kind == "f" or is_scaled:
        array = _scale(array, stored, np.dtype(np.float64)) if is_scaled else array
        array = _round_labels(path, array, tolerance=ROUNDING if is_scaled else 0)
    lowest, highest = int(array.min()), int(array.max())
    kind = next((k for k in (np.int16, np.int32) if np.iinfo(k).min <= lowest and highest <= np.iinfo(k).max), None)
    if kind is None:
        raise InputError(
            f"{path}: found label values from {lowest} to {highest}; expected them to fit 32 bits; renumber"
        )
    return Volume(array.astype(kind), stored.geometry.affine)


def knows_names_only(label: str) -> bool:
    """Tell whether a label file is DICOM by its name, or a folder of it: there, labels have names but no values."""
    return not label.lower().endswith(ENDINGS)


def read_label_names(files: Sequence[str]) -> set[str]:
    """Return the names of the labels in the DICOM files of one reference.

    Raises:
        InputError: a file is missing, damaged, or no DICOM segmentation.
    """
    return label_names(files)


def read_reference(files: Sequence[str], grid: Geometry, values: Mapping[str, int]) -> Volume:
    """Read a reference segmentation of any format.

    Args:
        files: one file of labels as numbers, on a grid of its own, or DICOM files (SEG, RTSTRUCT), or folders of such.
        grid: of its image, on which DICOM is painted.
        values: label value of each name, for DICOM.

    Raises:
        InputError: as from `read_segmentation`, or DICOM does not fit the grid or has none of the names.
    """
    if not knows_names_only(files[0]):
        return read_segmentation(files[0])
    return Volume(paint_labels(files, grid, values), grid.affine)


def read_geometry(path: str) -> Geometry:
    """Read a file's grid from its header alone; damage further on is not seen.

    Raises:
        InputError: as from `read_image`.
    """
    return _open(ImageFile(path=path)).geometry


def write_segmentation(path: Path, segmentation: Segmentation, *, like: ImageFile) -> None:
    """Write a label map on the grid of an image file: of NIfTI, with the same sform, qform, codes, voxel sizes and units.

    Args:
        path: `.nii` or `.nii.gz`, written atomically; the same input gives the same bytes.
        segmentation: (Z, Y, X), stored as the smallest integer type that holds it, without scaling.
        like: the image; a 2D one makes a 2D file, a 4D one the 3D grid of its volumes.

    Raises:
        InputError: `like` cannot be read, has another shape, or `path` has another ending.
        StorageError: the file cannot be written.
    """
    from tumorseg.storage import nifti

    _check_nifti(path)
    shape, affine, _ = _open(like).geometry
    if segmentation.shape != shape:
        raise InputError(
            f"{like.path}: found a grid of {shape} voxels (z, y, x), expected {segmentation.shape}; was it replaced?"
        )
    kind = np.result_type(np.min_scalar_type(segmentation.min()), np.min_scalar_type(segmentation.max()))
    if like.path.lower().endswith(NIFTI_ENDINGS):
        nifti.write_like(path, segmentation.astype(kind), like.path)
    else:
        nifti.write_new(path, segmentation.astype(kind), affine)


def write_image(path: Path, image: NDArray[Any], *, affine: Affine) -> None:
    """Write an array as a new NIfTI-1 file in its own dtype, atomically.

    Args:
        path: `.nii` or `.nii.gz`.
        image: (Z, Y, X), or (C, Z, Y, X), which becomes 4D with channels last.
        affine: (4, 4), voxels (x, y, z, 1) to RAS+ mm.

    Raises:
        InputError: `path` has another ending.
        StorageError: the file cannot be written.
    """
    from tumorseg.storage import nifti

    _check_nifti(path)
    nifti.write_new(path, image, affine)


def _check_nifti(path: Path) -> None:
    if not path.name.lower().endswith(NIFTI_ENDINGS):
        raise InputError(f"{path}: cannot write this format; expected a name that ends in .nii.gz or .nii")


def _open(file: ImageFile) -> Stored:
    """Open a file by the reader of its ending, or as DICOM."""
    path = file.path
    opener = next((opener for ending, opener in OPENERS.items() if path.lower().endswith(ending)), None)
    if Path(path).is_dir() or (opener is None and is_dicom_file(Path(path))):
        return open_series(file)
    if opener is None:
        raise InputError(
            f"{path}: unsupported image format; expected DICOM, or a file that ends in {', '.join(ENDINGS)}; convert it"
        )
    if not Path(path).is_file():
        raise InputError(f"{path}: no such file; expected an image; check the path")
    return opener(path)


def _volume_index(file: ImageFile, geometry: Geometry) -> int:
    """Return which volume of its file a channel is."""
    num_volumes = geometry.num_volumes
    if file.num_volumes not in (None, num_volumes):
        raise InputError(
            f"{file.path}: found {num_volumes} volume(s) along the last axis, expected {file.num_volumes}, one per channel; "
            "check the number of channels"
        )
    if file.index is None and num_volumes > 1:
        raise InputError(f"{file.path}: found {num_volumes} volumes along the last axis, expected one; split the file")
    if not 0 <= (file.index or 0) < num_volumes:
        raise InputError(
            f"{file.path}: found {num_volumes} volume(s) along the last axis, expected one at index {file.index}; "
            "check the number of channels"
        )
    return file.index or 0


def _scale(array: NDArray[Any], stored: Stored, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return a writable array of `dtype` with the header's slope and intercept applied in that type."""
    slope, intercept = stored.scaling
    with np.errstate(over="ignore", invalid="ignore"):
        scaled = array.astype(dtype)
        if (slope, intercept) != (1.0, 0.0):
            scaled *= dtype.type(slope)
            scaled += dtype.type(intercept)
    return scaled


def _round_labels(path: str, array: NDArray[Any], *, tolerance: float) -> NDArray[Any]:
    """Return float labels as int64."""
    with np.errstate(invalid="ignore"):
        is_off = ~(np.abs(array - np.rint(array)) <= tolerance) | (np.abs(array) > 2**40)
    if is_off.any():
        raise InputError(
            f"{path}: found the value {array[is_off][0]}, expected integer labels; is this an intensity image?"
        )
    rounded: NDArray[np.int64] = np.rint(array).astype(np.int64)
    return rounded
