"""Image files: the one place where file axes (X, Y, Z, channel) become array axes (C, Z, Y, X) and back.

NIfTI-1 and NIfTI-2, `.nii` and `.nii.gz`: 2D, 3D, and 4D with the channels last. Affines are in RAS+ millimetres, from the
sform where it is coded, else the qform, as the NIfTI-1 standard ranks them. Compressed files are always read to their
end: only there stands the checksum.
"""

import gzip
import math
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import nibabel
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError
from numpy.typing import NDArray

from tumorseg.errors import InputError
from tumorseg.schema.dataset import ImageFile
from tumorseg.storage import atomic
from tumorseg.types import Affine, Segmentation

ENDINGS = (".nii.gz", ".nii")
"""How an image file's name may end."""
MILLIMETRES = {1: 1000.0, 3: 0.001}
"""What a header's code of the unit of length (metre, micron) is in mm; mm, unknown and senseless codes are mm."""
UNREADABLE = (OSError, EOFError, zlib.error, ImageFileError, HeaderDataError)
"""What nibabel and gzip raise for a damaged file."""
MOST_COMPRESSION = 1032
"""Bytes that one byte of a gzip file can hold at most, says zlib's manual."""
ROUNDING = 1e-3
"""How far a label may be from an integer where the file scales its values; elsewhere it must be exact."""


class Volume(NamedTuple):
    """One image volume in stored axis order."""

    array: NDArray[Any]
    """(Z, Y, X)."""
    affine: Affine
    """(4, 4), voxels (x, y, z, 1) to RAS+ mm."""


class _Stored(NamedTuple):
    """An open file: nibabel moves offset, slope and intercept from the header to the array proxy."""

    path: str
    header: Any
    proxy: Any


class Geometry(NamedTuple):
    """What a header says of the voxel grid."""

    shape: tuple[int, int, int]
    """Voxels (Z, Y, X); a 2D image has Z = 1."""
    affine: Affine
    """(4, 4), voxels (x, y, z, 1) to RAS+ mm."""
    num_volumes: int
    """Volumes along the last axis of a 4D file, else 1."""


def strip_ending(name: str) -> str | None:
    """Return a file's name without `.nii` or `.nii.gz`, or None where it has neither."""
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
    for path in dict.fromkeys(file.path for file in files):
        wanted = sorted({file for file in files if file.path == path}, key=lambda file: file.index or 0)
        stored = _open_image(path)
        affine = _affine_of(stored)
        arrays = _read_stored(stored, [_volume_index(file, stored.header) for file in wanted])
        for file, array in zip(wanted, arrays, strict=True):
            volumes[file] = Volume(_scale(array, stored, np.dtype(np.float32)), affine)
    return [volumes[file] for file in files]


def read_segmentation(path: str) -> Volume:
    """Read a label map: int16 (Z, Y, X), or int32 where int16 does not hold the values.

    Raises:
        InputError: as from `read_image`, or a value is not an integer.
    """
    stored = _open_image(path)
    affine = _affine_of(stored)
    (array,) = _read_stored(stored, [_volume_index(ImageFile(path=path), stored.header)])
    is_scaled = (stored.proxy.slope, stored.proxy.inter) != (1.0, 0.0)
    if array.dtype.kind == "f" or is_scaled:
        array = _scale(array, stored, np.dtype(np.float64)) if is_scaled else array
        array = _round_labels(path, array, tolerance=ROUNDING if is_scaled else 0)
    lowest, highest = int(array.min()), int(array.max())
    kind = next((k for k in (np.int16, np.int32) if np.iinfo(k).min <= lowest and highest <= np.iinfo(k).max), None)
    if kind is None:
        raise InputError(
            f"{path}: found label values from {lowest} to {highest}; expected them to fit 32 bits; renumber"
        )
    return Volume(array.astype(kind), affine)


def read_geometry(path: str) -> Geometry:
    """Read a file's grid from its header alone; damage further on is not seen.

    Raises:
        InputError: as from `read_image`.
    """
    stored = _open_image(path)
    return Geometry(_shape_of(stored.header), _affine_of(stored), _num_volumes(stored.header))


def write_segmentation(path: Path, segmentation: Segmentation, *, like: str) -> None:
    """Write a label map on the grid of an image file: same shape, sform, qform, codes, voxel sizes and units.

    Args:
        path: `.nii` or `.nii.gz`, written atomically; the same input gives the same bytes.
        segmentation: (Z, Y, X), stored as the smallest integer type that holds it, without scaling.
        like: the image file; a 2D one makes a 2D file, a 4D one the 3D grid of its volumes.

    Raises:
        InputError: `like` cannot be read, has another shape, or `path` has another ending.
        StorageError: the file cannot be written.
    """
    header = _open_image(like).header.copy()
    if segmentation.shape != (shape := _shape_of(header)):
        raise InputError(
            f"{like}: found a grid of {shape} voxels (z, y, x), expected {segmentation.shape}; was it replaced?"
        )
    kind = np.result_type(np.min_scalar_type(segmentation.min()), np.min_scalar_type(segmentation.max()))
    stored = segmentation.astype(kind).transpose(2, 1, 0).reshape(header.get_data_shape()[:3])
    header.set_data_dtype(kind)
    header.set_slope_inter(1, 0)
    header.set_intent("none")
    header["cal_min"] = header["cal_max"] = 0
    header.extensions.clear()
    _write(path, _image_class(type(header))(stored, header.get_best_affine(), header))


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
    stored = image.transpose(*range(image.ndim - 1, image.ndim - 4, -1), *range(image.ndim - 3))
    nifti = _image_class(nibabel.Nifti1Header)(stored, affine)
    nifti.header.set_xyzt_units("mm")
    nifti.set_qform(affine, code="scanner")
    nifti.set_sform(affine, code="scanner")
    _write(path, nifti)


