"""What a selection begins with: candidates, cases, and the names under which everything is kept."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from tumorseg.errors import InputError
from tumorseg.ops.choosing.rounds import Options
from tumorseg.schema.base import content_hash
from tumorseg.schema.dataset import Case
from tumorseg.schema.plan import Plan
from tumorseg.schema.selection import Selection
from tumorseg.stages.inference.ensemble_folder import check_place
from tumorseg.stages.inference.predictions import mask_hash
from tumorseg.stages.opening.loaded import Roots, check_content, open_planned_dataset
from tumorseg.stages.selection.candidates import Candidate, find_candidates
from tumorseg.stages.selection.out_of_fold import probability_key
from tumorseg.stages.selection.pool import Keys, Subjects
from tumorseg.stages.selection.references import reference_keys
from tumorseg.stages.selection.unseen import UnseenCase, parts_of_cases, unseen_cases
from tumorseg.stages.training.cascade import known_to
from tumorseg.storage.ensemble_layout import EnsembleFolder
from tumorseg.storage.json_files import read_record

SELECTION_VERSION = 1
"""Raised when the same candidates and cases would be scored, or chosen from, otherwise."""


class Opened(NamedTuple):
    """A selection that may begin."""

    subjects: Subjects
    num_left_out: int
    """Cases of the dataset that are not scored."""


def open_subjects(
    plans: Sequence[Plan], roots: Roots, *, configurations: Sequence[str] = (), dataset: str | None = None
) -> Opened:
    """Find candidates and the cases that all of them can be scored on.

    Args:
        plans: given by the user.
        roots: data and work folder.
        configurations: those that may become members; all if empty.
        dataset: where the dataset is, if it moved.

    Raises:
        PlanError: nothing is trained, plans cannot be combined, or the dataset is not what was planned.
        InputError: files are missing.
    """
    candidates = find_candidates(plans, roots.work, configurations)
    by_plan = {}
    for plan in {candidate.plan.name: candidate.plan for candidate in candidates}.values():
        found = open_planned_dataset(plan, roots, dataset)
        by_plan[plan.name] = {case.case_id: case for case in found.cases}, check_content(plan, found, roots)
    all_cases: dict[str, Case] = {}
    for cases, _ in by_plan.values():
        all_cases = cases | all_cases
    chosen = unseen_cases(candidates, [all_cases[case_id] for case_id in sorted(all_cases)])
    hashes = [by_plan[candidate.plan.name][1] for candidate in candidates]
    subjects = Subjects(
        candidates=tuple(candidates),
        cases=tuple(chosen),
        own_cases=tuple(by_plan[candidate.plan.name][0] for candidate in candidates),
        keys=Keys({}, {}),
    )
    _check_parts(subjects)
    keys = Keys(_probability_keys(candidates, chosen, hashes), _reference_keys(subjects, hashes[0]))
    return Opened(subjects._replace(keys=keys), len(all_cases) - len(chosen))


def _check_parts(subjects: Subjects) -> None:
    """Refuse, before any work, cases on which no choice could be measured: all of one part, as those of one patient are."""
    if len(set(parts_of_cases(subjects.cases).tolist())) < 2:
        raise InputError(
            f"found {len(subjects.cases)} held-out cases of one patient, expected two patients or more, so that what is chosen on some is "
            "measured on others; train another fold"
        )


def _probability_keys(
    candidates: Sequence[Candidate], cases: Sequence[UnseenCase], hashes: Sequence[Mapping[str, str]]
) -> dict[tuple[int, str], str]:
    keys = {}
    for number, candidate in enumerate(candidates):
        # What a cascade is shown is a file of each case.
        shown: dict[str, Path] = {}
        for fold in candidate.folds.values():
            known = known_to(fold.folder, fold.run)
            shown |= {} if known is None else known.files
        for case in cases:
            case_id, fold = case.case_id, candidate.folds[case.folds[number]]
            previous = mask_hash(shown[case_id]) if case_id in shown else None
            keys[number, case_id] = probability_key(fold, hashes[number][case_id], previous)
    return keys


def _reference_keys(subjects: Subjects, hashes: Mapping[str, str]) -> dict[str, str]:
    scored = {case.case_id: hashes[case.case_id] for case in subjects.cases}
    return reference_keys(subjects.candidates[0].plan, subjects.question.wanted, scored)


def identity_of(subjects: Subjects) -> str:
    """Return the hash of all that scores follow from: candidates with their weights, cases, and how they are dealt into parts."""
    keys = subjects.keys
    found = [[str(number), case_id, key] for (number, case_id), key in sorted(keys.probabilities.items())]
    names = [candidate.name for candidate in subjects.candidates]
    folds = [[fold.weights for fold in candidate.folds.values()] for candidate in subjects.candidates]
    patients = [case.patient for case in subjects.cases]
    parts = parts_of_cases(subjects.cases).tolist()
    return content_hash([SELECTION_VERSION, names, folds, found, dict(keys.references), patients, parts])


def choice_identity(identity: str, options: Options) -> str:
    """Return the hash of all that a choice follows from."""
    rules = {name: value for name, value in options._asdict().items() if name not in ("steps", "label_candidates")}
    return content_hash([identity, rules])


def selected_before(output: Path, identity: str) -> Selection | None:
    """Return what a folder holds if it is this selection; None where there is no folder yet.

    Raises:
        InputError: the folder holds something else.
    """
    check_place(output)
    folder = EnsembleFolder(output)
    if not folder.is_there():
        return None
    found = read_record(Selection, folder.selection) if folder.selection.is_file() else None
    if found is None or found.identity != identity:
        raise InputError(
            f"{output} is there already and holds another model, or one that was chosen from other trainings or cases; move it elsewhere, "
            "or give another folder"
        )
    return found
