"""NIfTI-1 and NIfTI-2, `.nii` and `.nii.gz`: 2D, 3D, and 4D with the channels last.

Affines are from the sform where it is coded, else the qform, as the NIfTI-1 standard ranks them. Where neither is, or a voxel size
is negative, the file does not say where its axes point to. Compressed files are always read to their end: only there stands
the checksum.
"""

import math
import sys
from collections.abc import Sequence
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from isal import igzip
from numpy.typing import DTypeLike, NDArray

from tumorseg.errors import InputError
from tumorseg.ops.integrity import axis_code
from tumorseg.storage.damage import of_nibabel
from tumorseg.storage.formats.assumed import Doubt, laid_out
from tumorseg.storage.formats.library_logs import listening_logger, remark
from tumorseg.storage.formats.packed import read_surplus
from tumorseg.storage.formats.stored import NIFTI_ENDINGS, Geometry, Stored, check_affine, check_shape, damaged
from tumorseg.types import Affine, Shape

if is_spared := "pydicom" not in sys.modules:
    # nibabel loads pydicom where it is installed, for header extensions that are of no use here: a fifth of a second.
    sys.modules["pydicom"] = None  # type: ignore[assignment]
try:
    import nibabel
finally:
    if is_spared:
        del sys.modules["pydicom"]

KIND = "NIfTI"
MILLIMETRES = {1: 1000.0, 3: 0.001}
"""What a header's code of the unit of length (metre, micron) is in mm; mm, unknown and senseless codes are mm."""
MOST_SHEARED = 1e-3
"""How far the qform, which knows rotations only, may be from the affine; else only the sform is written."""
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


class Header(NamedTuple):
    """The header of a file: what nibabel makes of it, and what stands there."""

    mended: Any
    """nibabel's header, checked; without offset, slope and intercept, which are the next ones."""
    offset: int
    """Where the voxels begin, in bytes."""
    scaling: tuple[float, float]
    """Slope and intercept from stored to real values."""
    raw: Any
    """nibabel's header, byte for byte."""
    remarks: tuple[str, ...]
    """What nibabel said of it."""


def open_nifti(path: str, assumed_orientation: str | None = None) -> Stored:
    """Read and check the header.

    Args:
        path: of the file.
        assumed_orientation: where axes x, y, z point to if the header does not say, or contradicts itself; None for nibabel's
            reading of it.

    Raises:
        InputError: the file is damaged, of another format, or holds no image.
    """
    header = load_header(path)
    affine, doubt = _place(path, header)
    # an sform is a place even if it is in doubt, unless the user says otherwise
    is_told = has_sform(header.mended) and assumed_orientation in (None, axis_code(affine))
    is_placed, shape = doubt is None or is_told, shape_of(header.mended)
    if not is_placed:
        affine = laid_out(affine, doubt, shape, assumed_orientation)
    geometry = Geometry(shape, affine, math.prod(header.mended.get_data_shape()[3:]), is_placed)
    read = partial(_read_volumes, path, header)
    return Stored(path, geometry, header.scaling, read, doubt, remarks=header.remarks)


def image_like(stated: Header, shape: Shape, dtype: DTypeLike) -> Any:
    """Return nibabel's image of zeros that lies where a file does: same sform, qform, codes, voxel sizes and units.

    Args:
        stated: of the file; of a 4D one the grid of its volumes counts.
        shape: (Z, Y, X), or (C, Z, Y, X), which becomes 4D with channels last.
        dtype: of the voxels.
    """
    header = stated.mended.copy()
    header.set_data_dtype(dtype)
    # Intent, display window and extensions of the other file speak of its values, not of these.
    header.set_intent("none")
    header["cal_min"] = header["cal_max"] = 0
    header.extensions.clear()
    # A 2D file stays one; as many voxels have to be there.
    stored = tuple(shape[::-1]) if len(shape) == 4 else header.get_data_shape()[:3]
    assert math.prod(stored) == math.prod(shape)
    return _image_class(type(header))(_zeros(stored, dtype), header.get_best_affine(), header)


def new_image(shape: Shape, dtype: DTypeLike, affine: Affine) -> Any:
    """Return nibabel's image of zeros with a new header of NIfTI-1.

    Args:
        shape: (Z, Y, X), (C, Z, Y, X), which becomes 4D with channels last, or (Y, X), which becomes 2D.
        dtype: of the voxels.
        affine: (4, 4), voxels (x, y, z, 1) to RAS+ mm.
    """
    nifti = _image_class(nibabel.Nifti1Header)(_zeros(tuple(shape[::-1]), dtype), affine, dtype=dtype)
    nifti.header.set_xyzt_units("mm")
    nifti.set_sform(affine, code="scanner")
    nifti.set_qform(affine, code="scanner")
    if not np.allclose(nifti.get_qform(), affine, rtol=0, atol=MOST_SHEARED):  # it cannot hold a shear
        nifti.set_qform(None, code="unknown")
    return nifti