def _write(path: Path, nifti: Any) -> None:
    """Write atomically; bytes depend on nothing but the image."""
    if strip_ending(path.name) is None:
        raise InputError(f"{path}: cannot write this format; expected a name that ends in .nii.gz or .nii")
    data = nifti.to_bytes()
    atomic.write_bytes(
        path, gzip.compress(data, compresslevel=6, mtime=0) if path.name.lower().endswith("gz") else data
    )


def _image_class(header_class: type) -> Any:
    return nibabel.Nifti2Image if issubclass(header_class, nibabel.Nifti2Header) else nibabel.Nifti1Image


def _open_image(path: str) -> _Stored:
    """Read and check the header."""
    if strip_ending(path) is None:
        raise InputError(f"{path}: unsupported image format; expected a file that ends in .nii.gz or .nii; convert it")
    if not Path(path).is_file():
        raise InputError(f"{path}: no such file; expected an image; check the path")
    try:
        image = nibabel.load(path)
    except (*UNREADABLE, ValueError, OverflowError) as error:
        raise _damaged(path, error) from None
    if not isinstance(image, nibabel.Nifti1Image):
        raise InputError(f"{path}: found the format {type(image).__name__}, expected NIfTI; convert it")
    _check_header(path, image.header)
    return _Stored(path, image.header, image.dataobj)


def _check_header(path: str, header: Any) -> None:
    shape, dtype = header.get_data_shape(), header.get_data_dtype()
    if len(shape) < 2 or min(shape) < 1 or max(shape[4:], default=1) > 1:
        raise InputError(f"{path}: found shape {shape}; expected 2D, 3D, or 4D with the channels last; reshape it")
    if dtype.kind not in "biuf":
        raise InputError(f"{path}: found voxels of type {header.get_value_label('datatype')}, expected real numbers")


def _shape_of(header: Any) -> tuple[int, int, int]:
    x, y, z = (*header.get_data_shape(), 1)[:3]
    return int(z), int(y), int(x)


def _num_volumes(header: Any) -> int:
    return math.prod(header.get_data_shape()[3:])


def _affine_of(stored: _Stored) -> Affine:
    """Return the affine in mm; a single slice without a third direction gets a unit normal."""
    path, header, _ = stored
    try:
        best = np.asarray(header.get_best_affine(), dtype=np.float64)
    except ValueError as error:  # a quaternion that is no rotation
        raise _damaged(path, error) from None
    unit = MILLIMETRES.get(int(header["xyzt_units"]) & 7, 1.0)
    affine = np.diag([unit, unit, unit, 1.0]) @ best
    if _shape_of(header)[0] == 1 and not affine[:3, 2].any():
        normal = np.cross(affine[:3, 0], affine[:3, 1])
        affine[:3, 2] = normal / (np.linalg.norm(normal) or 1)
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    if not np.isfinite(affine).all() or (lengths == 0).any() or _has_zero_spacing(path, header):
        raise InputError(f"{path}: found voxel sizes of zero or no number in {affine.tolist()}; mend the header")
    if abs(np.linalg.det(affine[:3, :3] / lengths)) < 1e-6:
        raise InputError(f"{path}: the affine {affine.tolist()} is singular, expected three independent axes; mend it")
    return affine


def _has_zero_spacing(path: str, header: Any) -> bool:
    """Tell whether the voxel sizes that the affine rests on are 0 in the file; nibabel turns such into 1."""
    if header["sform_code"] > 0:
        return False
    with _open(path) as stream:
        raw = type(header).from_fileobj(stream, check=False)
    num_axes = 2 if _shape_of(header)[0] == 1 else 3
    return bool((raw["pixdim"][1 : num_axes + 1] == 0).any())


def _volume_index(file: ImageFile, header: Any) -> int:
    """Return which volume of its file a channel is."""
    num_volumes = _num_volumes(header)
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


def _read_stored(stored: _Stored, indices: list[int]) -> list[NDArray[Any]]:
    """Return volumes (Z, Y, X) as stored; `indices` ascend. The file is read to its end, so that damage shows."""
    path, header, proxy = stored
    shape = _shape_of(header)
    num_bytes = proxy.dtype.itemsize * math.prod(shape)
    held = Path(path).stat().st_size * (MOST_COMPRESSION if path.lower().endswith("gz") else 1)
    if num_bytes * _num_volumes(header) > held:
        raise _damaged(path, f"{num_bytes * _num_volumes(header)} bytes of voxels announced, the file is too short")
    arrays = []
    try:
        with _open(path) as stream:
            for index in indices:
                stream.seek(int(proxy.offset) + index * num_bytes)
                data = stream.read(num_bytes)
                if len(data) < num_bytes:
                    raise EOFError(f"the file ends after {len(data)} of {num_bytes} bytes of voxels")
                arrays.append(np.frombuffer(data, dtype=proxy.dtype).reshape(shape))
            while stream.read(1 << 20):
                pass
    except UNREADABLE as error:
        raise _damaged(path, error) from None
    return arrays


def _open(path: str) -> BinaryIO:
    return gzip.open(path, "rb") if path.lower().endswith("gz") else Path(path).open("rb")  # type: ignore[return-value]


def _scale(array: NDArray[Any], stored: _Stored, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return a writable array of `dtype` with the header's slope and intercept applied in that type."""
    slope, intercept = stored.proxy.slope, stored.proxy.inter
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


def _damaged(path: str, cause: object) -> InputError:
    reason = " ".join(str(cause).split()) or type(cause).__name__
    return InputError(f"{path}: cannot be read as NIfTI ({reason}); expected a whole file; copy or download it again")
