"""The DICOM series that a result is of: its headers, plane by plane, in the order of the volume.

References:
    DICOM PS3.3, C.7.4.1 (frame of reference) and C.7.6.16.2.2.6 (how frames refer to what they derive from).
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tumorseg.errors import InputError
from tumorseg.schema.dataset import ImageFile
from tumorseg.storage.dicom.described_segments import Description
from tumorseg.storage.dicom.files import is_dicom_file, read_dataset, reading
from tumorseg.storage.dicom.frames import Frame, stated
from tumorseg.storage.dicom.identity import uid_from
from tumorseg.storage.dicom.series import Stack, read_stack
from tumorseg.types import Affine, Segmentation


class SourceSeries(NamedTuple):
    """A series of images, without pixels."""

    path: str
    """The file or folder, for messages."""
    planes: tuple[Any, ...]
    """The header (a pydicom Dataset) of each plane, by its place in the volume; of a file of many frames always the same one."""
    frame_numbers: tuple[int | None, ...]
    """Of each plane in its file, from 1, as references count them; None where the file is one plane."""
    positions: tuple[tuple[float, ...], ...]
    """Of each plane, as it states it: mm in DICOM's own axes (left, posterior, head), the centre of the first pixel."""
    orientation: tuple[float, ...]
    """Of all planes, as the first states it: the directions along a row and along a column, in the same axes."""
    pixel_spacing: tuple[float, ...]
    """Mm from row to row, and from column to column."""
    thickness_mm: float
    """Of a plane, as stated; else the way from a plane to the next."""
    affine: Affine
    """(4, 4), voxels (x, y, z, 1) to RAS+ mm."""
    shape: tuple[int, int, int]
    """Voxels (Z, Y, X), as `storage.images` reads them."""
    tilt_degrees: float
    """By how much the planes are stacked aslant; 0 unless the gantry was tilted."""
    study_uid: str
    series_uid: str
    frame_of_reference_uid: str
    """Of the series; where the headers state none, one that follows from the series."""

    @property
    def instances(self) -> tuple[Any, ...]:
        """Return the header of each file, once, in the order of the planes."""
        return tuple({str(plane.SOPInstanceUID): plane for plane in self.planes}.values())

    def check_shape(self, segmentation: Segmentation) -> None:
        """Refuse a label map of another shape.

        Raises:
            InputError: it is not the series'.
        """
        if segmentation.shape != self.shape:
            raise InputError(
                f"found a label map of shape {segmentation.shape}, expected {self.shape} as the series; resample it onto that",
                file=self.path,
            )


def result_parts(description: Description, source: SourceSeries) -> tuple[str, ...]:
    """Return what the UIDs of a result follow from: what made it, and the series that it is of."""
    return (*description.identity, *description.algorithm, source.study_uid, source.series_uid)


def read_source(file: ImageFile) -> SourceSeries:
    """Read the headers of a series in the order of its planes.

    Args:
        file: a folder and the files in it that make up the series, a folder of one series, or a file with all planes.

    Raises:
        InputError: it is no DICOM, damaged, no regular stack, or its files are of several series.
    """
    _check_is_dicom(file)
    stack = read_stack(file)
    headers = {frame.path: _read_header(frame.path) for frame in stack.frames}
    planes = [headers[frame.path] for frame in stack.frames]
    study, series = (_common(file.path, planes, name) for name in ("StudyInstanceUID", "SeriesInstanceUID"))
    if not study or not series:
        raise InputError(
            "found headers without the UID of their study or series, expected both; nothing can refer to it; export it again",
            file=file.path,
        )
    frame_of_reference = _common(file.path, planes, "FrameOfReferenceUID")
    first = stack.frames[0]
    with reading(file.path):
        return SourceSeries(
            path=file.path,
            planes=tuple(planes),
            frame_numbers=tuple(_number(header, frame) for header, frame in zip(planes, stack.frames, strict=True)),
            positions=tuple(
                _stated(headers, frame, "PlanePositionSequence", "ImagePositionPatient") for frame in stack.frames
            ),
            orientation=_stated(headers, first, "PlaneOrientationSequence", "ImageOrientationPatient"),
            pixel_spacing=_stated(headers, first, "PixelMeasuresSequence", "PixelSpacing"),
            thickness_mm=_thickness(headers[first.path], stack),
            affine=stack.affine,
            shape=stack.shape,
            tilt_degrees=stack.tilt_degrees,
            study_uid=study,
            series_uid=series,
            frame_of_reference_uid=frame_of_reference or uid_from(["frame of reference", study, series]),
        )


def _check_is_dicom(file: ImageFile) -> None:
    path = Path(file.path)
    if path.is_file() and not is_dicom_file(path):
        raise InputError(
            "is no DICOM, expected a DICOM series, which DICOM results refer to; ask for results as nii.gz instead",
            file=file.path,
        )


def _read_header(path: str) -> Any:
    with reading(path):
        header = read_dataset(path, has_pixels=False)
        if not header.get("SOPInstanceUID"):
            raise InputError(
                "found no SOPInstanceUID, expected one; nothing can refer to it; export it again", file=path
            )
        return header


def _number(header: Any, frame: Frame) -> int | None:
    # A file with groups of frames is one of many frames even where it holds a single one; some state a number of 1 in plain slices.
    return frame.number + 1 if "PerFrameFunctionalGroupsSequence" in header else None


def _stated(headers: Mapping[str, Any], frame: Frame, group: str, name: str) -> tuple[float, ...]:
    return tuple(float(value) for value in stated(headers[frame.path], frame.number, group, name))


def _thickness(header: Any, stack: Stack) -> float:
    found = stated(header, stack.frames[0].number, "PixelMeasuresSequence", "SliceThickness")
    stated_mm = abs(float(found or 0))
    # Some write it as negative, or as 0, or as no number.
    return stated_mm if 0 < stated_mm < np.inf else float(np.linalg.norm(stack.affine[:3, 2]))


def _common(where: str, planes: Sequence[Any], name: str) -> str:
    """Return what all planes state for an element, empty where none does."""
    # UIDs that break the standard are taken as they are, without a word.
    with reading(where):
        found = sorted({str(plane.get(name) or "") for plane in planes})
    if len(found) > 1:
        raise InputError(
            f"found planes of {len(found)} {name}, such as {found[0] or 'none'} and {found[1]}, expected one; give each "
            "series a folder of its own",
            file=where,
        )
    return found[0]