def header_bytes(nifti: Any, *, scaling: tuple[float, float], comment: str = "", raw: Any = None) -> bytes:
    """Return all of a file that comes before its voxels.

    Args:
        nifti: nibabel's image.
        scaling: slope and intercept from stored to real values.
        comment: becomes a header extension, unless it is empty.
        raw: header of the file that it is to be like, as it stands there.
    """
    nifti.update_header()
    header = nifti.header
    header.set_slope_inter(*scaling)  # a new image forgets that of the header it is given
    if comment:
        header.extensions.append(nibabel.nifti1.Nifti1Extension("comment", comment.encode()))
    stream = BytesIO()
    header.write_to(stream)
    data = stream.getvalue()
    if raw is not None and (raw["pixdim"][1:4] < 0).any():
        # Who reads the image in a way of their own, because of its negative voxel sizes, has to read the mask in the same.
        size = raw.template_dtype.itemsize
        mended = type(raw)(data[:size], endianness=header.endianness, check=False)
        mended["pixdim"][1:4] = raw["pixdim"][1:4]
        data = mended.binaryblock + data[size:]
    return data


def is_nifti1(path: str) -> bool:
    """Tell whether a file is NIfTI-1, which other programs read as well; ITK, for one, knows no NIfTI-2.

    Raises:
        InputError: it has the ending of a NIfTI file, but cannot be read.
    """
    return path.lower().endswith(NIFTI_ENDINGS) and type(load_header(path).raw) is nibabel.Nifti1Header


def has_header_grid_of(path: str, other: str) -> bool:
    """Tell whether a 2D or 3D NIfTI-1 file states its grid in the same words as the volumes of another.

    Raises:
        InputError: as from `open_nifti`.
    """
    first, second = load_header(path).raw, load_header(other).raw
    pairs = [(first[field], second[field]) for field in GRID_FIELDS]
    pairs.append((first["pixdim"][:4], second["pixdim"][:4]))
    is_like = all(np.array_equal(one, another, equal_nan=True) for one, another in pairs)
    return is_like and first.get_data_shape() == second.get_data_shape()[:3]


