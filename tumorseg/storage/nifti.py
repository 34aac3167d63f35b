"""NIfTI-1 and NIfTI-2, `.nii` and `.nii.gz`: 2D, 3D, and 4D with the channels last.

Affines are from the sform where it is coded, else the qform, as the NIfTI-1 standard ranks them. Compressed files are always
read to their end: only there stands the checksum.
"""

import gzip
import math
import sys
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
from isal import igzip
from isal.igzip_lib import IsalError
from numpy.typing import NDArray

from tumorseg.errors import InputError
from tumorseg.storage import atomic
from tumorseg.storage.stored import NIFTI_ENDINGS, Geometry, Stored, check_affine, check_shape, damaged
from tumorseg.types import Affine

if is_spared := "pydicom" not in sys.modules:
    # nibabel loads pydicom where it is installed, for header extensions that are of no use here: a fifth of a second.
    sys.modules["pydicom"] = None  # type: ignore[assignment]
try:
    import nibabel
    from nibabel.filebasedimages import ImageFileError
    from nibabel.spatialimages import HeaderDataError
finally:
    if is_spared:
        del sys.modules["pydicom"]

KIND = "NIfTI"
MILLIMETRES = {1: 1000.0, 3: 0.001}
"""What a header's code of the unit of length (metre, micron) is in mm; mm, unknown and senseless codes are mm."""
MOST_SHEARED = 1e-3
"""How far the qform, which knows rotations only, may be from the affine; else only the sform is written."""
UNREADABLE: tuple[type[Exception], ...] = (
    OSError,
    EOFError,
    zlib.error,
    cast("type[Exception]", IsalError),  # its stub calls the class an instance
    ImageFileError,
    HeaderDataError,
)
"""What nibabel and gzip raise for a damaged file."""
UNREADABLE_HEADER: tuple[type[Exception], ...] = (*UNREADABLE, ValueError, OverflowError)
GRID_FIELDS = (
    "qform_code",
    "quatern_b",
    "quatern_c",
    "quatern_d",
    "qoffset_x",
    "qoffset_y",
    "qoffset_z",
    "sform_code",
    "srow_x",
    "srow_y",
    "srow_z",
    "xyzt_units",
)
"""Where a header says how its voxels lie in the world; and in the first four of `pixdim`."""
MOST_COMPRESSION = 1032
"""Bytes that one byte of a gzip file can hold at most, says zlib's manual."""


def open_nifti(path: str) -> Stored:
    """Read and check the header.

    Raises:
        InputError: the file is damaged, of another format, or holds no image.
    """
    header, proxy = load_header(path)
    geometry = Geometry(shape_of(header), _affine_of(path, header), math.prod(header.get_data_shape()[3:]))
    return Stored(
        path, geometry, (proxy.slope, proxy.inter), lambda indices: _read_volumes(path, header, proxy, indices)
    )


def write_like(path: Path, array: NDArray[Any], like: str, *, scaling: tuple[float, float] = (1.0, 0.0)) -> None:
    """Write an array with the header of a NIfTI file: same sform, qform, codes, voxel sizes and units.

    Args:
        path: where to.
        array: (Z, Y, X), or (C, Z, Y, X), which becomes 4D with channels last; stored in its own dtype.
        like: the file; of a 4D one the grid of its volumes counts.
        scaling: slope and intercept from the array's to real values.

    Raises:
        InputError: `like` cannot be read.
        StorageError: the file cannot be written.
    """
    header = load_header(like)[0].copy()
    stored = array.T if array.ndim == 4 else array.T.reshape(header.get_data_shape()[:3])
    header.set_data_dtype(array.dtype)
    header.set_intent("none")
    header["cal_min"] = header["cal_max"] = 0
    header.extensions.clear()
    nifti = _image_class(type(header))(stored, header.get_best_affine(), header)
    nifti.header.set_slope_inter(*scaling)  # a new image forgets that of the header it is given
    _write(path, nifti)


def write_new(path: Path, image: NDArray[Any], affine: Affine, *, scaling: tuple[float, float] = (1.0, 0.0)) -> None:
    """Write an array in its own dtype.

    Args:
        path: where to.
        image: (Z, Y, X), (C, Z, Y, X), which becomes 4D with channels last, or (Y, X), which becomes 2D.
        affine: (4, 4), voxels (x, y, z, 1) to RAS+ mm.
        scaling: slope and intercept from the array's to real values.

    Raises:
        StorageError: the file cannot be written.
    """
    nifti = _image_class(nibabel.Nifti1Header)(image.T, affine, dtype=image.dtype)
    nifti.header.set_slope_inter(*scaling)
    nifti.header.set_xyzt_units("mm")
    nifti.set_sform(affine, code="scanner")
    nifti.set_qform(affine, code="scanner")
    if not np.allclose(nifti.get_qform(), affine, rtol=0, atol=MOST_SHEARED):  # it cannot hold a shear
        nifti.set_qform(None, code="unknown")
    _write(path, nifti)


def is_nifti1(path: str) -> bool:
    """Tell whether a file is NIfTI-1, which other programs read as well; ITK, for one, knows no NIfTI-2.

    Raises:
        InputError: it has the ending of a NIfTI file, but cannot be read.
    """
    return path.lower().endswith(NIFTI_ENDINGS) and type(load_header(path)[0]) is nibabel.Nifti1Header


