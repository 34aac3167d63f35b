"""NIfTI-1 and NIfTI-2, `.nii` and `.nii.gz`: 2D, 3D, and 4D with the channels last.

Affines are from the sform where it is coded, else the qform, as the NIfTI-1 standard ranks them. Compressed files are always
read to their end: only there stands the checksum.
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
from tumorseg.ops.geometry import grid_mismatch_mm
from tumorseg.storage import atomic
from tumorseg.storage.stored import Geometry, Stored, check_affine, check_shape, damaged
from tumorseg.types import Affine, Segmentation

KIND = "NIfTI"
ENDINGS = (".nii.gz", ".nii")
"""How a file's name may end."""
MILLIMETRES = {1: 1000.0, 3: 0.001}
"""What a header's code of the unit of length (metre, micron) is in mm; mm, unknown and senseless codes are mm."""
MOST_FORM_MISMATCH = 0.1
"""Share of the finest voxel edge by which sform and qform may differ: rounding does not reach it, a mask would not move."""
UNREADABLE = (OSError, EOFError, zlib.error, ImageFileError, HeaderDataError)
"""What nibabel and gzip raise for a damaged file."""
MOST_COMPRESSION = 1032
"""Bytes that one byte of a gzip file can hold at most, says zlib's manual."""


def open_nifti(path: str) -> Stored:
    """Read and check the header.

    Raises:
        InputError: the file is damaged, of another format, or holds no image.
    """
    header, proxy = _load(path)
    geometry = Geometry(_shape_of(header), _affine_of(path, header), math.prod(header.get_data_shape()[3:]))
    return Stored(
        path, geometry, (proxy.slope, proxy.inter), lambda indices: _read_volumes(path, header, proxy, indices)
    )


class FormMismatch(NamedTuple):
    """How the two affines of one file differ; the sform is the one that is used."""

    distance_mm: float
    """Between the two places of a voxel, at the worst corner of the grid."""
    angle_deg: float
    """Of the turn from the one to the other."""
    is_mirrored: bool
    """Whether one is left-handed and the other is not: left and right, or head and foot, are swapped."""


def form_mismatch(path: str) -> FormMismatch | None:
    """Return how sform and qform disagree, or None where only one is coded or both say the same.

    They agree if no voxel lies further apart than `MOST_FORM_MISMATCH` of the finest voxel edge.

    Raises:
        InputError: as from `open_nifti`.
    """
    header, _ = _load(path)
    try:
        sform, qform = header.get_sform(coded=True)[0], header.get_qform(coded=True)[0]
    except ValueError as error:  # a quaternion that is no rotation
        raise damaged(path, KIND, error) from None
    if sform is None or qform is None:
        return None
    unit = MILLIMETRES.get(int(header["xyzt_units"]) & 7, 1.0)
    shape = _shape_of(header)
    distance = unit * grid_mismatch_mm(sform, qform, shape)
    axes = 2 if shape[0] == 1 else 3
    edges = unit * np.linalg.norm(sform[:3, :axes], axis=0)
    if distance <= MOST_FORM_MISMATCH * float(edges.min()):
        return None
    turned = np.linalg.det(sform[:3, :3]) * np.linalg.det(qform[:3, :3])
    return FormMismatch(distance, _angle_deg(sform, qform), bool(turned < 0))


def _angle_deg(affine: Affine, other: Affine) -> float:
    """Return the greatest angle between the same voxel axes of two affines."""
    one, two = (np.asarray(a)[:3, :3] / np.maximum(np.linalg.norm(a[:3, :3], axis=0), 1e-30) for a in (affine, other))
    return float(np.degrees(np.arccos(np.clip((one * two).sum(axis=0), -1, 1))).max())


def is_stored_as_integers(path: str) -> bool:
    """Tell whether a file holds its values as integers, without scaling.

    Raises:
        InputError: as from `open_nifti`.
    """
    header, proxy = _load(path)
    return header.get_data_dtype().kind in "biu" and (proxy.slope, proxy.inter) == (1.0, 0.0)


def write_like(path: Path, segmentation: Segmentation, like: str) -> None:
    """Write a label map (Z, Y, X) with the header of a NIfTI file: same sform, qform, codes, voxel sizes and units.

    Raises:
        InputError: `like` cannot be read.
        StorageError: the file cannot be written.
    """
    header = _load(like)[0].copy()
    stored = segmentation.transpose(2, 1, 0).reshape(header.get_data_shape()[:3])
    header.set_data_dtype(segmentation.dtype)
    header.set_slope_inter(1, 0)
    header.set_intent("none")
    header["cal_min"] = header["cal_max"] = 0
    header.extensions.clear()
    _write(path, _image_class(type(header))(stored, header.get_best_affine(), header))


def write_new(path: Path, image: NDArray[Any], affine: Affine) -> None:
    """Write an array (Z, Y, X), or (C, Z, Y, X), which becomes 4D with channels last, in its own dtype.

    Raises:
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
    data = nifti.to_bytes()
    is_zipped = path.name.lower().endswith("gz")
    atomic.write_bytes(path, gzip.compress(data, compresslevel=6, mtime=0) if is_zipped else data)


def _image_class(header_class: type) -> Any:
    return nibabel.Nifti2Image if issubclass(header_class, nibabel.Nifti2Header) else nibabel.Nifti1Image


def _load(path: str) -> tuple[Any, Any]:
    """Return header and array proxy; nibabel moves offset, slope and intercept from the one to the other."""
    try:
        image = nibabel.load(path)
    except (*UNREADABLE, ValueError, OverflowError) as error:
        raise damaged(path, KIND, error) from None
    if not isinstance(image, nibabel.Nifti1Image):
        raise InputError(f"{path}: found the format {type(image).__name__}, expected NIfTI; convert it")
    header: Any = image.header
    check_shape(path, header.get_data_shape())
    if header.get_data_dtype().kind not in "biuf":
        raise InputError(f"{path}: found voxels of type {header.get_value_label('datatype')}, expected real numbers")
    return header, image.dataobj


def _shape_of(header: Any) -> tuple[int, int, int]:
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
    if _shape_of(header)[0] == 1 and not affine[:3, 2].any():
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
    num_axes = 2 if _shape_of(header)[0] == 1 else 3
    return bool((raw["pixdim"][1 : num_axes + 1] == 0).any())


def _read_volumes(path: str, header: Any, proxy: Any, indices: Sequence[int]) -> list[NDArray[Any]]:
    """Return volumes (Z, Y, X) as stored. The file is read to its end, so that damage shows."""
    shape = _shape_of(header)
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
                data = stream.read(num_bytes)
                if len(data) < num_bytes:
                    raise EOFError(f"the file ends after {len(data)} of {num_bytes} bytes of voxels")
                arrays.append(np.frombuffer(data, dtype=proxy.dtype).reshape(shape))
            while stream.read(1 << 20):
                pass
    except UNREADABLE as error:
        raise damaged(path, KIND, error) from None
    return arrays


def _open(path: str) -> BinaryIO:
    return gzip.open(path, "rb") if path.lower().endswith("gz") else Path(path).open("rb")  # type: ignore[return-value]
