"""Writing label maps as RTSTRUCT: each label as closed contours on the planes of the series that it was made of.

Nothing in it comes from the clock or from chance: the same label map gives the same bytes.

References:
    DICOM PS3.3: A.19 (RT Structure Set), C.8.8.1, C.8.8.5, C.8.8.16.
"""

from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

from tumorseg.errors import InputError
from tumorseg.storage.atomic import write_bytes
from tumorseg.storage.dicom.described_segments import Description, texts_of
from tumorseg.storage.dicom.described_structures import contours_item, observation_item, region_item
from tumorseg.storage.dicom.drawn_contours import image_item, place_planes, trace_structures
from tumorseg.storage.dicom.files import CONTOUR_CLASS, lenient
from tumorseg.storage.dicom.identity import digest_of, uid_from
from tumorseg.storage.dicom.inherited import MANUFACTURER, date_and_time, inherit, long_string, series_number_of
from tumorseg.storage.dicom.sources import SourceSeries, result_parts
from tumorseg.types import Segmentation

STUDY_CLASS = "1.2.840.10008.3.1.2.3.1"
"""Detached Study Management, retired: of what class a study is where one has to be named."""
LABEL = "SEGMENTATION"
"""By which planning systems list it; 16 letters at most."""


def write_rtstruct(path: Path, segmentation: Segmentation, source: SourceSeries, *, description: Description) -> None:
    """Write a label map as an RTSTRUCT on the series that it is of.

    Contours run along the edges of voxels, so that filling them gives back the label map; each hole is reached from what is around it by
    a keyhole. A label of which there are no voxels is a structure without contours.

    Args:
        path: where to.
        segmentation: (Z, Y, X), label values, 0 the background, on the grid of the series as `storage.images` reads it.
        source: the series, which several writers may share.
        description: of its labels, and what made it.

    Raises:
        InputError: the series is of another shape, or too far away; a label has no segment, or there are none.
        StorageError: the file cannot be written.
    """
    source.check_shape(segmentation)
    if not description.segments:
        raise InputError("found no labels, expected one at least; an RTSTRUCT holds no fewer", file=source.path)
    with lenient():
        planes = place_planes(source)
    values = [segment.value for segment in description.segments]
    # Not in `lenient`, in which all threads but one wait.
    contours = trace_structures(segmentation, planes, values, where=source.path)
    digest, buffer = digest_of(segmentation), BytesIO()
    with lenient():
        instance = _header(source, description)
        instance.SOPInstanceUID = uid_from([*result_parts(description, source), "rtstruct", digest])
        _add_structures(instance, contours, source, description)
        # Explicit ones have no room for contours of more than 64 kB.
        instance.save_as(buffer, implicit_vr=True, little_endian=True, enforce_file_format=True)
    write_bytes(path, buffer.getbuffer())


def _header(source: SourceSeries, description: Description) -> Any:
    """Return an instance that has all but its structures and its UID."""
    from pydicom.dataset import Dataset

    instance = Dataset()
    header, algorithm = source.planes[0], description.algorithm
    inherit(instance, header, texts_of(description.segments, algorithm))
    instance.SOPClassUID, instance.Modality = CONTOUR_CLASS, "RTSTRUCT"
    instance.SeriesInstanceUID = uid_from([*result_parts(description, source), "rtstruct", "series"])
    instance.SeriesNumber, instance.InstanceNumber, instance.OperatorsName = series_number_of(header), 1, ""
    instance.SeriesDescription = instance.StructureSetName = long_string(f"Segmentation by {algorithm.name}")
    instance.Manufacturer, instance.ManufacturerModelName = MANUFACTURER, long_string(algorithm.name)
    instance.SoftwareVersions = long_string(algorithm.version)
    instance.StructureSetLabel, instance.ApprovalStatus = LABEL, "UNAPPROVED"
    instance.StructureSetDate, instance.StructureSetTime = date_and_time(header)
    instance.FrameOfReferenceUID = source.frame_of_reference_uid
    instance.PositionReferenceIndicator = header.get("PositionReferenceIndicator") or ""
    instance.ReferencedFrameOfReferenceSequence = [_drawn_on(source)]
    return instance


def _drawn_on(source: SourceSeries) -> Any:
    """Return the item that names the images of a series, with their study and frame of reference."""
    from pydicom.dataset import Dataset

    series, study, frame = Dataset(), Dataset(), Dataset()
    series.SeriesInstanceUID = source.series_uid
    series.ContourImageSequence = [image_item(header) for header in source.instances]
    study.ReferencedSOPClassUID, study.ReferencedSOPInstanceUID = STUDY_CLASS, source.study_uid
    study.RTReferencedSeriesSequence = [series]
    frame.FrameOfReferenceUID = source.frame_of_reference_uid
    frame.RTReferencedStudySequence = [study]
    return frame


def _add_structures(
    instance: Any, contours: Mapping[int, list[Any]], source: SourceSeries, description: Description
) -> None:
    """Add a structure for each segment, numbered from 1."""
    segments = description.segments
    numbered = list(enumerate(segments, start=1))
    instance.StructureSetROISequence = [
        region_item(segment, number, source.frame_of_reference_uid) for number, segment in numbered
    ]
    instance.ROIContourSequence = [
        contours_item(segment, number, contours[segment.value]) for number, segment in numbered
    ]
    instance.RTROIObservationsSequence = [observation_item(segment, number) for number, segment in numbered]
