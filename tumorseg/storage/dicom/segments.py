"""DICOM SEG: segments as planes of pixels, each placed on the grid of an image by where it lies in the patient.

Planes without foreground are usually left out of such files, and planes come in any order.

References:
    DICOM PS3.3, C.8.20: segmentations, binary, fractional and label maps.
"""

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tumorseg.errors import InputError
from tumorseg.ops.grids import Grid
from tumorseg.ops.placement import Placement, find_placement, place
from tumorseg.storage.dicom.frames import Frame, frames_of
from tumorseg.storage.dicom.pixels import read_bits, read_frames
from tumorseg.storage.file_warnings import warn
from tumorseg.storage.formats.stored import Geometry
from tumorseg.storage.formats.structures import plain_name
from tumorseg.types import Mask


class Segments(NamedTuple):
    """An opened file."""

    path: str
    names: dict[int, str]
    """By segment number."""
    frames: list[Frame]
    numbers: list[int] | None
    """The segment of each frame; None where pixels are segment numbers themselves."""
    plane: Callable[[int], NDArray[Any]]
    """Returns the pixels (row, column) of a frame."""
    threshold: float
    """From which value on a pixel belongs to the frame's segment."""


def segment_names(dataset: Any) -> dict[int, str]:
    """Return the name of each segment number; the background of a label map is none. To be called in `reading`."""
    names = {int(segment.SegmentNumber): _name(segment) for segment in dataset.get("SegmentSequence") or ()}
    return {number: name for number, name in names.items() if number > 0}


def open_segments(dataset: Any, path: str) -> Segments:
    """Return what a file holds, its planes still packed. To be called in `reading`.

    Raises:
        InputError: a plane does not say where it lies.
    """
    kind = str(dataset.get("SegmentationType") or "BINARY")
    # A fraction counts from one half on; 255 is what most programs write for one.
    threshold = float(dataset.get("MaximumFractionalValue") or 255) / 2 if kind == "FRACTIONAL" else 0.5
    frames = frames_of(dataset, path)
    numbers = None if kind == "LABELMAP" else [_number(dataset, index) for index in range(len(frames))]
    if unnamed := sorted(set(numbers or ()) - segment_names(dataset).keys()):
        warn(path, f"segments that nothing describes are left out: {', '.join(map(str, unnamed))}")
    # Single bits are unpacked plane by plane, as all of them would take eight times the file's size.
    if int(dataset.BitsAllocated) == 1 and not dataset.file_meta.TransferSyntaxUID.is_encapsulated:
        return Segments(
            path, segment_names(dataset), frames, numbers, lambda index: read_bits(dataset, path, index), threshold
        )
    # Decoded with the first plane that is asked for, and once for all of them.
    pixels = cache(lambda: read_frames(dataset, path))
    return Segments(path, segment_names(dataset), frames, numbers, lambda index: pixels()[index], threshold)


def paint_segments(segments: Segments, name: str, grid: Geometry) -> Mask:
    """Return the voxels of the segments of a name on an image's grid. To be called in `reading`.

    Returns:
        (Z, Y, X).

    Raises:
        InputError: a plane does not lie on the grid's voxels, or reaches beyond it, or pixels are damaged.
    """
    mask = np.zeros(grid.shape, np.bool_)
    wanted = [number for number, known in segments.names.items() if known == name]
    for index, frame in enumerate(segments.frames):
        if segments.numbers is None:
            inside = np.isin(segments.plane(index), wanted)
        elif segments.numbers[index] in wanted:
            inside = segments.plane(index) >= segments.threshold
        else:
            continue
        placement = _placement(segments.path, name, frame, grid=grid)
        if outside := place(inside[None], placement, mask):
            raise InputError(
                f"{name}: found {outside} voxels of a plane outside the image, expected them inside; are slices of the "
                "image missing, or is it of another series?",
                file=segments.path,
            )
    return mask


def _name(segment: Any) -> str:
    return plain_name(str(segment.get("SegmentLabel") or "")) or f"segment {segment.SegmentNumber}"


def _number(dataset: Any, index: int) -> int:
    """Return the segment that a frame is of."""
    shared = (dataset.get("SharedFunctionalGroupsSequence") or [{}])[0]
    own = dataset.PerFrameFunctionalGroupsSequence[index]
    found = own.get("SegmentIdentificationSequence") or shared.get("SegmentIdentificationSequence")
    return int(found[0].ReferencedSegmentNumber)


def _placement(path: str, name: str, frame: Frame, *, grid: Geometry) -> Placement:
    """Return where a plane lies on the grid."""
    affine = np.eye(4)
    # A single plane has no step to a next one: of its normal only the direction counts.
    affine[:3, :2], affine[:3, 2], affine[:3, 3] = frame.axes, np.cross(*frame.axes.T), frame.origin
    try:
        return find_placement(Grid((1, *frame.shape), affine), Grid(grid.shape, grid.affine), what="a plane")
    except InputError as error:
        raise InputError(
            f"{name}: {error}, expected a segmentation on the image's own grid; is it of another series? resample it onto "
            "this one",
            file=path,
        ) from None
