"""Segment cases into a folder of predictions, which says what is done."""

import logging
from collections.abc import Collection, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from tumorseg.errors import InputError
from tumorseg.schema.dataset import Case
from tumorseg.stages.inference.case_inputs import (
    HashedCase,
    check_inputs,
    hash_inputs,
    read_inputs,
    unlabelled,
)
from tumorseg.stages.inference.method import (
    AS_PLANNED,
    METHOD_VERSION,
    PredictOptions,
    is_mirrored,
    method_hash,
    reading_for,
)
from tumorseg.stages.inference.predictions import PredictionFolder, Predictions
from tumorseg.stages.inference.segment_case import segment_case
from tumorseg.stages.inference.trained_model import Model
from tumorseg.stages.opening.reading import CaseImage
from tumorseg.storage.hashing import case_files
from tumorseg.storage.images import write_segmentation
from tumorseg.tracking.progress import progress
from tumorseg.types import Segmentation
from tumorseg.workers.outcomes import Failure, Outcome, Success, attempt, log_failure

logger = logging.getLogger(__name__)


class Predicted(NamedTuple):
    """Result of a prediction."""

    output: Path
    files: dict[str, Path]
    """By case_id; those of cases that failed may not be there."""
    left_alone: tuple[str, ...] = ()
    """Cases that were done already."""
    failures: tuple[Failure, ...] = ()
    """Cases that failed."""


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
    _warn_of_others(folder, files)
    update = partial(_update, model, folder, options)
    outcomes: list[Outcome[bool]] = []
    with progress("predict", len(cases)) as advance:
        for case in cases:
            outcome = attempt(update, case.case_id, case)
            if isinstance(outcome, Failure):
                log_failure(outcome)
            outcomes.append(outcome)
            advance(case.case_id)
    failures = tuple(outcome for outcome in outcomes if isinstance(outcome, Failure))
    left_alone = tuple(done.case_id for done in outcomes if isinstance(done, Success) and not done.value)
    return Predicted(output, files, left_alone, failures)


def _update(model: Model, folder: PredictionFolder, options: PredictOptions, case: Case) -> bool:
    """Bring the mask of a case up to date; return whether there was anything to do.

    Reading, computing and writing share nothing but what each hands on, so that those of different cases may overlap.
    """
    hashed = hash_inputs(model, case)
    if folder.is_done(case.case_id, hashed.input_hash):
        return False
    found, previous = read_inputs(model, hashed.case, options)
    segmentation = segment_case(model, found, mirroring=options.mirroring, previous=previous)
    check_inputs(model, hashed)
    _write(folder, hashed, found, segmentation)
    return True


def _write(folder: PredictionFolder, hashed: HashedCase, found: CaseImage, segmentation: Segmentation) -> None:
    case = hashed.case
    folder.is_done(case.case_id, hashed.input_hash)  # a mask that was edited meanwhile is refused
    folder.begin(case.case_id)
    write_segmentation(folder.mask(case.case_id), segmentation, like=case.images[found.grid], affine=found.affine)
    folder.finish(case.case_id, hashed.input_hash)


def _check_apart(cases: Sequence[Case], output: Path) -> None:
    """Refuse to write among inputs."""
    for case in cases:
        for path in (*case_files(unlabelled(case)), *case.label_files):
            if Path(path).resolve().parent == output.resolve():
                raise InputError(f"{output} holds {path}, an input of case {case.case_id}; give another -o")


def _warn_of_others(folder: PredictionFolder, case_ids: Collection[str]) -> None:
    if others := folder.of_others(case_ids):
        logger.warning(
            "%s holds masks of %d other cases too, which another model or other options made: %s",
            folder.root,
            len(others),
            ", ".join(others[:5]),
        )


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
    previous = None if model.previous_model is None else _method(model.previous_model, options)
    weights = model.weight_hashes
    return method_hash(model.plan, model.configuration, weights=weights, options=options, previous=previous)
