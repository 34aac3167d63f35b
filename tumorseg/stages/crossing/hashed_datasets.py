"""Datasets with the hashes of their files: those that are tested on, and what is left of those that models were trained on."""

from collections.abc import Mapping
from typing import NamedTuple

from tumorseg.errors import TumorsegError
from tumorseg.schema.dataset import Case, Dataset
from tumorseg.schema.plan import Plan
from tumorseg.stages.crossing.models import CrossModel
from tumorseg.stages.inference.case_inputs import unlabelled
from tumorseg.stages.opening.loaded import (
    Roots,
    check_apart,
    check_content,
    find_planned_dataset,
    hash_dataset,
    missing_files,
)
from tumorseg.storage.hashing import HashCache
from tumorseg.storage.layout import work_folder


class HashedDataset(NamedTuple):
    """A dataset whose files were hashed."""

    dataset: Dataset
    hashes: Mapping[str, str]
    """Hash of each case by case_id, the reference included."""
    digests: Mapping[str, Mapping[str, str]]
    """Hash of each image file by its path, by case_id."""


class PlannedFiles(NamedTuple):
    """What is there of the dataset that a model was planned for."""

    found: HashedDataset
    """Cases of the plan whose files are all there."""
    is_confirmed: bool
    """Whether they are all, and what they were when they were planned."""


def hashed(dataset: Dataset, roots: Roots) -> HashedDataset:
    """Hash a dataset, reading only files that changed since they were last hashed.

    Raises:
        InputError: a file is missing or cannot be read, or the work folder would lie in the dataset's own.
    """
    check_apart(dataset, roots)
    hashes = hash_dataset(dataset, roots)
    cache = HashCache(work_folder(roots.work, dataset.name).hashes)
    digests = {case.case_id: _image_digests(cache, case) for case in dataset.cases}
    return HashedDataset(dataset, hashes, digests)


def _image_digests(cache: HashCache, case: Case) -> dict[str, str]:
    states = cache.case_states(unlabelled(case)) or {}
    return {path: state.digest for path, state in states.items()}


def planned_dataset(model: CrossModel, roots: Roots) -> PlannedFiles | None:
    """Return what is there of the dataset that a model was planned for, hashed; None where nothing is.

    Args:
        model: of the matrix.
        roots: used where the model does not lie in a work folder of its own.
    """
    roots = _roots_of(model, roots)
    try:
        dataset = find_planned_dataset(model.plan, roots)
        is_confirmed = _is_confirmed(model.plan, dataset, roots)
        if is_confirmed:
            return PlannedFiles(hashed(dataset, roots), is_confirmed=True)
        # One file that was changed or lost says nothing of the others; cases that the plan does not know say nothing at all.
        named = cases_of(model.plan)
        cases = [case for case in dataset.cases if case.case_id in named and not missing_files(case)]
        return PlannedFiles(hashed(dataset.changed(cases=tuple(cases)), roots), is_confirmed=False)
    # Whatever is wrong with it, case_ids remain to go by.
    except TumorsegError:
        return None


def _is_confirmed(plan: Plan, dataset: Dataset, roots: Roots) -> bool:
    """Tell whether a dataset is what was planned, file by file."""
    try:
        check_content(plan, dataset, roots)
    except TumorsegError:
        return False
    return plan.dataset.content_hash is not None


def cases_of(plan: Plan) -> frozenset[str]:
    """Return all cases that a plan names."""
    return frozenset().union(*plan.folds, *plan.kept_from_training, plan.dataset.listed or ())


def _roots_of(model: CrossModel, roots: Roots) -> Roots:
    """Return the roots with the work folder that a model lies in: `<work>/<dataset>/models/<plan>/<configuration>`."""
    folders = [folder.root.resolve().parent for folder in model.folds.values()]
    above = list(folders[0].parents) if folders else []
    is_inside = len(above) > 3 and above[1].name == "models" and above[2].name == model.plan.dataset.name
    return roots.changed(work=above[3]) if is_inside else roots