def has_header_grid_of(path: str, other: str) -> bool:
    """Tell whether a 2D or 3D NIfTI-1 file states its grid in the same words as the volumes of another.

    Raises:
        InputError: as from `open_nifti`.
    """
    first, second = load_header(path)[0], load_header(other)[0]
    pairs = [*((first[field], second[field]) for field in GRID_FIELDS), (first["pixdim"][:4], second["pixdim"][:4])]
    is_like = all(np.array_equal(one, another, equal_nan=True) for one, another in pairs)
    return is_like and first.get_data_shape() == second.get_data_shape()[:3]


def _write(path: Path, nifti: Any) -> None:
    """Write atomically; bytes depend on nothing but the image."""
    data = nifti.to_bytes()
    is_zipped = path.name.lower().endswith("gz")
    atomic.write_bytes(path, gzip.compress(data, compresslevel=6, mtime=0) if is_zipped else data)


def _image_class(header_class: type) -> Any:
    return nibabel.Nifti2Image if issubclass(header_class, nibabel.Nifti2Header) else nibabel.Nifti1Image


def load_header(path: str) -> tuple[Any, Any]:
    """Return header and array proxy; nibabel moves offset, slope and intercept from the one to the other."""
    try:
        image = nibabel.load(path)
    except UNREADABLE_HEADER as error:
        raise damaged(path, KIND, error) from None
    if not isinstance(image, nibabel.Nifti1Image):
        raise InputError(f"{path}: found the format {type(image).__name__}, expected NIfTI; convert it")
    header: Any = image.header
    check_shape(path, header.get_data_shape())
    if header.get_data_dtype().kind not in "biuf":
        raise InputError(f"{path}: found voxels of type {header.get_value_label('datatype')}, expected real numbers")
    return header, image.dataobj


def shape_of(header: Any) -> tuple[int, int, int]:
    """Return voxels (Z, Y, X); a 2D image has Z = 1."""
    x, y, z = (*header.get_data_shape(), 1)[:3]
    return int(z), int(y), int(x)


def _affine_of(path: str, header: Any) -> Affine:
    """Return the affine in mm; a single slice without a third direction gets a unit normal."""
    try:
        best = np.asarray(header.get_best_affine(), dtype=np.float64)
    except ValueError as error:  # a quaternion that is no rotation
        raise damaged(path, KIND, error) from None
    unit = MILLIMETRES.get(int(header["xyzt_units"]) & 7, 1.0)
    affine = np.diag([unit, unit, unit, 1.0]) @ best
    if shape_of(header)[0] == 1 and not affine[:3, 2].any():
        normal = np.cross(affine[:3, 0], affine[:3, 1])
        affine[:3, 2] = normal / (np.linalg.norm(normal) or 1)
    if _has_zero_spacing(path, header):
        affine = np.zeros((4, 4))
    return check_affine(path, affine)


def _has_zero_spacing(path: str, header: Any) -> bool:
    """Tell whether the voxel sizes that the affine rests on are 0 in the file; nibabel turns such into 1."""
    if header["sform_code"] > 0:
        return False
    with _open(path) as stream:
        raw = type(header).from_fileobj(stream, check=False)
    num_axes = 2 if shape_of(header)[0] == 1 else 3
    return bool((raw["pixdim"][1 : num_axes + 1] == 0).any())


def _read_volumes(path: str, header: Any, proxy: Any, indices: Sequence[int]) -> list[NDArray[Any]]:
    """Return volumes (Z, Y, X) as stored. The file is read to its end, so that damage shows."""
    shape = shape_of(header)
    num_bytes = proxy.dtype.itemsize * math.prod(shape)
    held = Path(path).stat().st_size * (MOST_COMPRESSION if path.lower().endswith("gz") else 1)
    announced = num_bytes * math.prod(header.get_data_shape()[3:])
    if announced > held:
        raise damaged(path, KIND, f"{announced} bytes of voxels announced, the file is too short")
    arrays = []
    try:
        with _open(path) as stream:
            for index in indices:
                stream.seek(int(proxy.offset) + index * num_bytes)
                arrays.append(_read_array(stream, num_bytes).view(proxy.dtype).reshape(shape))
            while stream.read(1 << 20):
                pass
    except UNREADABLE_HEADER as error:
        raise damaged(path, KIND, error) from None
    return arrays


def _read_array(stream: BinaryIO, num_bytes: int) -> NDArray[np.uint8]:
    """Read so many bytes right into an array, without a copy."""
    array = np.empty(num_bytes, np.uint8)
    view, count = array.data, 0
    while count < num_bytes:
        added = stream.readinto(view[count:])  # type: ignore[attr-defined]
        if not added:
            raise EOFError(f"the file ends after {count} of {num_bytes} bytes of voxels")
        count += added
    return array


def _open(path: str) -> BinaryIO:
    """Open for reading; ISA-L unpacks two to three times as fast as zlib."""
    return igzip.open(path, "rb") if path.lower().endswith("gz") else Path(path).open("rb")  # type: ignore[no-untyped-call]
