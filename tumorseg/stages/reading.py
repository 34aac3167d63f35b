"""Reading one case: files to checked arrays, in the axis order that is asked for."""

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from tumorseg.errors import InputError
from tumorseg.ops.geometry import (
    CANONICAL,
    Orientation,
    grid_mismatch_mm,
    orient,
    orientation_of,
    spacing_of,
    stored_orientation,
)
from tumorseg.ops.labels import to_indices
from tumorseg.ops.regridding import reach_outside_mm, regrid
from tumorseg.schema.dataset import Case, ImageFile
from tumorseg.schema.targets import Targets
from tumorseg.storage.hashing import case_files
from tumorseg.storage.images import Volume, read_images, read_reference
from tumorseg.storage.stored import NIFTI_ENDINGS, Geometry
from tumorseg.types import Affine, FloatArray, Image, Segmentation, Shape

if TYPE_CHECKING:
    from tumorseg.storage.nifti_headers import FormMismatch

logger = logging.getLogger(__name__)

MOST_OUTSIDE_MM = 30.0
"""How far the first channel may reach beyond another one that is on a grid of its own; there the latter has nothing to tell."""
MOST_MISMATCH = 0.5
"""Share of the finest voxel edge by which two grids of one case may differ; more would move a mask."""


BYTES_OF_A_WORKER = 150 * 2**20
"""What a worker holds beside its case."""
BYTES_PER_FILE_BYTE = 20
"""What a case takes at its peak for each byte of its compressed files; a first guess, until a case has been measured."""


class CaseImage(NamedTuple):
    """All channels of a case."""

    image: Image
    """(C, Z, Y, X) in the orientation's axis order; a view, its strides may be negative."""
    spacing_mm: tuple[float, float, float]
    """Voxel edges in that order."""
    orientation: Orientation
    """The way there from the stored order."""
    affine: Affine
    """(4, 4) as stored."""
    stored_shape: tuple[int, ...]
    """Voxels (Z, Y, X) as stored."""
    is_moved: tuple[bool, ...] = ()
    """Of each channel that was read from a file, whether it was interpolated onto the first one's grid."""


def largest_first(cases: Iterable[Case]) -> list[Case]:
    """Return cases in the order in which workers take them: then the first ones show what memory any of them takes."""
    return sorted(cases, key=lambda case: (-_case_bytes(case), case.case_id))


def expected_bytes(cases: Iterable[Case]) -> int:
    """Return roughly what a worker needs for the largest of the cases, going by its files; missing ones count nothing."""
    return BYTES_OF_A_WORKER + BYTES_PER_FILE_BYTE * max(map(_case_bytes, cases), default=0)


def _case_bytes(case: Case) -> int:
    return sum(_file_bytes(path) for path in case_files(case))


def _file_bytes(path: str) -> int:
    try:
        return Path(path).stat().st_size
    except OSError:
        return 0


def read_case_image(case: Case, *, transpose: Sequence[int] = CANONICAL, as_stored: bool = False) -> CaseImage:
    """Read and check the channels of a case; one on a grid of its own is interpolated onto the first one's, with a warning.

    Args:
        case: where the files lie.
        transpose: axis order after canonical orientation, or of the stored axes.
        as_stored: bring axes into no canonical orientation first.

    Raises:
        InputError: a file cannot be read, a channel lies elsewhere in the world than the first, or voxels are not finite.
    """
    volumes = read_images(case.images)
    first = volumes[0]
    grid = (first.array.shape, first.affine)
    is_moved = tuple(not is_same_grid(volume.array.shape, volume.affine, *grid) for volume in volumes)
    arrays = [
        _onto_first_grid(case, file, volume, first) if moved else volume.array
        for file, volume, moved in zip(case.images, volumes, is_moved, strict=True)
    ]
    image = np.stack(arrays) if len(arrays) > 1 else arrays[0][None]
    _check_finite(case, image)
    orientation = stored_orientation(transpose) if as_stored else orientation_of(first.affine, transpose)
    return CaseImage(
        orient(image, orientation),
        spacing_of(first.affine, orientation),
        orientation,
        first.affine,
        first.array.shape,
        is_moved,
    )