def _zeros(shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
    """Return zeros that take no memory: of an image that is written slab by slab only shape and type count."""
    return np.broadcast_to(np.zeros((), dtype), shape)


def _image_class(header_class: type) -> Any:
    return nibabel.Nifti2Image if issubclass(header_class, nibabel.Nifti2Header) else nibabel.Nifti1Image


def load_header(path: str) -> Header:
    """Read and check the header.

    Raises:
        InputError: the file is damaged, of another format, or holds no image of real numbers.
    """
    logger, said = listening_logger()
    try:
        raw = _read_header(path)
        mended = raw.copy()
        # nibabel would do the same, and say so each time; `_place` says it in the words of the user
        mended["pixdim"][1:4] = np.abs(raw["pixdim"][1:4])
        mended.check_fix(logger=logger)
        slope, intercept = mended.get_slope_inter()
        offset = max(int(mended.get_data_offset()), raw.single_vox_offset)  # 0 means that nothing lies between
    # An InputError is a ValueError, and would be wrapped in another below.
    except InputError:
        raise
    except of_nibabel() as error:
        raise damaged(path, KIND, error) from None
    # nibabel says None where the header scales nothing.
    slope = 1.0 if slope is None else slope
    intercept = 0.0 if intercept is None else intercept
    mended.set_data_offset(0)
    mended.set_slope_inter(None, None)
    check_shape(path, mended.get_data_shape())
    if mended.get_data_dtype().kind not in "biuf":
        raise InputError(f"found voxels of type {mended.get_value_label('datatype')}, expected real numbers", file=path)
    _check_claim(path, mended, offset)
    return Header(mended, offset, (slope, intercept), raw, (remark("nibabel", said),) if said else ())


def _check_claim(path: str, mended: Any, offset: int) -> None:
    """Refuse more voxels than the file can hold, before memory is asked for: a damaged header may announce terabytes."""
    held = Path(path).stat().st_size * (MOST_COMPRESSION if path.lower().endswith("gz") else 1)
    announced = mended.get_data_dtype().itemsize * math.prod(map(int, mended.get_data_shape()))
    if offset + announced > held:
        raise damaged(path, KIND, f"{announced} bytes of voxels announced, the file is too short")


def _read_header(path: str) -> Any:
    """Return the header as it stands in a file, neither checked nor mended."""
    with _open(path) as stream:
        block = stream.read(nibabel.Nifti2Header.sizeof_hdr)
    kinds: tuple[Any, ...] = (nibabel.Nifti1Header, nibabel.Nifti2Header)
    for kind in kinds:
        if kind.may_contain_header(block):
            raw = kind(block[: kind.sizeof_hdr], check=False)
            if raw["magic"].item() == raw.single_magic:
                return raw
            raise InputError(
                "is the header of a pair of files (.hdr and .img); expected both in one; convert it", file=path
            )
    raise EOFError("it does not begin like that")


def shape_of(header: Any) -> tuple[int, int, int]:
    """Return voxels (Z, Y, X); a 2D image has Z = 1."""
    x, y, z = (*header.get_data_shape(), 1)[:3]
    return int(z), int(y), int(x)


def has_sform(header: Any) -> bool:
    """Tell whether a header states an sform."""
    return bool(header["sform_code"] > 0)


def unit_of(header: Any) -> float:
    """Return a header's unit of length in mm."""
    # The three lowest bits are the unit of length; the next ones are that of time.
    return MILLIMETRES.get(int(header["xyzt_units"]) & 7, 1.0)


def _place(path: str, header: Header) -> tuple[Affine, Doubt | None]:
    """Return nibabel's affine, and why it is in doubt where the header leaves it open or contradicts itself."""
    mended, raw = header.mended, header.raw
    is_flat = shape_of(mended)[0] == 1
    sizes = raw["pixdim"][1 : 3 if is_flat else 4]
    if not has_sform(mended) and (sizes == 0).any():  # nibabel turns them into 1
        return check_affine(path, np.zeros((4, 4))), None
    affine, is_negative = _affine_of(path, mended), bool((sizes < 0).any())
    if has_sform(mended):
        return affine, Doubt("pixdim is negative, which contradicts the sform") if is_negative else None
    if mended["qform_code"] > 0 and not is_negative:
        return affine, None
    codes = f"sform_code is {int(raw['sform_code'])} and qform_code {int(raw['qform_code'])}"
    return affine, Doubt(f"pixdim is negative and {codes}" if is_negative else codes)


def _affine_of(path: str, header: Any) -> Affine:
    """Return nibabel's affine in mm; a single slice without a third direction gets a unit normal."""
    try:
        with np.errstate(all="ignore"):
            best = np.asarray(header.get_best_affine(), dtype=np.float64)
    except ValueError as error:  # a quaternion that is no rotation
        raise damaged(path, KIND, error) from None
    unit = unit_of(header)
    with np.errstate(all="ignore"):  # what is not finite is refused below
        affine = _complete(header, np.diag([unit, unit, unit, 1.0]) @ best, unit)
    return check_affine(path, affine)


def _complete(header: Any, affine: Affine, unit: float) -> Affine:
    """Return an affine in mm whose third axis has a length, if there is but one slice."""
    is_flat = len(header.get_data_shape()) == 2
    if is_flat and not has_sform(header) and header["qform_code"] <= 0:
        affine[:3, 2] /= unit  # nibabel's 1 is no size that the header states
    if shape_of(header)[0] == 1 and not affine[:3, 2].any():
        # The zero normal of parallel columns is divided by 1, and then refused as an axis without length.
        normal = np.cross(affine[:3, 0], affine[:3, 1])
        affine[:3, 2] = normal / (np.linalg.norm(normal) or 1)
    return affine


def _read_volumes(path: str, header: Header, indices: Sequence[int]) -> list[NDArray[Any]]:
    """Return volumes (Z, Y, X) as stored. The file is read to its end, so that damage shows."""
    shape, dtype = shape_of(header.mended), header.mended.get_data_dtype()
    num_bytes = dtype.itemsize * math.prod(shape)
    arrays = []
    try:
        with _open(path) as stream:
            for index in indices:
                stream.seek(header.offset + index * num_bytes)
                arrays.append(_read_array(stream, num_bytes).view(dtype).reshape(shape))
            # behind all volumes, not only those that were asked for; what is passed over is unpacked, and so checked
            stream.seek(header.offset + num_bytes * math.prod(header.mended.get_data_shape()[3:]))
            read_surplus(stream)
    except of_nibabel() as error:
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
