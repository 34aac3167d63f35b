"""The files of one case on one grid: whose grid counts, and how channels and labels get there."""

import logging
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from tumorseg.errors import InputError
from tumorseg.ops.geometry import AS_STORED, Orientation, orient
from tumorseg.ops.grids import Grid, covered_voxels, describe_mismatch, same_extent, same_voxels, shared_part
from tumorseg.ops.placement import find_placement
from tumorseg.ops.regridding import regrid
from tumorseg.schema.cases import CaseReading
from tumorseg.schema.dataset import Case, Dataset
from tumorseg.storage.formats.stored import Geometry
from tumorseg.storage.images import Volume, has_grid, knows_names_only, read_geometry
from tumorseg.types import FloatArray, Mask, Segmentation

logger = logging.getLogger(__name__)

LEAST_SHARED = 0.5
"""Share of the smaller of two channels' fields of view that lies in the other's; with less they are hardly of one study."""


class Laid(NamedTuple):
    """One channel on the grid of its case."""

    array: FloatArray
    """(Z, Y, X) as the grid is stored."""
    covered: Mask | None = None
    """Voxels that the channel covers; None for all."""
    is_moved: bool = False
    """Whether it was reoriented or interpolated."""
    is_same: bool = True
    """Whether it was stored on the same voxels of the world."""


def grid_of(volume: Volume | Geometry) -> Grid:
    """Return the voxels of a volume, or of a file."""
    return Grid(volume.array.shape if isinstance(volume, Volume) else volume.shape, volume.affine)


def way_onto(volume: Volume | Geometry, onto: Volume | Geometry, *, reading: CaseReading) -> Orientation | None:
    """Return how a volume is brought onto another of the same voxels; None where it lies elsewhere, or that is not known.

    A file that states no orientation states no place either. Beside one that does, what is usual in its format says
    nothing; with an orientation that the user states, one of as many voxels of the same size lies on the other.
    """
    is_open = not (volume.is_placed and onto.is_placed)
    if volume.is_placed != onto.is_placed and reading.assumed_orientation is None:
        return None
    if (orientation := same_voxels(grid_of(volume), grid_of(onto))) is not None:
        return orientation
    return same_extent(grid_of(volume), grid_of(onto)) if is_open and reading.assumed_orientation else None


def are_shared(files: Sequence[Volume | Geometry], *, reading: CaseReading) -> bool:
    """Return whether channels have the same voxels of the world."""
    return all(way_onto(one, files[0], reading=reading) is not None for one in files[1:])


def grid_number(case: Case, files: Sequence[Volume | Geometry], *, reading: CaseReading) -> int:
    """Return the channel whose grid counts: the stated one, else that on which the label lies, else the first.

    Args:
        case: where the label lies.
        files: the channels.
        reading: what is done where files leave it open.

    Raises:
        InputError: the label cannot be read, or it may lie on several channels that lie apart.
    """
    if reading.grid is not None:
        return reading.grid
    # Where all channels have the same voxels any of them will do, and the label need not be opened.
    if case.label is None or not has_grid(case.label) or are_shared(files, reading=reading):
        return 0
    label = read_geometry(case.label, reading.assumed_orientation)
    is_part = knows_names_only(case.label)  # segments may cover a part of their image's grid
    found = [number for number, file in enumerate(files) if _lies_on(label, file, is_part=is_part, reading=reading)]
    fitting = [files[number] for number in found]
    if len(found) > 1 and not are_shared(fitting, reading=reading):
        raise InputError(
            f"{case.label} states no orientation and fits {' and '.join(case.images[n].path for n in found)}, which "
            "lie apart; state the channel that it lies on as grid_channel in a manifest",
            case_id=case.case_id,
        )
    return found[0] if found else 0


def _lies_on(label: Geometry, file: Volume | Geometry, *, is_part: bool, reading: CaseReading) -> bool:
    """Tell whether a label has the voxels of a channel, or a part of them."""
    if not is_part:
        return way_onto(label, file, reading=reading) is not None
    try:
        find_placement(grid_of(label), grid_of(file))
    except InputError:
        return False
    return True


def common_grid(dataset: Dataset, reading: CaseReading) -> CaseReading:
    """Return a dataset's reading with the channel on whose grid the labels lie, where channels lie on grids of their own.

    Only headers are read; a case that cannot be read is left out, and fails when it is.

    Raises:
        InputError: labels lie on different channels.
    """
    if reading.grid is not None or len(dataset.channels) == 1:
        return reading
    found: dict[str, list[str]] = {}
    for case in dataset.cases:
        if case.label is not None and (number := _apart_grid(case, reading)) is not None:
            found.setdefault(dataset.channels[number].name, []).append(case.case_id)
    check_one_grid(dataset.name, found)
    names = [channel.name for channel in dataset.channels]
    return reading.changed(grid=names.index(next(iter(found)))) if found else reading


