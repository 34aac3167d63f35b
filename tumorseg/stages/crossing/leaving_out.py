"""Leaving parts of a dataset out: a model is trained without each, and tested on it."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from tumorseg.errors import InputError, PlanError
from tumorseg.planning.folds.leaving_out import LeftOut, leave_out
from tumorseg.schema.base import Record, record_hash
from tumorseg.schema.dataset import Case, name_fault
from tumorseg.schema.plan import Plan
from tumorseg.sources.pooling import DATASET
from tumorseg.stages.crossing.hashed_datasets import HashedDataset, hashed
from tumorseg.stages.crossing.models import CrossModel, open_model
from tumorseg.stages.inference.folds import is_finished
from tumorseg.stages.opening.fold_folders import read_run
from tumorseg.stages.opening.loaded import Roots, check_content, choose_configuration, open_planned_dataset
from tumorseg.stages.training.request import TrainRequest
from tumorseg.stages.training.train import train
from tumorseg.storage.cross_folders import CrossFolder
from tumorseg.storage.json_files import write_record
from tumorseg.storage.layout import FoldFolder, fold_folder, is_fold_folder, work_folder

logger = logging.getLogger(__name__)

PartKind = Literal["site", "dataset"]
"""What is left out."""


class LeaveOutRequest(Record):
    """What is to be left out in turn."""

    roots: Roots
    """Data and work folder."""
    plan: Plan
    """Of the whole dataset."""
    by: PartKind
    """A site; or a dataset of those that `data merge` pooled."""
    device: str
    """Where to train."""
    jobs: int | None = None
    """Processes for preprocessing."""


class Parts(NamedTuple):
    """A planned dataset in parts, and the plan that leaves each out."""

    left_out: LeftOut
    datasets: Mapping[str, HashedDataset]
    """The cases of each part, by its name."""
    whole: HashedDataset


class Untrained(NamedTuple):
    """A row of the matrix whose model another process is to train."""

    name: str


def open_parts(request: LeaveOutRequest, output: CrossFolder) -> Parts:
    """Divide the plan's dataset, and write the plan that leaves each part out.

    Raises:
        InputError: the dataset is not there, or a part cannot be called as it is.
        PlanError: a case is in no part, there is only one, or the dataset is not what was planned.
    """
    plan = request.plan
    dataset = open_planned_dataset(plan, request.roots)
    check_content(plan, dataset, request.roots)
    parts = {case.case_id: part_of(case, request.by) for case in dataset.cases}
    left_out = leave_out(plan, parts, {case.case_id: case.group for case in dataset.cases}, by=request.by)
    write_record(output.plan(left_out.plan.name), left_out.plan)
    whole = hashed(dataset, request.roots)
    datasets = {name: _part(whole, name, parts) for name in left_out.parts}
    return Parts(left_out, datasets, whole)


def part_of(case: Case, by: PartKind) -> str | None:
    """Return the site of a case, or the dataset that `data merge` took it from; None where that is not known."""
    return case.site if by == "site" else case.columns.get(DATASET)


def _part(whole: HashedDataset, name: str, parts: Mapping[str, str | None]) -> HashedDataset:
    """Return the cases of one part, as a dataset of its name."""
    if (fault := name_fault(name)) is not None:
        raise InputError(
            f"found the part {name[:60]!r}, expected one that a folder can be called: it {fault}; rename it"
        )
    cases = [case for case in whole.dataset.cases if parts[case.case_id] == name]
    hashes = {case.case_id: whole.hashes[case.case_id] for case in cases}
    return HashedDataset(whole.dataset.changed(cases=tuple(cases)), hashes, whole.digests)


def left_out_models(
    request: LeaveOutRequest, parts: Parts, mine: Sequence[bool]
) -> list[CrossModel | Untrained] | None:
    """Return a model for each part that was trained without it, trained now where it is not yet.

    Args:
        request: what is left out.
        parts: of the dataset.
        mine: of each part, whether this process trains the model.

    Returns:
        None where a signal ended a training after a checkpoint: the same command goes on.

    Raises:
        PlanError: the configuration is a cascade.
        TrainingError: a training cannot go on.
    """
    plan = parts.left_out.plan
    name, configuration = choose_configuration(plan, None)
    if configuration.previous_configuration is not None:
        raise PlanError(
            f"--leave-out cannot train {name}, a cascade; set default_configuration to {configuration.previous_configuration}"
        )
    model = work_folder(request.roots.work, plan.dataset.name).model(plan.name, name)
    rows: list[CrossModel | Untrained] = []
    for number, (part, is_mine) in enumerate(zip(parts.left_out.parts, mine, strict=True)):
        folder, row = fold_folder(model, number), f"without-{part}"
        if not is_trained(folder, plan):
            if not is_mine:
                rows.append(Untrained(row))
                continue
            if not _train(request, plan, number, part):
                return None
        rows.append(open_model(folder.root)._replace(name=row, without=part))
    return rows


def is_trained(folder: FoldFolder, plan: Plan) -> bool:
    """Return whether a fold of this very plan is trained to its end."""
    return is_fold_folder(folder.root) and read_run(folder).plan_hash == record_hash(plan) and is_finished(folder)


def _train(request: LeaveOutRequest, plan: Plan, number: int, part: str) -> bool:
    """Train a fold; False if a signal ended it."""
    logger.info("training without %s %s (fold %d of %s)", request.by, part, number, plan.name)
    asked = TrainRequest(
        roots=request.roots,
        plan=plan,
        fold=str(number),
        device=request.device,
        jobs=request.jobs,
        has_validation=False,
    )
    return train(asked).is_finished


def whole_model(roots: Roots, plan: Plan) -> Path | None:
    """Return the folder of the model that was trained on the folds of the whole plan; None where none is finished."""
    name, _ = choose_configuration(plan, None)
    model = work_folder(roots.work, plan.dataset.name).model(plan.name, name)
    folders = [fold_folder(model, number) for number in range(len(plan.folds))]
    return model if any(is_trained(folder, plan) for folder in folders) else None
