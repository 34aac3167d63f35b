"""The studies, series and labels that the headers of DICOM files tell of."""

import logging
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from tumorseg.errors import InputError
from tumorseg.sources.folders import note_or_warn
from tumorseg.storage.dicom.files import DIRECTORY_CLASS, IMAGE_CLASSES, LABEL_CLASSES
from tumorseg.storage.dicom.headers import Header, read_headers
from tumorseg.storage.dicom.labels import LabelSummary, summarize_label

logger = logging.getLogger(__name__)

SAME_DIRECTION = 0.02
"""How far the directions of two planes of a volume may differ; a localizer's differ by 1."""


class Series(NamedTuple):
    """One image series."""

    uid: str
    modality: str
    description: str
    frame_of_reference: str
    units: str
    files: tuple[str, ...]
    """In the order of their names."""


class Label(NamedTuple):
    """One SEG or RTSTRUCT file."""

    path: str
    names: tuple[str, ...]
    series: frozenset[str]
    """UIDs of those series of its study that it was drawn on."""


class Study(NamedTuple):
    """The image series of one study of one patient, and what was drawn on them."""

    patient: str
    """Empty where it was removed."""
    uid: str
    date: str
    series: tuple[Series, ...]
    labels: tuple[Label, ...]


_Key = tuple[str, str]
"""Patient and study UID: two patients are never one case, whatever an anonymisation did to UIDs."""


class _Found(NamedTuple):
    """The headers in a folder by what they are of."""

    images: dict[tuple[_Key, str], list[Header]]
    """By study and series UID."""
    labels: list[Header]
    damaged: list[str]
    """Files."""
    others: Counter[str]
    """What is neither, by kind."""


def find_studies(path: Path) -> list[Study]:
    """Read the headers in and below a folder, or of one file, once.

    What is no volume (localizers, reports, doses, pictures) is left out. A damaged file is counted to every series beside it, so that
    their cases fail rather than lose a slice.

    Raises:
        InputError: a folder cannot be read.
    """
    found = _sort_headers(read_headers(path))
    folders: set[Path] = set()
    for headers in found.images.values():
        folders.update(Path(header.path).parent for header in headers)
    for file in found.damaged:
        if Path(file).parent not in folders:
            note_or_warn(f"{file}: is damaged and lies beside no series; it is left out; restore it")
    if found.others:
        listed = ", ".join(f"{name} ({count})" for name, count in sorted(found.others.items()))
        logger.info("%s: files that are no volumes of CT, MR or PET are left out: %s", path, listed)
    series: dict[_Key, list[Series]] = {}
    for (key, _), headers in found.images.items():
        if (reason := _why_no_volume(headers)) is None:
            series.setdefault(key, []).append(_series(headers, found.damaged))
        else:
            logger.info("%s: series %s is left out: %s", path, _called(headers[0]), reason)
    attached = _attach(found.labels, series)
    # The date of the images counts, as a label that was drawn later may state its own day.
    dates = {(header.patient, header.study): header.date for header in found.labels}
    dates |= {key: headers[0].date for (key, _), headers in found.images.items()}
    studies = []
    for key in sorted({*series, *attached}):
        patient, uid = key
        studies.append(Study(patient, uid, dates[key], tuple(series.get(key, ())), tuple(attached.get(key, ()))))
    return studies


def _sort_headers(headers: Iterable[Header]) -> _Found:
    found = _Found({}, [], [], Counter())
    for header in headers:
        if header.sop_class in IMAGE_CLASSES and not header.is_localizer:
            key = (header.patient, header.study)
            found.images.setdefault((key, header.series), []).append(header)
        elif header.sop_class in LABEL_CLASSES:
            found.labels.append(header)
        elif not header.sop_class:
            found.damaged.append(header.path)
        elif header.sop_class != DIRECTORY_CLASS:
            # A disc's table of contents is not told, for every disc has one.
            kind = "localizer" if header.is_localizer else header.modality
            found.others[kind or header.sop_class] += 1
    return found


def _called(header: Header) -> str:
    return f"{header.modality} {header.description or header.series}"


def _why_no_volume(headers: Sequence[Header]) -> str | None:
    """Return why a series cannot be a stack of planes, or None."""
    # One plane with a place is enough: if others have none, the case is to fail rather than to be passed over.
    if not any(header.is_located for header in headers):
        return "its planes do not say where they lie"
    directions = [header.orientation for header in headers if header.orientation]
    if any(_differ(direction, directions[0]) for direction in directions):
        return "its planes are not parallel, as in a localizer"
    return None


def _differ(a: Sequence[float], b: Sequence[float]) -> bool:
    return len(a) != len(b) or max(abs(x - y) for x, y in zip(a, b, strict=True)) > SAME_DIRECTION


def _series(headers: Sequence[Header], damaged: Iterable[str]) -> Series:
    first = headers[0]
    folders = {Path(header.path).parent for header in headers}
    beside = [path for path in damaged if Path(path).parent in folders]
    units = sorted({header.units for header in headers})
    files = tuple(sorted([*(header.path for header in headers), *beside]))
    return Series(first.series, first.modality, first.description, first.frame_of_reference, " and ".join(units), files)


def _attach(labels: Iterable[Header], series: dict[_Key, list[Series]]) -> dict[_Key, list[Label]]:
    """Return each study's labels; where there are no images at all, labels stay with their own studies."""
    places: dict[str, list[_Key]] = {}
    for key, members in series.items():
        for one in members:
            places.setdefault(one.uid, []).append(key)
    attached: dict[_Key, list[Label]] = {}
    for header in labels:
        own = (header.patient, header.study)
        study: _Key | None
        try:
            summary = summarize_label(header.path)
            study, drawn_on = _drawn_on(own, summary, series, places=places)
        except InputError as error:  # fails with its case
            logger.warning("%s", error)
            summary, study, drawn_on = LabelSummary((), (), ()), own if own in series else None, frozenset()
        if study is None and series:
            note_or_warn(f"{header.path}: the image of its patient that it was drawn on is not here; it is left out")
        else:
            attached.setdefault(study or own, []).append(Label(header.path, summary.names, drawn_on))
    return attached


def _may_be_of_one(study: _Key, other: _Key) -> bool:
    """Tell whether two studies may be of one patient: by the same id, or where one was removed."""
    return not study[0] or not other[0] or study[0] == other[0]


def _drawn_on(
    own: _Key, summary: LabelSummary, series: dict[_Key, list[Series]], *, places: dict[str, list[_Key]]
) -> tuple[_Key | None, frozenset[str]]:
    """Return the study of the series that a label names; else, in its own study, the only one that shares its world."""
    named: dict[_Key, set[str]] = {}
    for uid in summary.series:
        for key in places.get(uid, ()):
            # An anonymisation may have given one UID to two patients: a label never goes to the other one.
            if _may_be_of_one(key, own):
                named.setdefault(key, set()).add(uid)
    if own in named or len(named) == 1:
        chosen = own if own in named else next(iter(named))
        return chosen, frozenset(named[chosen])
    known = summary.frames_of_reference
    near = []
    for one in series.get(own, ()):
        # Where either side states no frame of reference, nothing speaks against it.
        if not known or not one.frame_of_reference or one.frame_of_reference in known:
            near.append(one.uid)
    # Among several the label would be a guess; without one it is left out and told.
    return (own, frozenset(near)) if len(near) == 1 else (None, frozenset())
