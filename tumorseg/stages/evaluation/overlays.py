"""Cases with their reference and a segmentation, as pictures and for the viewer."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from tumorseg.errors import InputError
from tumorseg.ops.geometry import orient, oriented_affine, spacing_of
from tumorseg.ops.matching.channels import meaning_of
from tumorseg.reports.overlays import OverlayInput, overlay_png
from tumorseg.reports.results.volumes import ViewerInput
from tumorseg.schema.cases import reading_of
from tumorseg.schema.dataset import Case, DatasetDescription, ImageFile
from tumorseg.schema.targets import Targets, targets_of
from tumorseg.stages.evaluation.case_scoring import PairRead, ScoreTask, Scoring, read_pair
from tumorseg.stages.opening.case_grids import grid_fault, way_onto
from tumorseg.storage.images import read_image
from tumorseg.types import FloatArray, Segmentation

BRIGHT = "T1, with contrast"
"""What the channel shows in which a tumour's rim is bright."""
MOST_NAMES = 255
"""Structures that eight bits tell apart."""


def case_overlay(dataset: DatasetDescription, case: Case, prediction: Path) -> bytes:
    """Draw a case as PNG; of its channels the one in which a tumour's rim is bright, or the first.

    Raises:
        InputError: a file cannot be read, or they do not lie on one grid.
    """
    scoring = Scoring(targets_of(dataset), reading=reading_of(dataset))
    task = ScoreTask(case.case_id, (str(prediction),), case.label_files, scoring)
    return overlay_of(read_shown(task, case.images[_number(_names(dataset))]))


def shown_images(cases: Iterable[Case], channels: Sequence[str]) -> dict[str, ImageFile]:
    """Return the image on which each case is shown, as far as it is there.

    Args:
        cases: of a dataset.
        channels: their names; the first is shown where they are not known.
    """
    number = _number(channels)
    found = {case.case_id: case.images[number] for case in cases if len(case.images) > number}
    # A dataset may serve for its labels alone, and its images be elsewhere.
    return {case_id: file for case_id, file in found.items() if os.path.lexists(file.path)}


def _names(dataset: DatasetDescription) -> list[str]:
    return [channel.name for channel in dataset.channels]


def _number(channels: Sequence[str]) -> int:
    shown = list(map(meaning_of, channels))
    return shown.index(BRIGHT) if BRIGHT in shown else 0


def overlay_of(shown: ViewerInput) -> bytes:
    """Draw a case that has been read, in canonical orientation, as PNG."""
    return overlay_png(
        OverlayInput(
            case_id=shown.case_id,
            image=shown.image,
            spacing_mm=spacing_of(shown.affine),
            reference=shown.reference,
            prediction=shown.prediction,
            class_names=shown.class_names,
        )
    )


def read_shown(task: ScoreTask, image: ImageFile) -> ViewerInput:
    """Read what is shown of a case, in canonical orientation.

    Args:
        task: its prediction and its reference, and how they are read.
        image: on whose channel they are shown.

    Raises:
        InputError: a file cannot be read, they do not lie on one grid, or there are too many structures to tell apart.
    """
    targets = task.scoring.targets
    if (count := len(targets.scored_names)) > MOST_NAMES:
        raise InputError(f"found {count} structures, expected at most {MOST_NAMES} to tell apart", case_id=task.case_id)
    pair = read_pair(task)
    array = _on_reference(task, image, pair)
    affine, orientation = pair.volume.affine, pair.orientation
    return ViewerInput(
        case_id=task.case_id,
        image=orient(array, orientation),
        affine=oriented_affine(affine, array.shape, orientation),
        reference=orient(_painted(pair.reference, targets), orientation),
        prediction=orient(_painted(pair.prediction, task.scoring.predicted_targets), orientation),
        class_names=("background", *targets.scored_names),
    )


def _on_reference(task: ScoreTask, image: ImageFile, pair: PairRead) -> FloatArray:
    """Return an image (Z, Y, X) float32 with its axes as the reference's are stored.

    Raises:
        InputError: it cannot be read, or lies elsewhere.
    """
    reading = task.scoring.reading
    volume = read_image(image, reading.assumed_orientation)
    orientation = way_onto(volume, pair.volume, reading=reading)
    if orientation is None:
        fault = grid_fault(volume, pair.volume, reading=reading)
        raise InputError(f"{image.path} does not lie on {task.reference[0]}: {fault}", case_id=task.case_id)
    return orient(volume.array, orientation)


def _painted(indices: Segmentation, targets: Targets) -> Segmentation:
    """Return what is scored as one class each (Z, Y, X) uint8; of what overlaps, the whole first and its parts on top."""
    painted = np.zeros(indices.shape, np.uint8)
    numbered = list(enumerate(targets.scored_classes, start=1))
    for number, classes in sorted(numbered, key=lambda item: -len(item[1])):
        painted[np.isin(indices, classes)] = number
    return painted
