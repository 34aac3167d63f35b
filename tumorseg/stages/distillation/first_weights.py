"""The weights that a student is begun with, which must not have seen what judges it either."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from tumorseg.errors import PlanError
from tumorseg.reports.tables import cases_text
from tumorseg.schema.dataset import Case
from tumorseg.stages.distillation.opening import Student, may_be_same, source_of
from tumorseg.stages.opening.fold_folders import fold_plan, read_run
from tumorseg.stages.training.given_weights import open_initial
from tumorseg.storage.layout import ALL_CASES, FoldFolder, is_fold_folder

logger = logging.getLogger(__name__)


def check_first_weights(path: Path, student: Student, cases: Sequence[Case], *, own: Path) -> None:
    """Refuse weights to begin with that are known to have seen what judges the student; warn of those of which it cannot be told.

    Published weights, of which nothing is known, are what `--init` is mostly given, so that these are let in.

    Args:
        path: as `--init` takes it.
        student: that is begun with them.
        cases: that its plan uses, whose groups tell patients.
        own: folder of the fold that is to be trained.

    Raises:
        PlanError: they were trained on a case that judges the student, or on its patient, or on one that is kept back; and as for `open_initial`.
        StorageError: a file is missing or damaged.
    """
    if not student.judges and student.plan.dataset.listed is None:
        return
    groups = {case.case_id: case.group for case in cases}
    apart, is_told = student.apart(groups) | student.kept_back, True
    file = open_initial(path, student.fold, own=own).origin.path
    for folder in _folds_behind(file):
        if folder is None:
            is_told = False
            continue
        if seen := sorted(apart & _seen_by(folder, student, apart)):
            raise PlanError(
                f"--init {path}: the weights of {folder.root} were not kept from {cases_text(seen)}, which fold {student.fold} holds out, they or "
                f"others of their patients, or the plan keeps back; give fold {student.fold} of a model with the same folds"
            )
        is_told = is_told and _is_told_of(folder, student, groups)
    if not is_told:
        logger.warning(
            "--init %s: it cannot be told whether these weights have seen what fold %s holds out, or the plan keeps back; its scores are too "
            "good if they have",
            path,
            student.fold,
        )


def _is_told_of(folder: FoldFolder, student: Student, groups: Mapping[str, str | None]) -> bool:
    """Return whether the plan of a fold tells all cases that it was trained on by names that the student's plan knows."""
    theirs, ours = fold_plan(folder).dataset, student.plan.dataset
    if theirs.name != ours.name:
        return True
    # Of a case that the student's plan leaves out nobody here knows the patient, or whether it is kept back.
    is_open = bool(student.patients(groups)) or ours.listed is not None
    has_known_cases = theirs.selection() == ours.selection() or not is_open
    # The previous models of a cascade have seen what its own fold holds out.
    return may_be_same(theirs, ours) and has_known_cases and read_run(folder).previous is None


def _folds_behind(file: Path) -> Iterator[FoldFolder | None]:
    """Yield the fold that a file of weights lies in, that which gave it its first ones, and so on; None where one of them is not known."""
    place = FoldFolder(file.absolute().parent)
    folder = place if is_fold_folder(place.root) else None
    yield folder
    while folder is not None and (init := read_run(folder).init) is not None:
        folder = source_of(folder, init)
        yield folder


def _seen_by(folder: FoldFolder, student: Student, apart: frozenset[str]) -> frozenset[str]:
    """Return the cases that may have shaped a fold, of those that are kept apart; none of another dataset, where names mean other cases."""
    plan, run = fold_plan(folder), read_run(folder)
    if plan.dataset.name != student.plan.dataset.name:
        return frozenset()
    held_out = frozenset() if run.fold == ALL_CASES else plan.not_trained_on(int(run.fold))
    if run.teachers:
        # Of its own teachers is known only that they have not seen what it holds out itself, nor what their plans do not use.
        unused = {case_id for case_id in student.kept_back if not plan.dataset.selection().uses(case_id)}
        return apart - held_out - unused
    return frozenset().union(*plan.folds) - held_out
