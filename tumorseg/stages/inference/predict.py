"""Segment cases with a trained model, each result in its input's own geometry."""

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tumorseg.errors import InputError, StorageError
from tumorseg.ops.geometry import orient, orientation_of, spacing_of, stored_orientation
from tumorseg.schema.base import Record, content_hash
from tumorseg.schema.dataset import Case
from tumorseg.sources.inputs import Inputs, open_inputs
from tumorseg.stages.inference.intensities import check_intensities
from tumorseg.stages.inference.method import (
    AS_PLANNED,
    METHOD_VERSION,
    PredictOptions,
    is_mirrored,
    method_hash,
    reading_for,
)
from tumorseg.stages.inference.models import Model, known_file, known_previous, load_model, segment
from tumorseg.stages.inference.predictions import PredictionFolder, Predictions
from tumorseg.stages.opening.devices import choose_device
from tumorseg.stages.opening.loaded import failed_cases
from tumorseg.stages.opening.reading import CaseImage, read_case_image, warn_of_forms
from tumorseg.stages.opening.stated import Stated
from tumorseg.storage.atomic import require_writable
from tumorseg.storage.formats.stored import NIFTI_ENDINGS
from tumorseg.storage.hashing import FileState, case_files, check_unchanged, combine_hashes, hash_files
from tumorseg.storage.images import ENDINGS, read_geometry, write_segmentation
from tumorseg.storage.locks import hold_folder
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
    """Folder for `<case_id>.nii.gz`; or, for one case, a file that ends in .nii.gz or .nii."""
    folds: tuple[str, ...] = ()
    """Folds of a model folder; all if empty."""
    mirroring: bool | None = None
    """Whether mirrored views are averaged; as the plan says if None."""
    device: str | None = None
    """The best there is if None."""
    stated: Stated = Stated()
    """What is stated of files that leave it open; as the plan says if nothing."""


class Predicted(NamedTuple):
    """What was written."""

    output: Path
    files: dict[str, Path]
    """By case_id; those of cases that failed may not be there."""
    left_alone: tuple[str, ...] = ()
    """Cases that were done already."""
    failures: tuple[Failure, ...] = ()
    """Cases that failed."""


def predict(request: PredictRequest) -> Predicted:
    """Segment every case; those that were already segmented in the same way, and whose files are the same, are left alone.

    Raises:
        InputError: inputs are not there or have other channels than the model's, or a result would take the place of another file.
        PlanError: no such model.
        StorageError: another process writes into the folder now.
        TumorsegError: cases failed; all are listed, and the others are written.
    """
    options = PredictOptions(request.mirroring, request.stated.assumed_orientation)
    if _is_file(request.output):
        return _predict_into_file(*_open(request), request.output, options=options)
    with hold_folder(request.output.resolve(), doing="written to", error=StorageError):
        model, found = _open(request)
        made = predict_cases(model, found.cases, request.output, options=options)
    if failures := [*found.refused, *made.failures]:
        raise failed_cases(failures, len(found.cases) + len(found.refused), "prediction")
    return made


def _is_file(output: Path) -> bool:
    """Return whether a result is to be one file, which must not be there yet, rather than a folder."""
    expected = f"expected a folder, or for one case a new file that ends in {' or '.join(NIFTI_ENDINGS)}"
    is_image, is_mask = (output.name.lower().endswith(endings) for endings in (ENDINGS, NIFTI_ENDINGS))
    if is_image and not is_mask:
        raise InputError(f"-o {output}: masks are written as NIfTI; {expected}; give another name")
    if is_mask and output.is_dir():
        raise InputError(
            f"-o {output}: is a folder with the name of a file; {expected}; rename it, or give another name"
        )
    if os.path.lexists(output) and not output.is_dir():
        raise InputError(f"-o {output}: is there already; {expected}; move it elsewhere, or give another name")
    return is_mask


def _open(request: PredictRequest) -> tuple[Model, Inputs]:
    model = load_model(request.models, choose_device(request.device), request.folds)
    channels = model.plan.dataset.channels
    names, kinds = [channel.name for channel in channels], [channel.kind for channel in channels]
    return model, open_inputs(request.inputs, names, kinds, allow_outside=request.stated.allow_outside)


def _predict_into_file(model: Model, found: Inputs, output: Path, *, options: PredictOptions) -> Predicted:
    names = [*(case.case_id for case in found.cases), *(failure.case_id for failure in found.refused)]
    if len(names) != 1:
        raise InputError(
            f"-o {output}: is one file, and the inputs are {len(names)} cases ({', '.join(names[:5])}); give one case, or a folder to -o"
        )
    if found.refused:
        raise failed_cases([*found.refused], 1, "prediction")
    case = _unlabelled(found.cases[0])
    states = hash_files(_files_of(model, case))

    def before_writing() -> None:
        _check_unchanged(model, case, states)
        _is_file(output)  # still not there

    require_writable(output.parent)
    _segment_file(model, case, output, options=options, before_writing=before_writing)
    return Predicted(output, {case.case_id: output})


