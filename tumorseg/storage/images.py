"""Image files as they are read: the one place where file axes (X, Y, Z, channel) become array axes (C, Z, Y, X).

Affines are in RAS+ millimetres. Each format has a module of its own that opens a file; here its volumes become channels or
labels. What has none of the known endings may be DICOM. `image_writing` is the way back.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tumorseg.errors import InputError
from tumorseg.ops.labels import count_values
from tumorseg.schema.cases import CaseReading
from tumorseg.schema.dataset import ImageFile
from tumorseg.storage.dicom.files import holds_dicom, is_dicom_file
from tumorseg.storage.dicom.series import open_series
from tumorseg.storage.file_warnings import warn
from tumorseg.storage.formats import itk, raster
from tumorseg.storage.formats.assumed import ADVICE as STATE_ORIENTATION
from tumorseg.storage.formats.assumed import Doubt, spelled
from tumorseg.storage.formats.label_values import UNSCALED, as_labels
from tumorseg.storage.formats.signatures import check_is_file
from tumorseg.storage.formats.slicer_segments import LABEL_ENDINGS, has_segments
from tumorseg.storage.formats.stored import NIFTI_ENDINGS, Geometry, Stored
from tumorseg.storage.named_labels import paint_labels
from tumorseg.types import Affine, Segmentation

logger = logging.getLogger(__name__)


def _open_nifti(path: str, assumed_orientation: str | None) -> Stored:
    # nibabel's import takes a while, which those who read none are spared
    from tumorseg.storage.formats.nifti import open_nifti

    return open_nifti(path, assumed_orientation)


def _open_flat(path: str, _: str | None) -> Stored:
    return raster.open_raster(path)


OPENERS: dict[str, Callable[[str, str | None], Stored]] = {
    **dict.fromkeys(NIFTI_ENDINGS, _open_nifti),
    **dict.fromkeys(LABEL_ENDINGS, itk.open_itk),
    **dict.fromkeys(itk.ENDINGS, itk.open_itk),
    **dict.fromkeys(raster.ENDINGS, _open_flat),
}
"""How an image file's name may end, and what opens it; the longer ending of two that fit stands first."""
ENDINGS = tuple(OPENERS)
FLAT_ENDINGS = raster.ENDINGS
"""Of formats without depth; among volumes such files are most likely pictures of something else."""
NOTHING_STATED = CaseReading()


class Volume(NamedTuple):
    """One image volume in stored axis order."""

    array: NDArray[Any]
    """(Z, Y, X)."""
    affine: Affine
    """(4, 4), voxels (x, y, z, 1) to RAS+ mm."""
    is_placed: bool = True
    """Whether the file states where its axes point to; else the affine's directions are assumed."""


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


def read_image(file: ImageFile, assumed_orientation: str | None = None) -> Volume:
    """Read one channel: float32 (Z, Y, X), the header's scaling applied. Values may be non-finite.

    Args:
        file: which.
        assumed_orientation: where axes x, y, z point to if the file does not say, such as `RAS`; None for what is usual in
            its format, with a warning.

    Raises:
        InputError: the file is missing, damaged, of another format, or does not hold that volume.
    """
    return read_images([file], assumed_orientation)[0]


def read_images(files: Sequence[ImageFile], assumed_orientation: str | None = None) -> list[Volume]:
    """Read several channels as `read_image` does, each file only once however many of its volumes are asked for.

    Args:
        files: which.
        assumed_orientation: as for `read_image`.

    Raises:
        InputError: as from `read_image`.
    """
    volumes: dict[ImageFile, Volume] = {}
    for path, parts in dict.fromkeys((file.path, file.parts) for file in files):
        held = {file for file in files if (file.path, file.parts) == (path, parts)}
        # Ascending, since a compressed file can only be read forwards.
        wanted = sorted(held, key=lambda file: file.index or 0)
        stored = open_stored(wanted[0], assumed_orientation)
        stored.check_intensities()
        arrays = _read(stored, wanted, assumed_orientation)
        for file, array in zip(wanted, arrays, strict=True):
            volumes[file] = Volume(
                real_values(array, stored.scaling), stored.geometry.affine, stored.geometry.is_placed
            )
    return [volumes[file] for file in files]


def read_stored(file: ImageFile, assumed_orientation: str | None = None) -> StoredVolume:
    """Read one channel without turning its values into others, or a word on where its axes point to.

    Args:
        file: which.
        assumed_orientation: as for `read_image`.

    Raises:
        InputError: as from `read_image`.
    """
    stored = open_stored(file, assumed_orientation)
    (array,) = stored.read([_volume_index(file, stored.geometry)])
    return StoredVolume(array, stored.scaling, stored.geometry.affine)


def read_segmentation(path: str, assumed_orientation: str | None = None) -> Volume:
    """Read a label map: int16 (Z, Y, X), or int32 where int16 does not hold the values.

    Args:
        path: of the file.
        assumed_orientation: as for `read_image`.

    Raises:
        InputError: as from `read_image`, or a value is not an integer.
    """
    stored = open_stored(ImageFile(path=path), assumed_orientation)
    (array,) = _read(stored, [ImageFile(path=path)], assumed_orientation)
    return Volume(as_labels(path, array, stored.scaling), stored.geometry.affine, stored.geometry.is_placed)


def read_stored_labels(path: str) -> Segmentation:
    """Read the labels (Z, Y, X) of a file as `read_segmentation` does, where it does not matter how they lie in the world.

    Raises:
        InputError: as from `read_segmentation`.
    """
    stored = open_stored(ImageFile(path=path))
    (array,) = stored.read([_volume_index(ImageFile(path=path), stored.geometry)])
    return as_labels(path, array, stored.scaling)


