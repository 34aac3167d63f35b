"""Writing label maps as DICOM SEG, each frame aligned with the plane of the series that it was made of.

highdicom builds the object. What it takes from the clock or makes up by chance is replaced, so that the same label map gives the same
bytes.

References:
    DICOM PS3.3: A.51 and A.91 (Segmentation and Label Map Segmentation), C.8.20.
"""

from io import BytesIO
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tumorseg.errors import InputError
from tumorseg.storage.atomic import write_bytes
from tumorseg.storage.dicom.described_segments import Description, Segment, describe_segments, texts_of
from tumorseg.storage.dicom.files import lenient
from tumorseg.storage.dicom.identity import digest_of, uid_from
from tumorseg.storage.dicom.inherited import MANUFACTURER, date_and_time, inherit, long_string, series_number_of
from tumorseg.storage.dicom.plane_headers import plane_headers, refer_to_planes
from tumorseg.storage.dicom.sources import SourceSeries, result_parts
from tumorseg.types import Segmentation

SegKind = Literal["binary", "labelmap"]
"""A bit map for each segment, which every viewer knows, or one map of segment numbers, of which newer ones do."""
MOST_BYTES_WITH_EMPTY = 64 << 20
"""Up to which size a file of bit maps holds planes without foreground too. Some viewers count frames instead of reading where they
lie, or wait for segments that have none; beyond, the many bit maps of many segments would be nearly all zeros."""
MOST_SEGMENTS = 65535
"""That 16 bits number."""


def require_highdicom() -> None:
    """See that DICOM SEG can be written here, before any work is done.

    Raises:
        InputError: the optional package is not installed.
    """
    try:
        import highdicom  # noqa: F401
    except ImportError:
        raise InputError(
            "DICOM SEG needs the package highdicom, which is not installed; give `pip install 'tumorseg[dicom]'`"
        ) from None


def write_seg(
    path: Path,
    segmentation: Segmentation,
    source: SourceSeries,
    *,
    description: Description,
    kind: SegKind = "binary",
) -> None:
    """Write a label map as a DICOM SEG on the series that it is of.

    Args:
        path: where to.
        segmentation: (Z, Y, X), label values, 0 the background, on the grid of the series as `storage.images` reads it.
        source: the series, which several writers may share.
        description: of its segments, and what made it.
        kind: how voxels are held.

    Raises:
        InputError: the series is of another shape; a label has no segment, or there are none.
        StorageError: the file cannot be written.
    """
    require_highdicom()
    source.check_shape(segmentation)
    numbers = _numbered(segmentation, description.segments, where=source.path)
    parts = (*result_parts(description, source), "seg", kind)
    instance = _build(numbers, source, description, kind=kind, series_uid=uid_from([*parts, "series"]))
    instance.SOPInstanceUID = instance.file_meta.MediaStorageSOPInstanceUID = uid_from(
        [*parts, digest_of(segmentation)]
    )
    with lenient():
        _settle(instance, source, description)
    # Takes seconds for thousands of frames, for which no other thread could read DICOM in `lenient`.
    buffer = BytesIO()
    instance.save_as(buffer, enforce_file_format=True)
    write_bytes(path, buffer.getbuffer())


def _numbered(segmentation: Segmentation, segments: tuple[Segment, ...], *, where: str) -> NDArray[Any]:
    """Return segment numbers, the first segment's being 1, for label values."""
    if not 0 < len(segments) <= MOST_SEGMENTS:
        raise InputError(
            f"found {len(segments)} labels, expected 1 to {MOST_SEGMENTS}; a SEG holds no others", file=where
        )
    values = np.array([0, *(segment.value for segment in segments)])
    order = np.argsort(values)
    numbers = np.empty(segmentation.shape, np.uint8 if len(segments) < 256 else np.uint16)
    # By planes, as what is looked up takes eight bytes a voxel.
    for index, plane in enumerate(segmentation):
        places = np.searchsorted(values[order], plane).clip(max=len(values) - 1)
        numbers[index] = order[places]
        if (stray := plane[values[order][places] != plane]).size:
            raise InputError(
                f"found the value {stray[0]} in a label map, expected 0 and {', '.join(map(str, values[1:]))}; name its label",
                file=where,
            )
    return numbers


def _build(
    numbers: NDArray[Any], source: SourceSeries, description: Description, *, kind: SegKind, series_uid: str
) -> Any:
    """Return highdicom's object, which refers to planes by made-up UIDs and has neither a patient nor a UID of its own yet."""
    from highdicom.seg import Segmentation as Seg

    with lenient():
        headers = plane_headers(source)
        date, time = date_and_time(source.planes[0])
        series_number = series_number_of(source.planes[0])
    is_whole = _has_empty_frames(source, description, kind)
    # Where there is no foreground at all highdicom would write every frame: those of one plane say that there is none.
    num_planes = len(numbers) if is_whole or numbers.any() else 1
    algorithm = description.algorithm
    return Seg(
        source_images=headers[:num_planes],
        pixel_array=numbers[:num_planes],
        segmentation_type=kind.upper(),
        segment_descriptions=describe_segments(description.segments, algorithm),
        series_instance_uid=series_uid,
        series_number=series_number,
        sop_instance_uid=series_uid,
        instance_number=1,
        manufacturer=MANUFACTURER,
        manufacturer_model_name=long_string(algorithm.name),
        software_versions=long_string(algorithm.version),
        device_serial_number=uid_from(description.identity)[-16:],
        content_label="SEGMENTATION",
        content_description=long_string(f"Segmentation by {algorithm.name}"),
        omit_empty_frames=not is_whole and num_planes > 1,
        series_description=long_string(f"Segmentation by {algorithm.name}"),
        content_date=date,
        content_time=time,
    )


def _has_empty_frames(source: SourceSeries, description: Description, kind: SegKind) -> bool:
    """Tell whether planes without foreground are written; by the shape alone, so that all cases of a kind are written alike."""
    num_bytes = int(np.prod(source.shape)) * len(description.segments) // 8
    return kind == "labelmap" or num_bytes <= MOST_BYTES_WITH_EMPTY


def _settle(instance: Any, source: SourceSeries, description: Description) -> None:
    """Give an object its patient, study and planes, and take out what differs from run to run."""
    refer_to_planes(instance, source)
    inherit(instance, source.planes[0], texts_of(description.segments, description.algorithm))
    for name in ("InstanceCreationDate", "InstanceCreationTime"):
        delattr(instance, name)
    for equipment in instance.ContributingEquipmentSequence:
        equipment.pop("ContributionDateTime", None)
    # To be there, if without a value, which highdicom forgets.
    instance.ContentCreatorName = None
    organization = uid_from([instance.SOPInstanceUID, "dimensions"])
    for item in (*instance.DimensionOrganizationSequence, *instance.DimensionIndexSequence):
        item.DimensionOrganizationUID = organization
