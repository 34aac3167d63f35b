"""Small pictures of the cases that something was found in, drawn in a second pass over them alone."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from tumorseg.errors import InputError
from tumorseg.ops.geometry import orient, orientation_of, spacing_of
from tumorseg.reports.check_page import MOST_THUMBNAILS
from tumorseg.reports.overlays import OverlayInput
from tumorseg.reports.page import Picture
from tumorseg.reports.thumbnails import thumbnail_png
from tumorseg.schema.dataset import Case, DatasetDescription, ImageFile
from tumorseg.schema.findings import CheckReport
from tumorseg.stages.datasets.checking.label import read_label
from tumorseg.stages.opening.each_case import each_case
from tumorseg.stages.opening.reading import expected_bytes
from tumorseg.storage.images import Volume, read_image
from tumorseg.types import Segmentation


class ThumbnailTask(NamedTuple):
    """Input of a worker that draws one case."""

    case: Case
    files: tuple[ImageFile, ...]
    """The channels, the one to be shown first."""
    description: DatasetDescription


def draw_flagged(report: CheckReport, cases: Sequence[Case], jobs: int | None) -> list[Picture]:
    """Return a picture of each case that something was found in, the gravest first; those that can be read, 60 at most."""
    known = {case.case_id: case for case in cases}
    flagged: dict[str, str | None] = {}
    for found in report.findings:
        # A finding about the whole dataset may name thousands.
        for case_id in found.case_ids[:MOST_THUMBNAILS]:
            flagged.setdefault(case_id, found.file)
    chosen = [(known[case_id], file) for case_id, file in flagged.items() if case_id in known][:MOST_THUMBNAILS]
    if report.dataset is None or not chosen:
        return []
    drawn: dict[str, bytes | None] = {}
    each_case(
        draw_case,
        _tasks(chosen, report.dataset),
        drawn.__setitem__,
        num_cases=len(chosen),
        expected_bytes=expected_bytes(case for case, _ in chosen),
        jobs=jobs,
        steps=None,
    )
    pictures = []
    for case, _ in chosen:
        if (png := drawn.get(case.case_id)) is not None:
            pictures.append(Picture(f"{case.case_id}: {_kinds(report, case.case_id)}", png))
    return pictures


def _kinds(report: CheckReport, case_id: str) -> str:
    kinds = dict.fromkeys(found.kind for found in report.findings if case_id in found.case_ids)
    return ", ".join(kind.replace("_", " ") for kind in kinds)


def _tasks(
    chosen: Sequence[tuple[Case, str | None]], description: DatasetDescription
) -> Iterator[tuple[str, ThumbnailTask]]:
    for case, file in chosen:
        # False comes first: the file that something was found in, then those to fall back on.
        files = sorted(case.images, key=lambda image: image.path != file)
        yield case.case_id, ThumbnailTask(case, tuple(files), description)


def draw_case(task: ThumbnailTask) -> bytes | None:
    """Draw the slice with the most foreground of the first channel that can be read; called in a worker process."""
    for file in task.files:
        try:
            volume = read_image(file)
        except InputError:
            continue
        orientation = orientation_of(volume.affine)
        indices = _indices(task, volume)
        reference = None if indices is None else orient(indices, orientation)
        image = orient(volume.array, orientation)
        return thumbnail_png(OverlayInput(task.case.case_id, image, spacing_of(volume.affine, orientation), reference))
    return None


def _indices(task: ThumbnailTask, volume: Volume) -> Segmentation | None:
    """Return the label as numbers of colours from 1, if it fits the image; values that are not known get the next colour."""
    if task.case.label is None:
        return None
    try:
        label = read_label(task.case, task.description, volume)
    except InputError:
        return None
    if label.array.shape != volume.array.shape:
        return None
    values = sorted(value for value in task.description.labels.values() if value != 0)
    places = np.searchsorted(values, label.array)
    # What is above all values is placed behind the last one; the 0 stands there, and 0 is background anyway.
    is_known = np.append(values, 0)[places] == label.array
    colours = np.where(is_known, places + 1, len(values) + 1)
    return np.where(label.array == 0, 0, colours).astype(np.int16)
