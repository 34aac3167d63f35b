"""Segment cases with a trained model, each result in its input's own geometry."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tumorseg.errors import InputError
from tumorseg.ops.geometry import orient, orientation_of, spacing_of, stored_orientation
from tumorseg.schema.base import Record
from tumorseg.schema.cases import CaseReading, reading_of
from tumorseg.schema.dataset import Case
from tumorseg.sources.inputs import open_inputs
from tumorseg.stages.devices import choose_device
from tumorseg.stages.inference import Model, known_previous, load_model, segment
from tumorseg.stages.intensities import check_intensities
from tumorseg.stages.planned import failed_cases
from tumorseg.stages.reading import CaseImage, read_case_image, warn_of_forms
from tumorseg.stages.stated import Stated
from tumorseg.storage.hashing import case_files, combine_hashes, hash_files
from tumorseg.storage.images import read_geometry, write_segmentation
from tumorseg.storage.json_files import read_record, write_record
from tumorseg.storage.layout import PREDICTIONS
from tumorseg.tracking.progress import progress
from tumorseg.types import Affine, Image, Segmentation
from tumorseg.workers.outcomes import Failure, attempt, log_failure

logger = logging.getLogger(__name__)


class PredictRequest(Record):
    """What `predict` is asked for."""

    models: tuple[Path, ...]
    """Model folders or folds' folders, all of one model."""
    inputs: tuple[Path, ...]
    """Files, folders of cases in any layout, or manifests."""
    output: Path
    """Folder for `<case_id>.nii.gz`."""
    folds: tuple[str, ...] = ()
    """Folds of a model folder; all if empty."""
    mirroring: bool | None = None
    """Whether mirrored views are averaged; as the plan says if None."""
    device: str | None = None
    """The best there is if None."""
    stated: Stated = Stated()
    """What is stated of files that leave it open; as the plan says if nothing."""


class Predictions(Record):
    """Which model made the predictions in a folder, and of which inputs."""

    weight_hashes: tuple[str, ...]
    """Of the checkpoints, those of a cascade's previous model included."""
    mirroring: bool
    """Whether mirrored views were averaged."""
    reading: CaseReading = CaseReading()
    """What was done where files leave open how they are read."""
    cases: dict[str, str]
    """Hash of each case's input files by case_id."""
    begun: tuple[str, ...] = ()
    """Every case that was asked for here, noted before the first is written: whose files may be replaced."""


class Predicted(NamedTuple):
    """What was written."""

    output: Path
    files: dict[str, Path]
    """By case_id."""


def predict(request: PredictRequest) -> Predicted:
    """Segment every case; those that this model already segmented, and whose files are the same, are left alone.

    Raises:
        InputError: inputs are not there or have other channels than the model's.
        PlanError: no such model.
        TumorsegError: cases failed; all are listed, and the others are written.
    """
    model = load_model(request.models, choose_device(request.device), request.folds)
    channels = model.plan.dataset.channels
    names, kinds = [channel.name for channel in channels], [channel.kind for channel in channels]
    found = open_inputs(request.inputs, names, kinds, allow_outside=request.stated.allow_outside)
    mirroring = model.configuration.inference.mirroring if request.mirroring is None else request.mirroring
    orientation = request.stated.assumed_orientation
    options = PredictOptions(mirroring, orientation)
    return predict_cases(model, found.cases, request.output, options=options, refused=found.refused)


class PredictOptions(NamedTuple):
    """How cases are segmented."""

    mirroring: bool
    """Whether mirrored views are averaged."""
    assumed_orientation: str | None = None
    """Orientation of files that state none; as the plan says if None."""