def read_case_indices(case: Case, found: CaseImage, targets: Targets) -> Segmentation:
    """Read a case's reference segmentation as class indices, in the axis order of its image.

    Raises:
        InputError: there is none, it does not lie on the image's grid, or it holds unknown values.
    """
    if case.label is None:
        raise InputError(f"case {case.case_id}: there is no label file; the dataset must name one for training")
    z, y, x = found.stored_shape
    volume = read_reference(case.label_files, Geometry((z, y, x), found.affine, 1), targets.values_by_name)
    image = Volume(np.empty(found.stored_shape, np.bool_), found.affine)
    check_same_grid(case.case_id, case.label, volume, image, other=case.images[0].path)
    try:
        indices = to_indices(volume.array, targets)
    except InputError as error:
        raise InputError(f"case {case.case_id}: {case.label}: {error}") from None
    return np.ascontiguousarray(orient(indices, found.orientation))


def describe_forms(path: str) -> str | None:
    """Return how the two affines of a NIfTI file disagree; None where they agree, or the file cannot be read."""
    try:
        found = _form_mismatch(path)
    except InputError:
        return None
    if found is None:
        return None
    mirrored = ", and one is the mirror image of the other" if found.is_mirrored else ""
    return (
        f"sform and qform put a voxel up to {found.distance_mm:.3g} mm apart (axes turned by {found.angle_deg:.3g} degrees"
        f"{mirrored}); the sform is used, other programs may use the qform"
    )


def warn_of_forms(case: Case) -> None:
    """Log the files of a case that say two different things of where they lie."""
    for path in dict.fromkeys([*(file.path for file in case.images), case.label or ""]):
        if (message := describe_forms(path)) is not None:
            logger.warning("case %s: %s: %s", case.case_id, path, message)


def _form_mismatch(path: str) -> "FormMismatch | None":
    if not path.lower().endswith(NIFTI_ENDINGS):
        return None
    from tumorseg.storage.nifti_headers import form_mismatch

    return form_mismatch(path)


def _onto_first_grid(case: Case, file: ImageFile, volume: Volume, first: Volume) -> FloatArray:
    """Return a channel interpolated onto the grid of the first one."""
    outside = reach_outside_mm(first.affine, first.array.shape, volume.affine, volume.array.shape)
    if outside > MOST_OUTSIDE_MM:
        raise InputError(
            f"case {case.case_id}: {case.images[0].path} reaches {outside:.3g} mm beyond {file.path} (at most "
            f"{MOST_OUTSIDE_MM:g} mm); are they of one study? correct the header of the wrong one, or resample it"
        )
    logger.warning(
        "case %s: %s is on another grid than %s and was interpolated onto it",
        case.case_id,
        file.path,
        case.images[0].path,
    )
    return regrid(volume.array, volume.affine, first.array.shape, first.affine)


def is_same_grid(shape: Shape, affine: Affine, other_shape: Shape, other: Affine) -> bool:
    """Tell whether two grids of one case have the same voxels (Z, Y, X), to within half an edge in the world."""
    return tuple(shape) == tuple(other_shape) and grid_mismatch_mm(affine, other, shape) <= _allowed_mm(other)


def _allowed_mm(affine: Affine) -> float:
    return MOST_MISMATCH * min(spacing_of(affine))


def check_same_grid(case_id: str, path: str, volume: Volume, reference: Volume, *, other: str) -> None:
    """Check that two files of a case lie on one grid.

    Raises:
        InputError: they differ in shape, or by over half a voxel in the world.
    """
    if volume.array.shape != reference.array.shape:
        raise InputError(
            f"case {case_id}: {path} has {list(volume.array.shape)} voxels (Z, Y, X), {other} has "
            f"{list(reference.array.shape)}; all files of a case must lie on one grid; resample it onto the other"
        )
    mismatch = grid_mismatch_mm(volume.affine, reference.affine, volume.array.shape)
    allowed = _allowed_mm(reference.affine)
    if mismatch > allowed:
        raise InputError(
            f"case {case_id}: {path} lies {mismatch:.3g} mm away from {other} (at most {allowed:.3g} mm, half a voxel); "
            "correct the header of the wrong one, or resample it onto the other"
        )


def _check_finite(case: Case, image: Image) -> None:
    for file, channel in zip(case.images, image, strict=True):
        if not np.isfinite(channel.sum(dtype=np.float64)) and (bad := int((~np.isfinite(channel)).sum())):
            raise InputError(
                f"case {case.case_id}: {file.path} has {bad} voxels that are NaN or infinite; expected finite "
                "intensities; replace them, for example by the background's value"
            )
