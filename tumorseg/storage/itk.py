"""NRRD and MetaImage by way of SimpleITK, which is imported only when such a file is met.

ITK's world is LPS; x and y are turned to RAS here. Components of a voxel are the channels.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tumorseg.errors import InputError
from tumorseg.storage.detached import data_files
from tumorseg.storage.stored import Geometry, Stored, check_affine, check_shape, damaged
from tumorseg.types import Affine

KIND = "NRRD or MetaImage"
ENDINGS = (".nrrd", ".mha", ".mhd")
"""How a file's name may end."""
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


def open_itk(path: str) -> Stored:
    """Read and check the header.

    Raises:
        InputError: the file is damaged or holds no image of two or three axes.
    """
    data_files(path)
    reader = _reader(path)
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        raise damaged(path, KIND, _cause(error)) from None
    size = reader.GetSize()
    check_shape(path, size)
    if len(size) > 3:
        raise InputError(
            f"{path}: found {len(size)} axes, expected 2 or 3, channels as components of a voxel; split the file"
        )
    x, y, z = (*size, 1)[:3]
    geometry = Geometry((z, y, x), check_affine(path, _affine_of(reader)), reader.GetNumberOfComponents())
    return Stored(path, geometry, (1.0, 0.0), lambda indices: _read_volumes(path, geometry, indices))


def _reader(path: str) -> Any:
    import SimpleITK

    reader: Any = SimpleITK.ImageFileReader()  # type: ignore[no-untyped-call]
    reader.SetFileName(path)
    return reader


def _affine_of(reader: Any) -> Affine:
    """Return the affine to RAS+ mm; a 2D image gets a normal of 1 mm."""
    axes = len(reader.GetSize())
    affine = np.eye(4)
    direction = np.asarray(reader.GetDirection(), dtype=np.float64).reshape(axes, axes)
    affine[:axes, :axes] = direction * np.asarray(reader.GetSpacing(), dtype=np.float64)
    affine[:axes, 3] = reader.GetOrigin()
    return LPS_TO_RAS @ affine


def _read_volumes(path: str, geometry: Geometry, indices: Sequence[int]) -> list[NDArray[Any]]:
    import SimpleITK

    try:
        array = SimpleITK.GetArrayFromImage(_reader(path).Execute())
    except RuntimeError as error:
        raise damaged(path, KIND, _cause(error)) from None
    if array.dtype.kind not in "biuf":
        raise InputError(f"{path}: found voxels of type {array.dtype}, expected real numbers")
    volumes = array.reshape(*geometry.shape, geometry.num_volumes)
    return [np.ascontiguousarray(volumes[..., index]) for index in indices]


def _cause(error: RuntimeError) -> str:
    """Return the last sentence of ITK's message, which says what happened; the rest says where in ITK."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else "unknown"
