"""Reference segmentations in DICOM: SEG and RTSTRUCT, painted on the grid of their image.

Numbers of segments and structures differ from file to file, so a label is known by its name.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tumorseg.errors import InputError
from tumorseg.ops.contours import Contour
from tumorseg.schema.dataset import ImageFile, repeated_values
from tumorseg.storage.dicom_contours import paint_contours, read_contours
from tumorseg.storage.dicom_files import (
    CONTOUR_CLASS,
    LABEL_CLASSES,
    SEGMENTATION_CLASSES,
    is_dicom_file,
    parts_of,
    read_dataset,
    reading,
)
from tumorseg.storage.dicom_segments import open_segments, paint_segments, segment_names
from tumorseg.storage.stored import Geometry
from tumorseg.types import Mask, Segmentation

logger = logging.getLogger(__name__)

BACKGROUND = "background"
"""A structure of this name is none."""


class LabelSummary(NamedTuple):
    """What a file says of its structures."""

    names: tuple[str, ...]
    """Sorted, without the background's."""
    series: tuple[str, ...]
    """UIDs of the image series that it was drawn on, as far as it says."""
    frames_of_reference: tuple[str, ...]
    """UIDs."""


class _Opened(NamedTuple):
    """One file whose structures can be painted."""

    path: str
    names: tuple[str, ...]
    """Of structures that enclose something."""
    known: tuple[str, ...]
    """Of all structures: one that encloses nothing is empty, not missing."""
    paint: Callable[[str, Geometry], Mask]


def summarize_label(path: str) -> LabelSummary:
    """Return the structures of a SEG or RTSTRUCT file that enclose something, and what it was drawn on.

    Raises:
        InputError: the file is damaged, or another kind of DICOM.
    """
    with reading(path):
        dataset = _read_label(path, has_pixels=False)
        is_contours = str(dataset.SOPClassUID) == CONTOUR_CLASS
        names = (
            [name for name, structures in read_contours(dataset, path).items() if structures]
            if is_contours
            else segment_names(dataset).values()
        )
        series = _contoured_series(dataset) if is_contours else list(dataset.get("ReferencedSeriesSequence") or ())
        frames = [dataset, *(dataset.get("ReferencedFrameOfReferenceSequence") or ())]
        return LabelSummary(
            _foreground(names),
            tuple(sorted({str(item.SeriesInstanceUID) for item in series})),
            tuple(sorted({str(item.FrameOfReferenceUID) for item in frames if "FrameOfReferenceUID" in item})),
        )


def label_names(files: Sequence[str]) -> set[str]:
    """Return the names of all structures in the files, or folders of files, of one reference.

    Raises:
        InputError: a file is damaged, or no DICOM segmentation.
    """
    return {name for path in _label_parts(files) for name in summarize_label(path).names}


def paint_labels(files: Sequence[str], grid: Geometry, values: Mapping[str, int]) -> Segmentation:
    """Paint the structures of a reference on the grid of its image, in the order of their values.

    Structures whose names have no value are left out, and what is painted over is lost, both with a warning.

    Args:
        files: SEG and RTSTRUCT files, or folders of such.
        grid: of the image.
        values: label value of each name.

    Returns:
        (Z, Y, X), 0 where nothing is.

    Raises:
        InputError: a file is damaged or does not fit the grid, no structure has a name that is asked for, or two files have
            structures of one name.
    """
    opened = [_open_label(path) for path in _label_parts(files)]
    where = ", ".join(files)
    found = sorted({name for one in opened for name in one.names})
    if repeated := repeated_values(name for one in opened for name in one.names):
        raise InputError(
            f"{where}: found two files with structures called {', '.join(repeated[:5])}, expected one; name the one that is meant in a manifest"
        )
    known = sorted({name for one in opened for name in one.known})
    if not set(known) & set(values):
        raise InputError(
            f"{where}: found the structures {', '.join(known) or 'none'}, expected one of {', '.join(values) or 'none'}; "
            "correct the labels of the dataset, or leave the file out"
        )
    if unknown := sorted(set(found) - set(values)):
        logger.warning("%s: structures that are no labels of the dataset are left out: %s", where, ", ".join(unknown))
    return _paint(where, opened, grid, values=values)


def _paint(where: str, opened: Sequence[_Opened], grid: Geometry, *, values: Mapping[str, int]) -> Segmentation:
    kind = np.promote_types(np.min_scalar_type(min(values.values())), np.min_scalar_type(max(values.values())))
    painted = np.zeros(grid.shape, np.promote_types(kind, np.int16))
    named = {value: name for name, value in values.items()}
    for value in sorted(named):
        for one in opened:
            if named[value] not in one.names:
                continue
            mask = one.paint(named[value], grid)
            under, counts = np.unique(painted[mask], return_counts=True)
            for lost, count in zip(under.tolist(), counts.tolist(), strict=True):
                if lost:
                    logger.warning("%s: %s lies over %s in %d voxels", where, named[value], named[lost], count)
            painted[mask] = value
    return painted


def _label_parts(files: Sequence[str]) -> list[str]:
    """Return the files of a reference; of folders, those that are DICOM."""
    found = []
    for file in files:
        parts = parts_of(ImageFile(path=file))
        found += [part for part in parts if part == file or is_dicom_file(Path(part))]
    return found


def _read_label(path: str, *, has_pixels: bool) -> Any:
    dataset = read_dataset(path, has_pixels=has_pixels)
    if str(dataset.get("SOPClassUID", "")) not in LABEL_CLASSES:
        raise InputError(f"{path}: found another kind of DICOM, expected SEG or RTSTRUCT; name the segmentation")
    return dataset


def _open_label(path: str) -> _Opened:
    with reading(path):
        dataset = _read_label(path, has_pixels=True)
        if str(dataset.SOPClassUID) in SEGMENTATION_CLASSES:
            segments = open_segments(dataset, path)
            names = _foreground(segments.names.values())
            return _Opened(path, names, names, lambda name, grid: paint_segments(segments, name, grid))
        contours = read_contours(dataset, path)
        filled = _foreground(name for name, structures in contours.items() if structures)
        return _Opened(
            path, filled, _foreground(contours), lambda name, grid: _fill(path, name, contours[name], grid=grid)
        )


def _fill(path: str, name: str, structures: list[list[Contour]], *, grid: Geometry) -> Mask:
    """Return what lies in one of the structures of a name: each is filled by itself, or overlaps would be holes."""
    mask = np.zeros(grid.shape, np.bool_)
    for contours in structures:
        mask |= paint_contours(path, name, contours, grid=grid)
    return mask


def _foreground(names: Any) -> tuple[str, ...]:
    return tuple(sorted({name for name in names if name.casefold() != BACKGROUND}))


def _contoured_series(dataset: Any) -> list[Any]:
    """Return the items of a structure set that name image series."""
    return [
        series
        for frame in dataset.get("ReferencedFrameOfReferenceSequence") or ()
        for study in frame.get("RTReferencedStudySequence") or ()
        for series in study.get("RTReferencedSeriesSequence") or ()
    ]
