"""The files of one case on one grid: whose grid counts, and how channels and labels get there."""

import logging
from collections.abc import Sequence
from typing import NamedTuple

from tumorseg.errors import InputError
from tumorseg.ops.geometry import AS_STORED, Orientation, orient
from tumorseg.ops.grids import Grid, covered_voxels, describe_mismatch, same_extent, same_voxels, shared_part
from tumorseg.ops.placement import find_placement
from tumorseg.ops.regridding import regrid
from tumorseg.schema.cases import CaseReading
from tumorseg.schema.dataset import Case
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


def grid_of(volume: Volume) -> Grid:
    """Return the voxels of a volume."""
    return Grid(volume.array.shape, volume.affine)


def way_onto(volume: Volume, onto: Volume, *, reading: CaseReading) -> Orientation | None:
    """Return how a volume is brought onto another of the same voxels; None where it lies elsewhere.

    A file that states no orientation states no place either: with an orientation that the user states, one of as many
    voxels of the same size lies on the other.
    """
    if (orientation := same_voxels(grid_of(volume), grid_of(onto))) is not None:
        return orientation
    is_open = not (volume.is_placed and onto.is_placed)
    return same_extent(grid_of(volume), grid_of(onto)) if is_open and reading.assumed_orientation else None


def grid_number(case: Case, volumes: Sequence[Volume], *, reading: CaseReading) -> int:
    """Return the channel whose grid counts: the stated one, else that on which the label lies, else the first.

    Raises:
        InputError: the label cannot be read.
    """
    if reading.grid is not None:
        return reading.grid
    first = volumes[0]
    is_shared = all(way_onto(volume, first, reading=reading) is not None for volume in volumes[1:])
    if is_shared or case.label is None or not has_grid(case.label):
        return 0
    geometry = read_geometry(case.label, reading.assumed_orientation)
    label = Grid(geometry.shape, geometry.affine)
    is_part = knows_names_only(case.label)  # segments may cover a part of their image's grid
    lies_on = (number for number, volume in enumerate(volumes) if _lies_on(label, grid_of(volume), is_part=is_part))
    return next(lies_on, 0)


def _lies_on(label: Grid, grid: Grid, *, is_part: bool) -> bool:
    """Tell whether a label has the voxels of a grid, or a part of them."""
    if not is_part:
        return same_voxels(label, grid) is not None
    try:
        find_placement(label, grid)
    except InputError:
        return False
    return True


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
    covered = covered_voxels(grid_of(onto), grid_of(volume))
    path, other = case.images[number].path, case.images[grid].path
    if (shared := shared_part(grid_of(onto), grid_of(volume), covered)) < LEAST_SHARED:
        raise InputError(
            f"case {case.case_id}: {path} and {other} have {shared:.0%} of the smaller one's field of view in common (at least "
            f"{LEAST_SHARED:.0%} is expected); {describe_mismatch(grid_of(volume), grid_of(onto))}; are they of one study? look at "
            "both in a viewer, and register or replace the one that is off"
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
        raise InputError(f"case {case_id}: {path} does not lie on {other}: {grid_fault(volume, onto)}")
    return orient(volume.array, orientation)


def grid_fault(volume: Volume, onto: Volume) -> str:
    """Return by how much a file is off the voxels of another, what may be the cause, and what to do."""
    found = describe_mismatch(grid_of(volume), grid_of(onto))
    if not (volume.is_placed and onto.is_placed):
        which = "it" if not volume.is_placed else "the other"
        return f"it {found}; {which} states no orientation: state it with --assume-orientation CODE or in a manifest"
    return f"it {found}; look at both in a viewer, then restore the file that is off, or resample it onto the other"
