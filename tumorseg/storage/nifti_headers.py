"""Headers of NIfTI files mended in place: every byte that is not of the grid stays as it is."""

import gzip
from pathlib import Path
from typing import Any

import nibabel
import numpy as np

from tumorseg.ops.geometry import grid_mismatch_mm
from tumorseg.storage import atomic
from tumorseg.storage.nifti import KIND, MOST_FORM_MISMATCH, UNREADABLE
from tumorseg.storage.stored import damaged

GRID_FIELDS = ("qform_code", "sform_code", "quatern_", "qoffset_", "srow_")
"""How the names of the fields begin that say where a grid lies, beside voxel sizes and their unit."""


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
    is_zipped = path.name.lower().endswith("gz")
    atomic.write_bytes(path, gzip.compress(whole, compresslevel=6, mtime=0) if is_zipped else whole)


def _read(path: str) -> bytes:
    try:
        data = Path(path).read_bytes()
        return gzip.decompress(data) if path.lower().endswith("gz") else data
    except UNREADABLE as error:
        raise damaged(path, KIND, error) from None


def _header_of(data: bytes) -> Any:
    """Return the header at the head of a file's bytes, unchecked."""
    is_second = 540 in (int.from_bytes(data[:4], "little"), int.from_bytes(data[:4], "big"))
    kind: Any = nibabel.Nifti2Header if is_second else nibabel.Nifti1Header
    return kind(binaryblock=data[: kind.template_dtype.itemsize], check=False)


def _copy_grid(source: Any, target: Any) -> None:
    for name in source:
        if name.startswith(GRID_FIELDS):
            target[name] = source[name]
    target["pixdim"][:4] = source["pixdim"][:4]
    target["xyzt_units"] = (int(target["xyzt_units"]) & ~7) | (int(source["xyzt_units"]) & 7)


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
