"""DICOM as scanners and archives export it: any folders, any names; what a file is stands in its header.

A case is a study of a patient, who is its group. Its images are its series of CT, MR and PET; its label is what SEG and RTSTRUCT files
draw on them. Labels are known by name: the dataset's are all names, sorted, from 1 on. Series become channels by their modality,
or by their description where a case has several of one modality.
"""

import hashlib
import logging
import re
from collections import Counter
from collections.abc import Sequence
from os.path import relpath
from pathlib import Path

from tumorseg.errors import InputError
from tumorseg.planning.evidence.doubts import Held, question_labels
from tumorseg.schema.dataset import Case, Channel, Dataset, ImageFile
from tumorseg.sources.dicom_channels import choose_channels
from tumorseg.sources.dicom_studies import Series, Study, find_studies
from tumorseg.sources.discovery import numbered
from tumorseg.sources.folders import Listing, Problems, build_case, build_dataset, folder_name, image_files
from tumorseg.sources.leaving_out import used
from tumorseg.storage.dicom.files import common_folder, holds_dicom
from tumorseg.storage.images import ENDINGS, FLAT_ENDINGS

logger = logging.getLogger(__name__)

NEEDS = "DICOM files of CT, MR or PET in any folders, with SEG or RTSTRUCT files as labels"


def is_dicom(folder: Path) -> bool:
    """Tell whether DICOM lies in or below a folder that holds no volumes of other formats itself."""
    if not folder.is_dir():
        return False
    # Pictures beside DICOM are previews of it; where volumes of other formats lie, they are what is meant.
    has_volumes = any(not path.name.lower().endswith(FLAT_ENDINGS) for path in image_files(folder))
    return not has_volumes and holds_dicom(folder, ENDINGS)


def read_dicom(folder: Path) -> Dataset:
    """Read the studies that have labels; all of them where none has.

    Raises:
        InputError: there is no image, or studies differ in their series; all are listed.
    """
    studies = _with_images(folder, find_studies(folder))
    labelled = [study for study in studies if study.labels]
    if labelled and len(labelled) < len(studies):
        logger.warning("%s: %d studies without labels are left out", folder, len(studies) - len(labelled))
    kept = used(folder, _named(labelled or studies), lambda named: named[0])
    channels, cases = _channels_and_cases(folder, kept)
    _note_single_patient(folder, [study for _, study in kept])
    names = [_label_names(study) for _, study in kept]
    return build_dataset(
        folder,
        cases,
        name=folder_name(folder),
        channels=channels,
        labels={"background": 0} | numbered(frozenset().union(*names)),
        doubts=question_labels(Held(case.case_id, held) for case, held in zip(cases, names, strict=True)),
    )


def _label_names(study: Study) -> frozenset[str]:
    """Return the names of all structures that were drawn on a study."""
    return frozenset[str]().union(*(label.names for label in study.labels))


def list_dicom(path: Path) -> Listing:
    """List every study in a folder, or of a file, with labels or without.

    Raises:
        InputError: as from `read_dicom`.
    """
    return _listing(path, _named(_with_images(path, find_studies(path))))


def list_dicom_apart(path: Path) -> list[Listing]:
    """List every study by itself, so that each has channels of its own; those whose channels cannot be determined are noted.

    Raises:
        InputError: there is no image; or channels cannot be told, and nobody is `collecting` problems.
    """
    problems = Problems(path)
    listings = []
    for case_id, study in _named(_with_images(path, find_studies(path))):
        try:
            listings.append(_listing(path, [(case_id, study)]))
        except InputError as error:
            problems.add(str(error), case_id=case_id)
    problems.check()
    return listings


def _listing(path: Path, named: Sequence[tuple[str, Study]]) -> Listing:
    channels, cases = _channels_and_cases(path, named)
    return Listing(
        tuple(channel.name for channel in channels),
        tuple(sorted(cases, key=lambda case: case.case_id)),
        kinds=tuple(channel.kind for channel in channels),
    )


def list_dicom_labels(path: Path) -> list[tuple[str, tuple[str, ...]]]:
    """Return case id and label files of every study that has some; its images need not be there."""
    found = []
    # Named before any is left out: an id depends on the studies beside it, and must be the one that predictions bear.
    for case_id, study in _named(find_studies(path)):
        if study.labels:
            found.append((case_id, tuple(label.path for label in study.labels)))
    return found


def _with_images(path: Path, studies: list[Study]) -> list[Study]:
    if found := [study for study in studies if study.series]:
        return found
    raise InputError(
        "found no image series of CT, MR or PET that can be read; expected DICOM images; check the files", file=path
    )


def _channels_and_cases(path: Path, named: Sequence[tuple[str, Study]]) -> tuple[list[Channel], list[Case]]:
    """Return the channels that every study has, and the studies as cases of the ids given."""
    found = choose_channels(path, [study for _, study in named])
    cases = []
    for number, (case_id, study) in enumerate(named):
        images = [_image_file(chosen.series[number]) for chosen in found]
        labels = [label.path for label in study.labels]
        case = build_case(
            path,
            case_id=case_id,
            images=images,
            label=labels[0] if labels else None,
            more_labels=tuple(labels[1:]),
            # Studies whose patient was removed are not thereby of one patient.
            group=study.patient or None,
        )
        cases.append(case)
    return [chosen.channel for chosen in found], cases


def _image_file(series: Series) -> ImageFile:
    if len(series.files) == 1:
        return ImageFile(path=series.files[0])
    folder = common_folder(series.files)
    return ImageFile(path=folder, parts=tuple(relpath(file, folder) for file in series.files))


def _named(studies: Sequence[Study]) -> list[tuple[str, Study]]:
    return list(zip(_case_ids(studies), studies, strict=True))


def _case_ids(studies: Sequence[Study]) -> list[str]:
    """Return an id per study: the patient's; where that is not unique, with the study's date, then with a digest of its UID."""
    patients = [_file_safe(study.patient) or "patient" for study in studies]
    dated = [f"{patient}_{study.date}".rstrip("_") for patient, study in zip(patients, studies, strict=True)]
    full = [f"{name}_{_digest(study)}" for name, study in zip(dated, studies, strict=True)]
    ids = patients
    for longer in (dated, full):
        # Results are files called by these ids, and some file systems do not tell capital from small letters.
        counts = Counter(case_id.casefold() for case_id in ids)
        unique = []
        for case_id, other in zip(ids, longer, strict=True):
            unique.append(other if counts[case_id.casefold()] > 1 else case_id)
        ids = unique
    return ids


def _file_safe(text: str) -> str:
    # Cut so that date and digest still fit into what a case may be called.
    return re.sub(r"[^\w.-]+", "_", text).strip("._-")[:100]


def _digest(study: Study) -> str:
    # With the patient, as an anonymisation may have given one UID to two.
    return hashlib.blake2b(f"{study.patient}\0{study.uid}".encode(), digest_size=4).hexdigest()


def _note_single_patient(folder: Path, studies: Sequence[Study]) -> None:
    patients = {study.patient for study in studies}
    is_known = "" not in patients
    if len(studies) > 1 and len(patients) == 1 and is_known:
        logger.warning(
            "%s: all %d studies are of the patient %s, so that none can be held out for validation; if an anonymisation gave all the "
            "same id, write a manifest",
            folder,
            len(studies),
            studies[0].patient,
        )