def predict_cases(
    model: Model,
    cases: Sequence[Case],
    output: Path,
    *,
    options: PredictOptions = AS_PLANNED,
    stale: Sequence[Path] = (),
) -> Predicted:
    """Segment cases into a folder that the caller holds. A case that fails leaves the others alone.

    Args:
        model: the networks and their plan.
        cases: what to segment; labels are not looked at.
        output: the folder.
        options: how.
        stale: files that are no longer true once a mask has changed, to be removed then.

    Raises:
        InputError: the folder holds inputs, files that are no results, or a record that cannot be read.
    """
    _check_apart(cases, output)
    folder = PredictionFolder(output, _made_by(model, options), stale)
    files = {case.case_id: folder.mask(case.case_id) for case in cases}
    folder.check_names(files)
    folder.remove_leftovers(files)
    if others := folder.of_others(files):
        logger.warning(
            "%s holds masks of %d other cases too, which another model or other options made: %s",
            output,
            len(others),
            ", ".join(others[:5]),
        )
    left_alone, failures = [], []
    update = partial(_update, model, folder, options)
    with progress("predict", len(cases)) as advance:
        for case in cases:
            outcome = attempt(update, case.case_id, case)
            if isinstance(outcome, Failure):
                log_failure(outcome)
                failures.append(outcome)
            elif not outcome.value:
                left_alone.append(case.case_id)
            advance(case.case_id)
    return Predicted(output, files, tuple(left_alone), tuple(failures))


def _check_apart(cases: Sequence[Case], output: Path) -> None:
    """Refuse to write among inputs."""
    for case in cases:
        for path in (*case_files(_unlabelled(case)), *case.label_files):
            if Path(path).resolve().parent == output.resolve():
                raise InputError(f"{output} holds {path}, an input of case {case.case_id}; give another -o")


def _unlabelled(case: Case) -> Case:
    return case.model_copy(update={"label": None, "more_labels": ()})


def _made_by(model: Model, options: PredictOptions) -> Predictions:
    return Predictions(
        method_hash=_method(model, options),
        method_version=METHOD_VERSION,
        plan=model.plan.name,
        weight_hashes=model.weight_hashes,
        mirroring=is_mirrored(model.configuration, options.mirroring),
        reading=reading_for(model.plan, options),
    )


def _method(model: Model, options: PredictOptions) -> str:
    previous = _method(model.previous, options) if isinstance(model.previous, Model) else None
    weights = model.weight_hashes
    return method_hash(model.plan, model.configuration, weights=weights, options=options, previous=previous)


def _update(model: Model, folder: PredictionFolder, options: PredictOptions, case: Case) -> bool:
    """Bring the mask of a case up to date; return whether there was anything to do."""
    case = _unlabelled(case)
    states = hash_files(_files_of(model, case))
    input_hash = _input_hash(model, case, states)
    if folder.is_done(case.case_id, input_hash):
        return False

    def before_writing() -> None:
        _check_unchanged(model, case, states)
        folder.is_done(case.case_id, input_hash)  # a mask that was edited meanwhile is refused
        folder.begin(case.case_id)

    _segment_file(model, case, folder.mask(case.case_id), options=options, before_writing=before_writing)
    folder.finish(case.case_id, input_hash)
    return True


def _files_of(model: Model, case: Case) -> list[str]:
    """Return all files that a mask is made of."""
    shown = known_file(model, case.case_id)
    return [*case_files(case), *([] if shown is None else [str(shown)])]


def _input_hash(model: Model, case: Case, states: Mapping[str, FileState]) -> str:
    hashes = {path: state.digest for path, state in states.items()}
    found, shown = combine_hashes(case, hashes), known_file(model, case.case_id)
    return found if shown is None else content_hash([found, hashes[str(shown)]])


def _check_unchanged(model: Model, case: Case, states: Mapping[str, FileState]) -> None:
    """Refuse a case whose files are no longer those that were hashed."""
    if set(_files_of(model, case)) != states.keys():  # a folder of DICOM that is still being filled
        raise InputError(f"case {case.case_id}: files came or went while it was segmented; give the command again")
    check_unchanged(states)


def _segment_file(
    model: Model, case: Case, path: Path, *, options: PredictOptions, before_writing: Callable[[], None]
) -> None:
    """Segment a case without a label into a file; `before_writing` may still refuse."""
    warn_of_forms(case)
    if options.assumed_orientation is None:
        _warn_of_planned_orientation(model, case)
    is_stored = model.plan.orientation == "as_stored"
    reading = reading_for(model.plan, options)
    found = read_case_image(case, reading, transpose=model.plan.transpose, as_stored=is_stored)
    check_intensities(model.plan, case.case_id, found)
    previous = known_previous(model, case, found)
    segmentation = segment(model, found, mirroring=options.mirroring, previous=previous)
    before_writing()
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
        mirroring: whether mirrored views are averaged, by a cascade's previous model too; as each one's plan says if None.

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
    return segment(model, found, mirroring=mirroring)
