"""What an instance takes over from the images that it was made of: patient, study, encoding of texts, and its date.

References:
    DICOM PS3.3: C.7.1 (patient), C.7.2 (study), C.12.1.1.2 (Specific Character Set).
"""

import copy
import re
from collections import deque
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from tumorseg.storage.damage import of_pydicom
from tumorseg.storage.file_warnings import warn

PATIENT = (
    "PatientName", "PatientID", "IssuerOfPatientID", "TypeOfPatientID", "PatientBirthDate", "PatientBirthTime", "PatientSex",
    "OtherPatientNames", "OtherPatientIDsSequence", "EthnicGroup", "PatientComments", "QualityControlSubject",
    "PatientSpeciesDescription", "PatientSpeciesCodeSequence", "PatientBreedDescription", "PatientBreedCodeSequence",
    "BreedRegistrationSequence", "ResponsiblePerson", "ResponsiblePersonRole", "ResponsibleOrganization",
    "PatientIdentityRemoved", "DeidentificationMethod", "DeidentificationMethodCodeSequence",
    "ClinicalTrialSponsorName", "ClinicalTrialProtocolID", "ClinicalTrialProtocolName", "ClinicalTrialSiteID",
    "ClinicalTrialSiteName", "ClinicalTrialSubjectID", "ClinicalTrialSubjectReadingID",
    "ClinicalTrialProtocolEthicsCommitteeName", "ClinicalTrialProtocolEthicsCommitteeApprovalNumber",
)  # fmt: skip
"""Elements of the modules Patient and Clinical Trial Subject."""
STUDY = (
    "StudyInstanceUID", "StudyDate", "StudyTime", "StudyID", "AccessionNumber", "IssuerOfAccessionNumberSequence",
    "StudyDescription", "ReferringPhysicianName", "PhysiciansOfRecord", "NameOfPhysiciansReadingStudy",
    "ProcedureCodeSequence", "ReferencedStudySequence", "AdmittingDiagnosesDescription", "PatientAge", "PatientSize",
    "PatientWeight", "MedicalAlerts", "Allergies", "SmokingStatus", "PregnancyStatus", "LastMenstrualDate", "PatientState",
    "PatientSexNeutered", "Occupation", "AdditionalPatientHistory", "AdmissionID", "ClinicalTrialTimePointID",
    "ClinicalTrialTimePointDescription", "LongitudinalTemporalInformationModified",
)  # fmt: skip
"""Elements of the modules General Study, Patient Study and Clinical Trial Study."""
REQUIRED = (
    "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "StudyID", "AccessionNumber",
    "ReferringPhysicianName",
)  # fmt: skip
"""Those of them that every instance has, if need be without a value."""
ENCODING = "SpecificCharacterSet"
UTF_8 = "ISO_IR 192"
CLOCKS = ("Content", "Acquisition", "Series", "Study")
"""Dates and times of an image, what says most first."""
MANUFACTURER = "tumorseg"
OWN_SERIES = 1000
"""Added to the number of the source's series, so that results are listed behind images."""
LARGEST_NUMBER = 2**31 - 1
"""That an element of whole numbers holds."""
TEXTS = ("LO", "LT", "PN", "SH", "ST", "UC", "UT")
"""Representations of values that the encoding concerns."""
NO_LETTER = "\ufffd"
"""What a byte becomes that is no letter in the encoding that is stated."""
NO_DATE, NO_TIME = "19000101", "000000"
"""Where an image states no date; never the day of the run, so that a repeat is the same file."""


def inherit(instance: Any, header: Any, texts: Iterable[str]) -> None:
    """Copy patient and study of an image into an instance, and settle how texts are encoded. To be called in `lenient`.

    Texts stay the image's own bytes, which archives compare, even if they are in another encoding than it states; unless those of the
    instance itself need UTF-8. What cannot be parsed is left out.

    Args:
        instance: a pydicom Dataset, changed in place.
        header: of the image.
        texts: of the instance itself.
    """
    for name in REQUIRED:
        setattr(instance, name, None)
    is_kept = all(text.isascii() for text in texts)
    # Decoded apart, so that the header's own elements stay the bytes that they were read as.
    decoded = header[:]
    found = [_element(decoded, name) for name in (*PATIENT, *STUDY, "TimezoneOffsetFromUTC")]
    for element in found:
        if element is not None:
            instance.add(_as_stored(header, element) if is_kept else _recoded(header, element))
    if not is_kept:
        setattr(instance, ENCODING, UTF_8)
    elif (encoding := _element(decoded, ENCODING)) is not None:
        instance.add(copy.deepcopy(encoding))
    elif ENCODING in instance:
        delattr(instance, ENCODING)


def date_and_time(header: Any) -> tuple[str, str]:
    """Return when an image was made, as DICOM writes it; the same fixed date for all that do not say. To be called in `lenient`."""
    for clock in CLOCKS:
        date, time = (str(header.get(clock + end) or "") for end in ("Date", "Time"))
        if _is_date(date):
            is_time = re.fullmatch(r"([01]\d|2[0-3])[0-5]\d[0-5]\d(\.\d{1,6})?", time)
            return date, time if is_time else NO_TIME
    return NO_DATE, NO_TIME


def _is_date(text: str) -> bool:
    try:
        return len(text) == 8 and datetime.strptime(text, "%Y%m%d").year > 1000
    except ValueError:
        return False


def series_number_of(header: Any) -> int:
    """Return the number of a series of results: behind that of the images. To be called in `lenient`."""
    stated = str(header.get("SeriesNumber") or "").strip()
    number = int(stated) if stated.isdecimal() else 0
    return min(number, LARGEST_NUMBER - OWN_SERIES) + OWN_SERIES


def long_string(text: str) -> str:
    """Return a text as elements of 64 characters hold it: on one line, without the sign that parts values."""
    return " ".join(text.replace("\\", "/").split())[:64].strip()


def _element(header: Any, name: str) -> Any:
    """Return an element, or None where it is missing or makes no sense, as a weight that is no number does not."""
    try:
        element = header[name]
        # What is still to be decoded would be when it is written, and complained of.
        for item in element.value if element.VR == "SQ" else ():
            deque(item.iterall(), maxlen=0)
        return element
    except of_pydicom():  # a missing one is a KeyError among them
        return None


def _as_stored(header: Any, element: Any) -> Any:
    """Return an element of a header for an instance in the same encoding: the bytes of a text, letters or not."""
    from pydicom.dataelem import DataElement

    stored = header.get_item(element.tag)
    if stored.is_raw and element.VR in TEXTS:
        return DataElement(element.tag, element.VR, stored.value)
    return copy.deepcopy(element)


def _recoded(header: Any, element: Any) -> Any:
    """Return an element of a header for an instance in UTF-8, and tell where letters get lost."""
    if NO_LETTER in str(element.value):
        warn(
            str(header.filename),
            f"{element.keyword} is not in the encoding that the header states; letters are lost as UTF-8 is needed for a label's name",
        )
    return copy.deepcopy(element)
