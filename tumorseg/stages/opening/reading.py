"""Reading one case: files to checked arrays, in the axis order that is asked for."""

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from tumorseg.errors import InputError
from tumorseg.ops.absent_channels import AbsentChannels
from tumorseg.ops.geometry import AxisOrder, Orientation, between, orient, spacing_of
from tumorseg.ops.labels import to_indices
from tumorseg.schema.cases import CaseReading
from tumorseg.schema.dataset import Case
from tumorseg.schema.targets import Targets
from tumorseg.stages.opening.case_grids import Laid, grid_number, lay_channel, lay_label
from tumorseg.storage.formats.stored import NIFTI_ENDINGS, Geometry
from tumorseg.storage.hashing import case_files
from tumorseg.storage.images import Volume, read_images, read_reference
from tumorseg.types import Affine, Image, Mask, Segmentation

if TYPE_CHECKING:
    from tumorseg.storage.formats.nifti_headers import FormMismatch

logger = logging.getLogger(__name__)

CANONICAL_ORDER = AxisOrder()
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
    """Of each channel that was read from a file, whether it was reoriented or interpolated onto the grid."""
    covered: tuple[Mask | None, ...] = ()
    """Voxels (Z, Y, X) that each channel covers, in the same order as the image; None for all of them. Empty: None for each channel."""
    grid: int = 0
    """The channel whose grid this is."""
    is_shared: bool = True
    """Whether all channels were stored on the same voxels of the world."""
    unplaced: tuple[int, ...] = ()
    """Channels whose files state no orientation."""
    absent: AbsentChannels | None = None
    """Channels that the case lacks, zeros in the image; all other fields count the channels that were read from files."""

    @property
    def is_placed(self) -> bool:
        """Return whether the file whose grid this is states its orientation."""
        return self.grid not in self.unplaced

    def without_voxels(self) -> "CaseImage":
        """Return all but the voxels, zeros in their place that take no memory."""
        return self._replace(image=np.broadcast_to(np.zeros((), self.image.dtype), self.image.shape), covered=())


def largest_first(cases: Iterable[Case]) -> list[Case]:
    """Return cases in the order in which workers take them: then the first ones show what memory any of them takes."""
    # Ids decide between files of one size, so that every run takes the same order.
    return sorted(cases, key=lambda case: (-case_bytes(case), case.case_id))


def expected_bytes(cases: Iterable[Case]) -> int:
    """Return roughly what a worker needs for the largest of the cases, going by its files; missing ones count nothing."""
    return BYTES_OF_A_WORKER + BYTES_PER_FILE_BYTE * max(map(case_bytes, cases), default=0)


def case_bytes(case: Case) -> int:
    """Return the bytes of a case's files; missing ones count nothing."""
    return sum(file_bytes(path) for path in case_files(case))


def file_bytes(path: str) -> int:
    """Return the bytes of a file; 0 where there is none."""
    try:
        return Path(path).stat().st_size
    except OSError:
        return 0


def read_case_image(case: Case, reading: CaseReading | None = None, order: AxisOrder = CANONICAL_ORDER) -> CaseImage:
    """Read and check the channels of a case, all on the grid of one of them.

    One whose axes are stored otherwise is reoriented; one on a grid of its own is interpolated, with a warning.

    Args:
        case: where the files lie.
        reading: what is done where files leave it open.
        order: of the image's axes.

    Raises:
        InputError: a file cannot be read, a channel lies elsewhere in the world than the others, or voxels are not finite.
    """
    reading = reading or CaseReading()
    volumes = read_images(case.images, reading.assumed_orientation)
    number = grid_number(case, volumes, reading=reading)
    onto = volumes[number]
    laid = [lay_channel(case, volumes, number=each, grid=number, reading=reading) for each in range(len(volumes))]
    arrays = [one.array for one in laid]
    # One channel alone needs no copy.
    image = np.stack(arrays) if len(arrays) > 1 else arrays[0][None]
    _check_finite(case, image)
    orientation = order.orientation(onto.affine)
    is_moved = tuple(one.is_moved for one in laid)
    is_shared = all(one.is_same for one in laid)
    unplaced = [position for position, volume in enumerate(volumes) if not volume.is_placed]
    return CaseImage(
        orient(image, orientation),
        spacing_of(onto.affine, orientation),
        orientation,
        onto.affine,
        onto.array.shape,
        is_moved,
        _oriented_cover(laid, orientation),
        number,
        is_shared,
        tuple(unplaced),
    )