def predict_cases(
    model: Model, cases: Sequence[Case], output: Path, *, options: PredictOptions, refused: Sequence[Failure] = ()
) -> Predicted:
    """Segment cases into a folder.

    Args:
        model: the networks and their plan.
        cases: what to segment.
        output: the folder.
        options: how.
        refused: cases that failed already, when they were looked for.

    Raises:
        InputError: a result would take the place of an input.
        TumorsegError: cases failed; all are listed, and the others are written.
    """
    files = {case.case_id: output / f"{case.case_id}.nii.gz" for case in cases}
    before = (
        read_record(Predictions, output / PREDICTIONS, error=InputError) if (output / PREDICTIONS).is_file() else None
    )
    _check_replaceable(cases, files, output, before)
    begun = tuple(sorted({*files, *(before.begun if before else ())}))
    reading = _reading(model, options)
    made_by = (model.weight_hashes, options.mirroring, reading)
    is_same = before is not None and (before.weight_hashes, before.mirroring, before.reading) == made_by
    done = dict(before.cases) if before is not None and is_same else {}
    failures = list(refused)

    def note() -> None:
        weights, mirroring, read = made_by
        made = Predictions(weight_hashes=weights, mirroring=mirroring, reading=read, cases=done, begun=begun)
        write_record(output / PREDICTIONS, made)

    def work(case: Case) -> None:
        states = hash_files(case_files(case))
        found = combine_hashes(case, {path: state[2] for path, state in states.items()})
        if done.get(case.case_id) == found and files[case.case_id].is_file():
            return
        _predict_file(model, case, files[case.case_id], options=options)
        done[case.case_id] = found
        note()

    if not is_same or begun != (before.begun if before else ()):
        note()
    with progress("predict", len(cases)) as advance:
        for case in cases:
            outcome = attempt(work, case.case_id, case)
            if isinstance(outcome, Failure):
                log_failure(outcome)
                failures.append(outcome)
            advance(case.case_id)
    if failures:
        raise failed_cases(failures, len(cases) + len(refused), "prediction")
    return Predicted(output, files)


def _check_replaceable(
    cases: Sequence[Case], files: Mapping[str, Path], output: Path, before: Predictions | None
) -> None:
    """Refuse to write among inputs, or over any file that did not come from here."""
    for case in cases:
        for path in case_files(case):
            if Path(path).resolve().parent == output.resolve():
                raise InputError(f"{output} holds {path}, an input of case {case.case_id}; give another -o")
    known = set(before.begun) if before else set()
    if found := [path for case_id, path in files.items() if case_id not in known and path.exists()]:
        raise InputError(
            f"{found[0]} is there already and no result of predict ({PREDICTIONS} does not name it); give another -o"
        )


def _reading(model: Model, options: PredictOptions) -> CaseReading:
    """Return how files are read: as the command says, else as the plan says."""
    planned = reading_of(model.plan.dataset)
    orientation = options.assumed_orientation or planned.assumed_orientation
    return planned.model_copy(update={"assumed_orientation": orientation})


def _predict_file(model: Model, case: Case, path: Path, *, options: PredictOptions) -> None:
    is_stored = model.plan.orientation == "as_stored"
    unlabelled = case.model_copy(update={"label": None, "more_labels": ()})
    warn_of_forms(unlabelled)
    if options.assumed_orientation is None:
        _warn_of_planned_orientation(model, case)
    found = read_case_image(unlabelled, _reading(model, options), transpose=model.plan.transpose, as_stored=is_stored)
    check_intensities(model.plan, case.case_id, found)
    segmentation = segment(model, found, mirroring=options.mirroring, previous=known_previous(model, case, found))
    write_segmentation(path, segmentation, like=case.images[found.grid], affine=found.affine)


def _warn_of_planned_orientation(model: Model, case: Case) -> None:
    """Tell of files that state no orientation and get the plan's: they need not be of the planned dataset's kind."""
    planned = model.plan.dataset.reading.assumed_orientation
    if planned is None:
        return
    for path in dict.fromkeys(file.path for file in case.images):
        if not read_geometry(path, planned).is_placed:
            logger.warning(
                "case %s: %s states no orientation; %s is assumed, as the plan says; --assume-orientation CODE states another",
                case.case_id,
                path,
                planned,
            )


def predict_array(model: Model, image: Image, affine: Affine, *, mirroring: bool | None = None) -> Segmentation:
    """Segment an array.

    Args:
        model: as from `load_model`.
        image: (C, Z, Y, X), channels in the plan's order.
        affine: (4, 4), voxels (x, y, z) to RAS+ mm.
        mirroring: whether mirrored views are averaged; as the plan says if None.

    Returns:
        Label values (Z, Y, X) on the image's own grid.

    Raises:
        InputError: shape, channels or affine are not what the model needs.
    """
    if image.ndim != 4:
        raise InputError(f"the image has {image.ndim} axes; expected (C, Z, Y, X)")
    if not np.isfinite(image).all():
        raise InputError("the image has voxels that are NaN or infinite; expected finite intensities")
    transpose = model.plan.transpose
    as_stored = model.plan.orientation == "as_stored"
    orientation = stored_orientation(transpose) if as_stored else orientation_of(affine, transpose)
    oriented = np.ascontiguousarray(orient(image.astype(np.float32), orientation))
    found = CaseImage(oriented, spacing_of(affine, orientation), orientation, affine, image.shape[1:])
    check_intensities(model.plan, "array", found)
    planned = model.configuration.inference.mirroring
    return segment(model, found, mirroring=planned if mirroring is None else mirroring)
