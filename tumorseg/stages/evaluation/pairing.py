"""Which prediction belongs to which reference."""

import logging
import os
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from tumorseg.errors import InputError
from tumorseg.schema.dataset import Case
from tumorseg.sources.inputs import Segmentations
from tumorseg.stages.evaluation.scoring import Pair
from tumorseg.stages.opening.loaded import failed_cases
from tumorseg.workers.outcomes import Failure

logger = logging.getLogger(__name__)


class Paired(NamedTuple):
    """Predictions beside their references."""

    pairs: Mapping[str, Pair]
    """By case_id; a prediction that is not there has no file."""
    refused: tuple[Failure, ...]
    """Cases of which either side cannot be used; they may be among the pairs."""
    cases: Mapping[str, Case]
    """Case id to what the references' dataset or manifest says of it."""


def pair_up(predictions: Segmentations, references: Segmentations) -> Paired:
    """Pair by case_id; one prediction and one reference belong together whatever they are called.

    Raises:
        InputError: no two belong together.
        TumorsegError: every reference is refused.
    """
    predictions = _with_references(_there(predictions), references)
    pairs = _pair(predictions, references)
    refused = (*predictions.refused, *references.refused)
    if not pairs:
        raise failed_cases(list(refused), len(references.refused), "evaluation")
    return Paired(pairs, refused, references.cases)


def _there(predictions: Segmentations) -> Segmentations:
    """Leave out predictions that were named and are not there: they are missing, not damaged."""
    found = {case_id: files for case_id, files in predictions.files.items() if all(map(os.path.lexists, files))}
    if gone := sorted(predictions.files.keys() - found.keys()):
        logger.warning("%d predictions are not there: %s", len(gone), some_of(gone))
    return predictions._replace(files=found)


def _with_references(predictions: Segmentations, references: Segmentations) -> Segmentations:
    """Leave out refused predictions that no reference belongs to, unless one lacks its prediction: that may be it, badly named."""
    if not references.files.keys() <= predictions.files.keys():
        return predictions
    wanted = {*references.files, *(failure.case_id for failure in references.refused)}
    kept = tuple(failure for failure in predictions.refused if failure.case_id in wanted)
    for failure in predictions.refused:
        if failure not in kept:
            logger.warning("prediction %s has no reference and is not scored; %s", failure.case_id, failure.message)
    return predictions._replace(refused=kept)


def _pair(found: Segmentations, references: Segmentations) -> dict[str, Pair]:
    predictions = found.files
    if len(predictions) == len(references.files) == 1 and not (found.refused or references.refused):
        ((case_id, reference),) = references.files.items()
        if case_id not in predictions:
            logger.warning("prediction %s is scored against reference %s", some_of(predictions), case_id)
        return {case_id: (next(iter(predictions.values())), reference)}
    known = {*predictions, *(failure.case_id for failure in found.refused)}
    if known and references.files and known.isdisjoint(references.files):
        raise InputError(
            f"no prediction has the case_id of a reference: predictions are {some_of(sorted(known))}, references "
            f"{some_of(references.files)}"
        )
    referenced = {*references.files, *(failure.case_id for failure in references.refused)}
    if extra := sorted(predictions.keys() - referenced):
        logger.warning("%d predictions have no reference and are not scored: %s", len(extra), some_of(extra))
    return {case_id: (predictions.get(case_id, ()), reference) for case_id, reference in references.files.items()}


def some_of(names: Iterable[str]) -> str:
    """Return the first names of many, for a message."""
    listed = list(names)
    return ", ".join(listed[:5]) + (", …" if len(listed) > 5 else "")