def reoriented(found: CaseImage, order: AxisOrder) -> CaseImage:
    """Return a case's image in another axis order; the voxels are shared."""
    orientation = order.orientation(found.affine)
    if orientation == found.orientation:
        return found
    turn = between(found.orientation, orientation)
    covered = tuple(None if inside is None else orient(inside, turn) for inside in found.covered)
    return found._replace(
        image=orient(found.image, turn),
        spacing_mm=spacing_of(found.affine, orientation),
        orientation=orientation,
        covered=covered,
    )


def _oriented_cover(laid: Sequence[Laid], orientation: Orientation) -> tuple[Mask | None, ...]:
    if all(one.covered is None for one in laid):
        return ()
    return tuple(None if one.covered is None else orient(one.covered, orientation) for one in laid)


def read_case_indices(
    case: Case, found: CaseImage, targets: Targets, reading: CaseReading | None = None
) -> Segmentation:
    """Read a case's reference segmentation as class indices, in the axis order of its image.

    One whose axes are stored otherwise than the image's is reoriented, without loss.

    Raises:
        InputError: there is none, it does not lie on the image's grid, or it holds unknown values.
    """
    if case.label is None:
        raise InputError("there is no label file; the dataset must name one for training", case_id=case.case_id)
    reading = reading or CaseReading()
    z, y, x = found.stored_shape
    grid = Geometry((z, y, x), found.affine, 1, found.is_placed)
    volume = read_reference(case.label_files, grid, targets.values_by_name, reading)
    # Stands for the image, of which only grid and place count here; its voxels are never touched.
    image = Volume(np.empty(found.stored_shape, np.bool_), found.affine, found.is_placed)
    other = case.images[found.grid].path if case.images else "the image"
    array = lay_label(case.case_id, case.label, volume, image, other=other, reading=reading)
    try:
        indices = to_indices(array, targets)
    except InputError as error:
        raise InputError(str(error), case_id=case.case_id, file=case.label) from None
    return np.ascontiguousarray(orient(indices, found.orientation))


def describe_forms(path: str) -> str | None:
    """Return how the two affines of a NIfTI file disagree; None where they agree, or the file cannot be read."""
    try:
        found = _form_mismatch(path)
    except InputError:
        return None
    if found is None:
        return None
    if found.is_broken:
        return "the qform holds numbers that are no place or no rotation; the sform is used, other programs may use the qform"
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
    from tumorseg.storage.formats.nifti_headers import form_mismatch

    return form_mismatch(path)


def _check_finite(case: Case, image: Image) -> None:
    for file, channel in zip(case.images, image, strict=True):
        # The sum of float32 cannot overflow float64: it is finite unless a voxel is not, and quick to have.
        if not np.isfinite(channel.sum(dtype=np.float64)) and (bad := int((~np.isfinite(channel)).sum())):
            raise InputError(
                f"{file.path} has {bad} voxels that are NaN or infinite; expected finite "
                "intensities; replace them, for example by the background's value",
                case_id=case.case_id,
            )


def read_previous(
    case: Case, prediction: Path, found: CaseImage, *, targets: Targets, reading: CaseReading
) -> Segmentation:
    """Read a prediction for a case as class indices, in the axis order of its image.

    Raises:
        InputError: it cannot be read, does not lie on the image's grid, or holds unknown values.
    """
    predicted = case.changed(label=str(prediction), more_labels=())
    return read_case_indices(predicted, found, targets, reading)
