"""Cases that every candidate can be scored on: each has a fold that was trained neither on the case nor on others of its patient."""

import logging
from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from tumorseg.errors import PlanError
from tumorseg.ops.choosing.nested import parts_of
from tumorseg.ops.choosing.protocol import IntArray
from tumorseg.reports.tables import cases_text
from tumorseg.schema.dataset import Case
from tumorseg.stages.selection.candidates import Candidate, TrainedFold

logger = logging.getLogger(__name__)


class UnseenCase(NamedTuple):
    """A case with a reference, and who predicts it."""

    case: Case
    """With the channels of the first candidate."""
    folds: tuple[int, ...]
    """Of each candidate, the fold that holds it out."""
    patient: int
    """Cases of one patient have the same number."""

    @property
    def case_id(self) -> str:
        """Return its name."""
        return self.case.case_id


def unseen_cases(candidates: Sequence[Candidate], cases: Sequence[Case]) -> list[UnseenCase]:
    """Return the cases that each candidate has a finished fold for that did not train on them; the others are told.

    Args:
        candidates: with their folds.
        cases: of the dataset.

    Raises:
        PlanError: there are none.
    """
    patients = _patients(cases)
    mates: dict[int, set[str]] = defaultdict(set)
    for case_id, patient in patients.items():
        mates[patient].add(case_id)
    chosen: dict[str, tuple[int, ...]] = {}
    left_out = []
    for case in cases:
        folds = [_fold_for(candidate, case.case_id, mates[patients[case.case_id]]) for candidate in candidates]
        numbers = tuple(fold.number for fold in folds if fold is not None)
        if case.label is not None and len(numbers) == len(candidates):
            chosen[case.case_id] = numbers
        else:
            left_out.append(case.case_id)
    if not chosen:
        raise PlanError(
            f"no case is held out by a finished fold of each of {', '.join(candidate.name for candidate in candidates)}; train the same "
            "folds of all of them, or confine the choice by --configuration"
        )
    if left_out:
        logger.warning(
            "%d of %d cases are left out, as they have no reference, or some candidate no finished fold that did not train on them or "
            "on their patient: %s",
            len(left_out),
            len(cases),
            cases_text(left_out),
        )
    by_id = {case.case_id: case for case in cases}
    return [UnseenCase(by_id[one], chosen[one], patients[one]) for one in sorted(chosen)]


def _patients(cases: Sequence[Case]) -> dict[str, int]:
    """Return a number for each case, the same for those of one group."""
    names = {case.case_id: ("group", case.group) if case.group else ("case", case.case_id) for case in cases}
    numbers = {name: number for number, name in enumerate(sorted(set(names.values())))}
    return {case_id: numbers[name] for case_id, name in names.items()}


def _fold_for(candidate: Candidate, case_id: str, mates: set[str]) -> TrainedFold | None:
    """Return the fold of a candidate that holds a case out and was not trained on another of its patient."""
    for fold in candidate.folds.values():
        plan = fold.plan
        # Cases that the plan leaves out were in nobody's training.
        trained = {one for one in mates if plan.dataset.selection().uses(one)} - plan.not_trained_on(fold.number)
        if case_id in plan.folds[fold.number] and not trained:
            return fold
    return None


def parts_of_cases(cases: Sequence[UnseenCase]) -> IntArray:
    """Return the part of each case (N,) in the nested choice: the first candidate's folds, or where there are few of these, patients dealt."""
    of_patient: dict[int, int] = {}
    for case in cases:
        # Folds of a list of one's own may part a patient's cases, which a part may not.
        of_patient.setdefault(case.patient, case.folds[0])
    folds = np.array([of_patient[case.patient] for case in cases], np.int64)
    return parts_of(folds, clusters_of(cases))


def clusters_of(cases: Sequence[UnseenCase]) -> IntArray | None:
    """Return the patient of each case (N,); None where each case is its own."""
    patients = np.array([case.patient for case in cases], np.int64)
    return None if len(set(patients.tolist())) == len(patients) else patients
