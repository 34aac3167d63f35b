"""Patient, study and series from the headers of DICOM files; voxels are not read.

References:
    DICOM PS3.3, C.7.1 to C.7.3: the patient, study and series of every object.
"""

import logging
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from tumorseg.errors import InputError
from tumorseg.storage.dicom.files import (
    BARE_ENDINGS,
    DIRECTORY_CLASS,
    KIND,
    is_dicom_file,
    read_dataset,
    reading,
    walk_files,
)
from tumorseg.storage.file_warnings import warn
from tumorseg.storage.formats.signatures import path_fault
from tumorseg.storage.formats.stored import damaged

logger = logging.getLogger(__name__)

SECONDS_BETWEEN_NOTES = 10.0
HEADER_TAGS = (
    "SOPClassUID",
    "SOPInstanceUID",
    "ImageType",
    "StudyDate",
    "Modality",
    "SeriesDescription",
    "PatientID",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "FrameOfReferenceUID",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "NumberOfFrames",
    "Units",
)


class Header(NamedTuple):
    """Header fields of one file; texts are empty where it says nothing."""

    path: str
    sop_class: str = ""
    """Empty where the file is damaged."""
    patient: str = ""
    study: str = ""
    """UID."""
    date: str = ""
    """Of the study."""
    series: str = ""
    """UID."""
    frame_of_reference: str = ""
    """UID."""
    modality: str = ""
    description: str = ""
    """Of the series."""
    units: str = ""
    """Of PET."""
    is_localizer: bool = False
    is_located: bool = False
    """Whether its planes say where they lie, here or by the frames of the file."""
    orientation: tuple[float, ...] = ()
    """Of its planes; empty where it stands by the frames of the file, or nowhere."""


def read_header(path: str) -> Header:
    """Return what a DICOM file says of itself; voxels are not read.

    Raises:
        InputError: the file is damaged.
    """
    with reading(path):
        dataset = read_dataset(path, has_pixels=False, tags=HEADER_TAGS)
        sop_class = str(dataset.get("SOPClassUID") or dataset.file_meta.get("MediaStorageSOPClassUID") or "")
        if sop_class != DIRECTORY_CLASS and "SeriesInstanceUID" not in dataset:
            raise damaged(path, KIND, "the header names no series")
        orientation = dataset.get("ImageOrientationPatient") or ()
        return Header(
            path,
            sop_class,
            _text(dataset, "PatientID"),
            _text(dataset, "StudyInstanceUID"),
            _text(dataset, "StudyDate"),
            _text(dataset, "SeriesInstanceUID"),
            _text(dataset, "FrameOfReferenceUID"),
            _text(dataset, "Modality"),
            _text(dataset, "SeriesDescription"),
            _text(dataset, "Units"),
            "LOCALIZER" in _values(dataset, "ImageType"),
            bool(orientation and dataset.get("ImagePositionPatient")) or "NumberOfFrames" in dataset,
            tuple(float(value) for value in orientation),
        )


def read_headers(path: Path) -> Iterator[Header]:
    """Yield the header of every DICOM file in and below a folder, or of one file; a damaged one's has no class."""
    noted = time.monotonic()
    for number, file in enumerate(walk_files(path) if path.is_dir() else [path]):
        if time.monotonic() - noted > SECONDS_BETWEEN_NOTES:
            noted = time.monotonic()
            logger.info("%s: %d files looked at, now in %s", path, number, file.parent)
        # What is left of a copy that failed may have been a slice, so it counts as a damaged file, not as none.
        if file.name.lower().endswith(BARE_ENDINGS) and (fault := _loss(file)) is not None:
            warn(file, fault)
            yield Header(str(file))
        elif is_dicom_file(file):
            try:
                yield read_header(str(file))
            except InputError as error:
                warn(file, error.text(file=str(file)))
                yield Header(str(file))


def _loss(file: Path) -> str | None:
    """Return why nothing is left of a file, as of a link that leads nowhere; None where something is."""
    fault = path_fault(str(file))
    return "is empty" if fault is None and file.stat().st_size == 0 else fault


def _text(dataset: Any, name: str) -> str:
    """Return an element as text, without outer blanks and with single inner ones."""
    return " ".join(str(dataset.get(name) or "").split())


def _values(dataset: Any, name: str) -> list[str]:
    """Return an element's values as texts in upper case."""
    found = dataset.get(name) or []
    # pydicom unpacks an element that has only one value.
    values = [found] if isinstance(found, str) else found
    return [str(value).upper() for value in values]
