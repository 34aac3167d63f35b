"""Reference segmentations in DICOM: SEG and RTSTRUCT.

Numbers of segments and structures differ from file to file, so a label is known by its name.
"""

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from tumorseg.errors import InputError
from tumorseg.ops.contours import Contour
from tumorseg.storage.dicom.contours import paint_contours, read_contours
from tumorseg.storage.dicom.files import CONTOUR_CLASS, LABEL_CLASSES, SEGMENTATION_CLASSES, read_dataset, reading
from tumorseg.storage.dicom.segments import Segments, open_segments, paint_segments, segment_names
from tumorseg.storage.formats.stored import Geometry
from tumorseg.storage.formats.structures import Structures, foreground
from tumorseg.types import Mask


class LabelSummary(NamedTuple):
    """Structures of a file, and the images that they refer to."""

    names: tuple[str, ...]
    """Sorted, without the background's."""
    series: tuple[str, ...]
    """UIDs of the image series that it was drawn on, as far as it says."""
    frames_of_reference: tuple[str, ...]
    """UIDs."""


def summarize_label(path: str) -> LabelSummary:
    """Return the structures of a SEG or RTSTRUCT file that enclose something, and what it was drawn on.

    Raises:
        InputError: the file is damaged, or another kind of DICOM.
    """
    with reading(path):
        dataset = _read_label(path, has_pixels=False)
        names: Iterable[str]
        if str(dataset.SOPClassUID) == CONTOUR_CLASS:
            names = [name for name, structures in read_contours(dataset, path).items() if structures]
            series = _contoured_series(dataset)
        else:
            names = segment_names(dataset).values()
            series = list(dataset.get("ReferencedSeriesSequence") or ())
        frames = [dataset, *(dataset.get("ReferencedFrameOfReferenceSequence") or ())]
        series_uids = {str(item.SeriesInstanceUID) for item in series}
        frame_uids = {str(item.FrameOfReferenceUID) for item in frames if "FrameOfReferenceUID" in item}
        return LabelSummary(foreground(names), tuple(sorted(series_uids)), tuple(sorted(frame_uids)))


def _read_label(path: str, *, has_pixels: bool) -> Any:
    dataset = read_dataset(path, has_pixels=has_pixels)
    if str(dataset.get("SOPClassUID", "")) not in LABEL_CLASSES:
        raise InputError("found another kind of DICOM, expected SEG or RTSTRUCT; name the segmentation", file=path)
    return dataset


def open_label(path: str) -> Structures:
    """Read the structures of a SEG or RTSTRUCT file.

    Raises:
        InputError: the file is damaged, or another kind of DICOM.
    """
    with reading(path):
        dataset = _read_label(path, has_pixels=True)
        if str(dataset.SOPClassUID) in SEGMENTATION_CLASSES:
            segments = open_segments(dataset, path)
            names = foreground(segments.names.values())
            return Structures(path, names, names, lambda name, grid: _paint(path, name, segments, grid=grid))
        contours = read_contours(dataset, path)
        filled = foreground(name for name, structures in contours.items() if structures)
        return Structures(
            path, filled, foreground(contours), lambda name, grid: _fill(path, name, contours[name], grid=grid)
        )


def _paint(path: str, name: str, segments: Segments, *, grid: Geometry) -> Mask:
    """Return the voxels of the segments of a name; their planes are unpacked only now."""
    with reading(path):
        return paint_segments(segments, name, grid)


def _fill(path: str, name: str, structures: list[list[Contour]], *, grid: Geometry) -> Mask:
    """Return what lies in one of the structures of a name: each is filled by itself, or overlaps would be holes."""
    mask = np.zeros(grid.shape, np.bool_)
    for contours in structures:
        mask |= paint_contours(path, name, contours, grid=grid)
    return mask


def _contoured_series(dataset: Any) -> list[Any]:
    """Return the items of a structure set that name image series."""
    found: list[Any] = []
    for frame in dataset.get("ReferencedFrameOfReferenceSequence") or ():
        for study in frame.get("RTReferencedStudySequence") or ():
            found += study.get("RTReferencedSeriesSequence") or ()
    return found
