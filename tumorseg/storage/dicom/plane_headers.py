"""One header a plane for highdicom, whatever files a series consists of, and the way back to these files.

highdicom takes a series of single slices, or one file of many frames whose orientation is shared. Here planes come from either, from
several files of many frames, and with orientations that scanners rounded differently. So it is given a slice for each plane, under a
made-up UID; afterwards references to such UIDs are turned into those to files and frames.
"""

from typing import Any

from tumorseg.storage.dicom.inherited import REQUIRED
from tumorseg.storage.dicom.sources import SourceSeries

SLICE_CLASS = "1.2.840.10008.5.1.4.1.1.2"
"""CT, whose files are single slices."""
COPIED = (
    "PositionReferenceIndicator", "LossyImageCompression", "LossyImageCompressionRatio", "LossyImageCompressionMethod",
)  # fmt: skip
"""Elements that highdicom looks up, if they are there."""


def plane_headers(source: SourceSeries) -> list[Any]:
    """Return a pydicom Dataset for each plane, in their order. To be called in `lenient`."""
    return [_header(source, index) for index in range(len(source.planes))]


def refer_to_planes(instance: Any, source: SourceSeries) -> None:
    """Turn an object's references to made-up slices into those to files and their frames, in place. To be called in `lenient`.

    Args:
        instance: made by highdicom of `plane_headers`.
        source: the same series.
    """
    planes = {_made_up(index): index for index in range(len(source.planes))}
    for frame in instance.PerFrameFunctionalGroupsSequence:
        for derivation in frame.DerivationImageSequence:
            for item in derivation.SourceImageSequence:
                # Frames of several segments share an item, which was turned with the first of them.
                if (index := planes.get(str(item.ReferencedSOPInstanceUID))) is not None:
                    _refer(item, source, index)
    instance.SourceImageSequence = [_reference(plane) for plane in source.instances]
    instance.ReferencedSeriesSequence[0].ReferencedInstanceSequence = [_reference(plane) for plane in source.instances]


def _header(source: SourceSeries, index: int) -> Any:
    from pydicom.dataset import Dataset

    header, stated = Dataset(), source.planes[index]
    for name in REQUIRED:
        setattr(header, name, "")
    for name in COPIED:
        if name in stated:
            header[name] = stated[name]
    header.SOPClassUID, header.SOPInstanceUID = SLICE_CLASS, _made_up(index)
    header.StudyInstanceUID, header.SeriesInstanceUID = source.study_uid, source.series_uid
    header.FrameOfReferenceUID = source.frame_of_reference_uid
    header.Modality = str(stated.get("Modality") or "OT")
    _, header.Rows, header.Columns = source.shape
    header.ImagePositionPatient = _decimals(source.positions[index])
    header.ImageOrientationPatient = _decimals(source.orientation)
    header.PixelSpacing = _decimals(source.pixel_spacing)
    (header.SliceThickness,) = _decimals((source.thickness_mm,))
    return header


def _decimals(values: tuple[float, ...]) -> list[Any]:
    from pydicom.valuerep import DSfloat

    # 16 characters at most; what was read from as many comes out as it was.
    return [DSfloat(value, auto_format=True) for value in values]


def _made_up(index: int) -> str:
    return f"2.25.{index + 1}"


def _refer(item: Any, source: SourceSeries, index: int) -> None:
    plane, number = source.planes[index], source.frame_numbers[index]
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = plane.SOPClassUID, plane.SOPInstanceUID
    if number is not None:
        item.ReferencedFrameNumber = number


def _reference(plane: Any) -> Any:
    from pydicom.dataset import Dataset

    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = plane.SOPClassUID, plane.SOPInstanceUID
    return item
