"""Label maps and volumes into image files, on the grid of the image that they were made from: the way back of `images`."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tumorseg.errors import InputError
from tumorseg.schema.dataset import ImageFile
from tumorseg.storage.formats import itk_writing
from tumorseg.storage.formats.stored import NIFTI_ENDINGS
from tumorseg.storage.images import open_stored
from tumorseg.storage.layout import LABEL_MAP_ENDINGS
from tumorseg.types import Affine, Segmentation

if TYPE_CHECKING:
    from tumorseg.storage.formats.nifti_writing import Voxels

NRRD_ENDING = ".nrrd"
METAIMAGE_ENDING = ".mha"
INTEGERS = (np.uint8, np.int8, np.uint16, np.int16, np.uint32, np.int32, np.int64)
"""Types of label maps, the smallest first, and of two of one size the one that more programs read."""


def write_segmentation(
    path: Path, segmentation: Segmentation, *, like: ImageFile, affine: Affine | None = None
) -> None:
    """Write a label map on the grid of an image file: from NIfTI to NIfTI, with the same sform, qform, codes, voxel sizes and units.

    Args:
        path: ends in one of `LABEL_MAP_ENDINGS`; written atomically; the same input gives the same bytes.
        segmentation: (Z, Y, X), stored as the smallest integer type that holds it, without scaling.
        like: the image; a 2D one makes a 2D file of NIfTI, a 4D one the 3D grid of its volumes.
        affine: (4, 4), where the image was taken to lie, if not both are NIfTI; as its file says if None.

    Raises:
        InputError: `like` cannot be read, has another shape, or `path` has another ending or cannot hold its grid.
        StorageError: the file cannot be written.
    """
    check_label_map(path)
    stored = segmentation.astype(_smallest_type(segmentation), copy=False)
    stated = _stated_affine(like, segmentation.shape)
    affine = stated if affine is None else affine
    if path.name.lower().endswith(NIFTI_ENDINGS):
        from tumorseg.storage.formats.nifti_writing import voxels_of

        _write_nifti(path, voxels_of(stored), like=like, affine=affine)
    elif path.name.lower().endswith(NRRD_ENDING):
        itk_writing.write_nrrd(path, stored, affine)
    else:
        itk_writing.write_metaimage(path, stored, affine)


def write_volumes(path: Path, voxels: "Voxels", *, like: ImageFile, affine: Affine) -> None:
    """Write volumes on the grid of an image file, atomically, and without having them in memory at once.

    Args:
        path: `.nii` or `.nii.gz`.
        voxels: (Z, Y, X) or (C, Z, Y, X).
        like: the image, as for `write_segmentation`.
        affine: (4, 4), where the image was taken to lie, if it is not NIfTI.

    Raises:
        InputError: `like` cannot be read, has another shape, or `path` has another ending.
        StorageError: the file cannot be written.
    """
    _check_nifti(path)
    _stated_affine(like, voxels.shape[-3:])
    _write_nifti(path, voxels, like=like, affine=affine)


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
    from tumorseg.storage.formats.nifti_writing import voxels_of, write_new

    _check_nifti(path)
    write_new(path, voxels_of(image), affine)


def check_label_map(path: Path, affine: Affine | None = None) -> None:
    """Refuse what `write_segmentation` cannot write, before there is a segmentation.

    Args:
        path: where to.
        affine: (4, 4), the grid that it is to hold; None if that is not known.

    Raises:
        InputError: `path` ends otherwise than label maps do, or its format cannot hold the grid.
    """
    if not path.name.lower().endswith(LABEL_MAP_ENDINGS):
        raise InputError(
            f"cannot write this format; expected a name that ends in {', '.join(LABEL_MAP_ENDINGS)}", file=path
        )
    if affine is not None and path.name.lower().endswith(METAIMAGE_ENDING):
        itk_writing.check_right_angles(path, affine)


def _write_nifti(path: Path, voxels: "Voxels", *, like: ImageFile, affine: Affine) -> None:
    # nibabel's import takes a while, which those who write none are spared
    from tumorseg.storage.formats.nifti_writing import write_like, write_new

    if like.path.lower().endswith(NIFTI_ENDINGS):
        write_like(path, voxels, like.path)
    else:
        write_new(path, voxels, affine)


def _smallest_type(segmentation: Segmentation) -> type[np.integer[Any]]:
    lowest, highest = int(segmentation.min()), int(segmentation.max())
    return next(kind for kind in INTEGERS if np.iinfo(kind).min <= lowest and highest <= np.iinfo(kind).max)


def _stated_affine(like: ImageFile, shape: tuple[int, ...]) -> Affine:
    """Return where an image file says that it lies.

    Raises:
        InputError: it cannot be read, or has another shape (Z, Y, X).
    """
    found, affine = open_stored(like).geometry[:2]
    if found != shape:
        raise InputError(
            f"found a grid of {found} voxels (z, y, x), expected {shape}; was it replaced?", file=like.path
        )
    return affine


def _check_nifti(path: Path) -> None:
    if not path.name.lower().endswith(NIFTI_ENDINGS):
        raise InputError("cannot write this format; expected a name that ends in .nii.gz or .nii", file=path)