def _apart_grid(case: Case, reading: CaseReading) -> int | None:
    """Return the channel whose grid counts in a case whose channels lie on several."""
    try:
        files = [read_geometry(file.path, reading.assumed_orientation) for file in case.images]
        return None if are_shared(files, reading=reading) else grid_number(case, files, reading=reading)
    except InputError:
        return None


def check_one_grid(name: str, found: Mapping[str, Sequence[str]]) -> None:
    """Check that the labels of a dataset lie on one channel.

    Args:
        name: of the dataset.
        found: case ids by channel.

    Raises:
        InputError: they do not.
    """
    if len(found) < 2:
        return
    kinds = [f"{channel} in {len(ids)} cases ({', '.join(ids[:3])})" for channel, ids in sorted(found.items())]
    listed = "; ".join(kinds)
    raise InputError(
        f"{name}: labels lie on the grids of different channels: {listed}; expected one for all cases; resample "
        "the labels of the fewer onto the other channel, or give each kind a dataset of its own"
    )


def lay_channel(case: Case, volumes: Sequence[Volume], *, number: int, grid: int, reading: CaseReading) -> Laid:
    """Return a channel on the grid of another.

    Args:
        case: where they lie, for messages.
        volumes: all channels.
        number: which one.
        grid: the one whose grid counts.
        reading: what is done where files leave it open.

    Raises:
        InputError: the two hardly overlap.
    """
    volume, onto = volumes[number], volumes[grid]
    if number == grid:
        return Laid(volume.array)
    if (orientation := way_onto(volume, onto, reading=reading)) is not None:
        return Laid(orient(volume.array, orientation), is_moved=orientation != AS_STORED)
    path, other = case.images[number].path, case.images[grid].path
    if not (volume.is_placed and onto.is_placed):
        fault = grid_fault(volume, onto, reading=reading)
        raise InputError(f"{path} does not lie on {other}: {fault}", case_id=case.case_id)
    covered = covered_voxels(grid_of(onto), grid_of(volume))
    if (shared := shared_part(grid_of(onto), grid_of(volume), covered)) < LEAST_SHARED:
        raise InputError(
            f"{path} and {other} have {shared:.0%} of the smaller one's field of view in common (at least "
            f"{LEAST_SHARED:.0%} is expected); {describe_mismatch(grid_of(volume), grid_of(onto))}; are they of one study? look at "
            "both in a viewer, and register or replace the one that is off",
            case_id=case.case_id,
        )
    outside = outside_value(volume, number, reading=reading)
    num_outside = int(covered.size - covered.sum())
    logger.warning(
        "case %s: %s is on another grid than %s and was interpolated onto it%s",
        case.case_id,
        path,
        other,
        _describe_uncovered(num_outside, covered.size, outside) if num_outside else "",
    )
    array = regrid(volume.array, grid_of(volume), grid_of(onto), covered=covered, outside=outside)
    return Laid(array, covered if num_outside else None, is_moved=True, is_same=False)


def _describe_uncovered(count: int, size: int, outside: float) -> str:
    return f"; it does not cover {count / size:.1%} of it ({count} voxels), which get {outside:g} and stay out of its statistics"


def outside_value(volume: Volume, number: int, *, reading: CaseReading) -> float:
    """Return the intensity where a channel covers nothing: the stated one, else its least."""
    stated = reading.outside_values[number] if reading.outside_values else None
    return float(volume.array.min()) if stated is None else stated


def lay_label(
    case_id: str, path: str, volume: Volume, onto: Volume, *, other: str, reading: CaseReading
) -> Segmentation:
    """Return a label map (Z, Y, X) on the grid of another file of its case, reoriented where its axes are stored otherwise.

    Args:
        case_id: for messages, like the paths.
        path: of the label.
        volume: the label.
        onto: the other file's.
        other: its path.
        reading: what is done where files leave it open.

    Raises:
        InputError: the two do not have the same voxels.
    """
    orientation = way_onto(volume, onto, reading=reading)
    if orientation is None:
        fault = grid_fault(volume, onto, reading=reading)
        raise InputError(f"{path} does not lie on {other}: {fault}", case_id=case_id)
    return orient(volume.array, orientation)


def grid_fault(volume: Volume, onto: Volume, *, reading: CaseReading) -> str:
    """Return by how much a file is off the voxels of another, what may be the cause, and what to do."""
    which = "it states" if not volume.is_placed else "the other states"
    if volume.is_placed != onto.is_placed and reading.assumed_orientation is None:
        return f"{which} no orientation and no place: state the orientation with --assume-orientation CODE or in a manifest"
    found = f"it {describe_mismatch(grid_of(volume), grid_of(onto))}"
    if not (volume.is_placed and onto.is_placed):
        return f"{found}; {which} no place, so that only one of as many voxels of the same size can lie on it; restore its header"
    return f"{found}; look at both in a viewer, then restore the file that is off, or resample it onto the other"