def read_label_values(path: str) -> set[int]:
    """Return the values of a label map.

    Raises:
        InputError: as from `read_segmentation`.
    """
    return set(count_values(read_stored_labels(path))[0])


def knows_names_only(label: str) -> bool:
    """Tell whether labels have names but no values in a file: in DICOM, told by its name, folders of it, and 3D Slicer's segments."""
    return not label.lower().endswith(ENDINGS) or has_segments(label)


def has_grid(label: str) -> bool:
    """Tell whether a label file states a grid of its own: all but DICOM, whose planes and contours lie in the world."""
    return label.lower().endswith(ENDINGS)


def read_reference(
    files: Sequence[str], grid: Geometry, values: Mapping[str, int], reading: CaseReading = NOTHING_STATED
) -> Volume:
    """Read a reference segmentation of any format.

    Args:
        files: one file of labels as numbers, on a grid of its own, or files that know names only (SEG, RTSTRUCT, `.seg.nrrd`), or
            folders of such.
        grid: of its image, on which named labels are painted.
        values: label value of each name, for those.
        reading: what is stated of how the dataset's files are read.

    Raises:
        InputError: as from `read_segmentation`, or named labels do not fit the grid, overlap so that a person has to say which
            lies on top, or are none of those asked for.
    """
    if not knows_names_only(files[0]):
        return read_segmentation(files[0], reading.assumed_orientation)
    if not grid.is_placed:
        raise InputError(
            "its structures lie in the world, but the image states no orientation and no place; restore the "
            "image's header, or write the structures as a label map on the image's voxels",
            file=", ".join(files),
        )
    return Volume(paint_labels(files, grid, values, paint_order=reading.paint_order), grid.affine)


def read_geometry(path: str, assumed_orientation: str | None = None) -> Geometry:
    """Read a file's grid from its header alone; damage further on is not seen, and nothing is warned of.

    Args:
        path: of the file.
        assumed_orientation: as for `read_image`.

    Raises:
        InputError: as from `read_image`.
    """
    return open_stored(ImageFile(path=path), assumed_orientation).geometry


def open_stored(file: ImageFile, assumed_orientation: str | None = None) -> Stored:
    """Open a file by the reader of its ending, or as DICOM; only its header is read.

    Args:
        file: which.
        assumed_orientation: as for `read_image`.

    Raises:
        InputError: as from `read_image`, where the header shows it.
    """
    path = file.path
    opener = next((opener for ending, opener in OPENERS.items() if path.lower().endswith(ending)), None)
    # A folder may be called like an image file: it is a series if DICOM lies in it, else the path is wrong.
    if Path(path).is_dir() and (opener is None or holds_dicom(Path(path), ENDINGS)):
        return open_series(file)
    check_is_file(path)
    if opener is None and is_dicom_file(Path(path)):
        return open_series(file)
    if opener is None:
        raise InputError(
            f"unsupported image format; expected DICOM, or a file that ends in {', '.join(ENDINGS)}; convert it",
            file=path,
        )
    return opener(path, assumed_orientation)


def _read(stored: Stored, files: Sequence[ImageFile], assumed_orientation: str | None) -> list[NDArray[Any]]:
    """Return volumes of a file as stored, and tell what there is to tell of it."""
    arrays = stored.read([_volume_index(file, stored.geometry) for file in files])
    for remark in stored.remarks:
        warn(stored.path, remark)
    if stored.doubt is not None:
        _tell_doubt(stored, stored.doubt, assumed_orientation)
    return arrays


def _tell_doubt(stored: Stored, doubt: Doubt, assumed_orientation: str | None) -> None:
    """Log where the axes of a file are taken to point to, or refuse it."""
    axes = f"axes x, y, z to be {spelled(stored.geometry.affine)}"
    if assumed_orientation is not None:
        logger.info("%s: the orientation is not known: %s; takes %s, as stated", stored.path, doubt.reason, axes)
    elif doubt.is_usual:
        warn(stored.path, f"the orientation is not known: {doubt.reason}; assumes {axes}; {STATE_ORIENTATION}")
    else:
        raise InputError(f"the orientation is not known: {doubt.reason}; {STATE_ORIENTATION}", file=stored.path)


def _volume_index(file: ImageFile, geometry: Geometry) -> int:
    """Return which volume of its file a channel is."""
    num_volumes = geometry.num_volumes
    index, expected = file.index or 0, None
    if file.num_volumes not in (None, num_volumes):
        expected = f"{file.num_volumes}, one per channel; check the number of channels"
    elif not 0 <= index < num_volumes:
        expected = f"one at index {index}; check the number of channels"
    elif file.index is None and num_volumes > 1:
        expected = "one; split the file"
        if file.path.lower().endswith(FLAT_ENDINGS):
            fault = f"found {num_volumes} colour bands, expected one; write it as grey values"
            raise InputError(fault, file=file.path, kind="channel_count")
    if expected is not None:
        volumes = "volume" if num_volumes == 1 else "volumes"
        fault = f"found {num_volumes} {volumes} along the last axis, expected {expected}"
        raise InputError(fault, file=file.path, kind="channel_count")
    return index


def real_values(array: NDArray[Any], scaling: tuple[float, float]) -> NDArray[np.float32]:
    """Return a writable array of stored values with slope and intercept applied, in float32."""
    slope, intercept = scaling
    # What float32 cannot hold becomes inf, which is told by those who look at the values.
    with np.errstate(over="ignore", invalid="ignore"):
        scaled = array.astype(np.float32)
        if scaling != UNSCALED:
            scaled *= np.float32(slope)
            scaled += np.float32(intercept)
    return scaled
