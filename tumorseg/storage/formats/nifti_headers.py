"""The two affines of a NIfTI header, and mending the grid without changing any other byte."""

import gzip
import math
from pathlib import Path
from typing import Any, NamedTuple

import nibabel
import numpy as np

from tumorseg.ops.geometry import grid_mismatch_mm
from tumorseg.storage import atomic
from tumorseg.storage.damage import of_nibabel
from tumorseg.storage.formats.nifti import GRID_FIELDS, KIND, has_sform, load_header, shape_of, unit_of
from tumorseg.storage.formats.stored import damaged
from tumorseg.types import Affine

FARTHEST_MM = 1e100
"""Beyond which nothing can be computed with a coordinate."""
MOST_FORM_MISMATCH = 0.1
"""Share of the finest voxel edge by which sform and qform may differ: rounding does not reach it, a mask would not move."""


class FormMismatch(NamedTuple):
    """Difference between the two affines of one file; the sform is the one that is used."""

    distance_mm: float
    """Between the two places of a voxel, at the worst corner of the grid."""
    angle_deg: float
    """Of the turn from the one to the other."""
    is_mirrored: bool
    """Whether one is left-handed and the other is not: left and right, or head and foot, are swapped."""
    is_broken: bool = False
    """Whether the qform maps no voxel to a place, so that nothing can be compared: its numbers are not finite, or no rotation."""


BROKEN = FormMismatch(math.inf, math.nan, is_mirrored=False, is_broken=True)


def form_mismatch(path: str) -> FormMismatch | None:
    """Return how sform and qform disagree, or None where only one is coded or both say the same.

    They agree if no voxel lies further apart than `MOST_FORM_MISMATCH` of the finest voxel edge. A qform that maps no voxel to a
    place agrees with none.

    Raises:
        InputError: as from `open_nifti`.
    """
    header = load_header(path).mended
    if not has_sform(header) or header["qform_code"] <= 0:
        return None
    with np.errstate(all="ignore"):  # what is not finite is looked for below
        sform = header.get_sform()
    if not _is_near(sform):
        return None  # no image can be read with it
    qform = _qform(header)
    if qform is None:
        return BROKEN
    unit = unit_of(header)
    shape = shape_of(header)
    distance = unit * grid_mismatch_mm(sform, qform, shape)
    # The thickness of a single slice moves no voxel, and may be anything.
    axes = 2 if shape[0] == 1 else 3
    edges = unit * np.linalg.norm(sform[:3, :axes], axis=0)
    if distance <= MOST_FORM_MISMATCH * float(edges.min()):
        return None
    turned = np.linalg.det(sform[:3, :3]) * np.linalg.det(qform[:3, :3])
    return FormMismatch(distance, _angle_deg(sform, qform), bool(turned < 0))


def _qform(header: Any) -> Affine | None:
    """Return the qform; None where it maps no voxel to a place."""
    try:
        with np.errstate(all="ignore"):  # what is not finite is looked for below
            qform: Affine = header.get_qform()
    except ValueError:  # a quaternion that is no rotation
        return None
    return qform if _is_near(qform) else None


def _is_near(affine: Affine) -> bool:
    """Tell whether all numbers are finite, and so small that their squares are."""
    return bool((np.abs(affine) < FARTHEST_MM).all())


def _angle_deg(affine: Affine, other: Affine) -> float:
    """Return the greatest angle between the same voxel axes of two affines."""
    cosines = (_directions(affine) * _directions(other)).sum(axis=0)
    # Rounding may carry the cosine of parallel vectors beyond 1.
    return float(np.degrees(np.arccos(np.clip(cosines, -1, 1))).max())


def _directions(affine: Affine) -> Affine:
    """Return the unit vectors of an affine's voxel axes as columns."""
    columns = np.asarray(affine)[:3, :3]
    # The floor keeps an axis without length from a division by zero.
    lengths = np.maximum(np.linalg.norm(columns, axis=0), 1e-30)
    return np.asarray(columns / lengths)


def is_stored_as_integers(path: str) -> bool:
    """Tell whether a file holds its values as integers, without scaling.

    Raises:
        InputError: as from `open_nifti`.
    """
    header = load_header(path)
    return header.mended.get_data_dtype().kind in "biu" and header.scaling == (1.0, 0.0)


def mend_grid(path: Path, *, source: str, grid: Path | None = None) -> None:
    """Write a NIfTI file with the qform made what the sform says, or with the whole grid of another file.

    A qform knows no shear; where it cannot say what the sform says, it is declared unknown.

    Args:
        path: where to; compressed like `source`.
        source: the file as it is.
        grid: the file whose grid it is to lie on; None to keep its own.

    Raises:
        InputError: a file cannot be read.
        StorageError: the file cannot be written.
    """
    data = _read(source)
    header = _header_of(data)
    if grid is not None:
        _copy_grid(_header_of(_read(str(grid))), header)
    _agree(header)
    block = bytes(header.binaryblock)
    whole = block + data[len(block) :]
    # No time (mtime) goes into the file, so that the same image gives the same bytes.
    is_zipped = path.name.lower().endswith("gz")
    atomic.write_bytes(path, gzip.compress(whole, compresslevel=6, mtime=0) if is_zipped else whole)


def _read(path: str) -> bytes:
    try:
        data = Path(path).read_bytes()
        return gzip.decompress(data) if path.lower().endswith("gz") else data
    except of_nibabel() as error:
        raise damaged(path, KIND, error) from None


def _header_of(data: bytes) -> Any:
    """Return the header at the head of a file's bytes, unchecked."""
    # A file begins with the size of its header, 540 bytes in NIfTI-2, in either order of bytes.
    is_second = 540 in (int.from_bytes(data[:4], "little"), int.from_bytes(data[:4], "big"))
    kind: Any = nibabel.Nifti2Header if is_second else nibabel.Nifti1Header
    return kind(binaryblock=data[: kind.template_dtype.itemsize], check=False)


def _copy_grid(source: Any, target: Any) -> None:
    for name in GRID_FIELDS:
        target[name] = source[name]
    target["pixdim"][:4] = source["pixdim"][:4]


def _agree(header: Any) -> None:
    """Make the qform what the sform says, if both are coded."""
    sform = header.get_sform(coded=True)[0]
    if sform is None or header["qform_code"] <= 0:
        return
    header.set_qform(sform, code=int(header["qform_code"]), strip_shears=True)
    x, y, z = (*header.get_data_shape(), 1, 1)[:3]
    mismatch = grid_mismatch_mm(sform, header.get_qform(), (z, y, x))
    if mismatch > MOST_FORM_MISMATCH * float(np.linalg.norm(sform[:3, :3], axis=0).min()):
        header["qform_code"] = 0
