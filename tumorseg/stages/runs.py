"""A fold's folder: which training it belongs to, and whether another may go on in it."""

import logging
import time
from pathlib import Path

from tumorseg import __version__
from tumorseg.errors import PlanError
from tumorseg.schema.base import Record, record_hash
from tumorseg.schema.plan import Plan
from tumorseg.stages.planned import read_plan
from tumorseg.storage.json_files import read_record, write_record
from tumorseg.storage.layout import ALL_CASES, FoldFolder

logger = logging.getLogger(__name__)


class TrainOptions(Record):
    """Train's own overrides of a plan."""

    epochs: int | None = None
    """Replaces `training.epochs`."""
    iterations: int | None = None
    """Replaces `training.iterations_per_epoch`."""
    max_hours: float | None = None
    """Replaces `training.max_hours`."""
    seed: int | None = None
    """Replaces `training.seed`."""


class Run(Record):
    """What a fold's folder was begun with."""

    plan_name: str
    """Name of the plan that train was given."""
    plan_hash: str
    """Its content hash."""
    configuration: str
    """Which configuration is trained."""
    fold: str
    """Number of the fold, or `all`."""
    options: TrainOptions
    """What train was given beside the plan."""
    tumorseg_version: str = __version__
    """Version that began it."""


def begin_run(plan: Plan, configuration: str, fold: str, options: TrainOptions) -> Run:
    """Return the record of a training that is asked for.

    Raises:
        PlanError: the plan has no such fold.
    """
    if fold != ALL_CASES and (not fold.isdecimal() or int(fold) >= len(plan.folds)):
        known = ", ".join([*map(str, range(len(plan.folds))), ALL_CASES])
        raise PlanError(f"plan {plan.name} has no fold {fold}; choose one of {known}")
    return Run(
        plan_name=plan.name, plan_hash=record_hash(plan), configuration=configuration, fold=fold, options=options
    )


def claim_folder(folder: FoldFolder, run: Run, *, restart: bool) -> bool:
    """Make sure that a folder is this run's own.

    Returns:
        Whether a training was begun here before.

    Raises:
        PlanError: it holds another plan's training, or one with other options.
    """
    if restart and folder.root.exists():
        aside = folder.root.with_name(f"{folder.root.name}.{time.strftime('%Y%m%d-%H%M%S')}")
        folder.root.rename(aside)
        logger.info("moved the earlier training to %s", aside)
    if not folder.run.is_file():
        return False
    before = read_record(Run, folder.run, error=PlanError)
    if before.plan_hash != run.plan_hash:
        raise PlanError(
            f"{folder.root} holds a training of plan {before.plan_name} ({before.plan_hash}), not of plan {run.plan_name} "
            f"({run.plan_hash}); rename the plan, or give --restart to move the earlier training aside"
        )
    if before.options != run.options:
        raise PlanError(
            f"{folder.root} was begun with {_given(before.options)}, now {_given(run.options)} is asked for; "
            "give the same options to continue, or --restart to move the earlier training aside"
        )
    return True


def _given(options: TrainOptions) -> str:
    given = options.model_dump(exclude_none=True)
    return ", ".join(f"--{name.replace('_', '-')} {value}" for name, value in given.items()) or "no options"


def resolve_options(plan: Plan, options: TrainOptions) -> Plan:
    """Return the plan with train's own options in place.

    An explicit length puts a planned `max_hours` out of force.
    """
    names = {"epochs": "epochs", "iterations": "iterations_per_epoch", "max_hours": "max_hours", "seed": "seed"}
    given = {names[name]: value for name, value in options.model_dump(exclude_none=True).items()}
    if {"epochs", "iterations_per_epoch"} & given.keys():
        given.setdefault("max_hours", None)
    return plan.model_copy(update={"training": plan.training.model_copy(update=given)})


def write_run(folder: FoldFolder, plan: Plan, run: Run) -> None:
    """Begin a training: the resolved plan first, the record that makes the folder valid last."""
    write_record(folder.plan, plan)
    write_record(folder.run, run)


def fold_plan(folder: FoldFolder) -> Plan:
    """Return a fold's resolved plan."""
    return read_plan(folder.plan)


def read_run(folder: FoldFolder) -> Run:
    """Return what a fold's folder was begun with.

    Raises:
        PlanError: the folder holds no training.
    """
    if not folder.run.is_file():
        raise PlanError(
            f"{folder.root} holds no training ({folder.run.name} is missing); give a model folder or one of its folds"
        )
    return read_record(Run, folder.run, error=PlanError)


def model_folds(model: Path) -> tuple[FoldFolder, ...]:
    """Return the folds of a model folder, or the one fold that a folder is.

    Raises:
        PlanError: there is no training.
    """
    if FoldFolder(model).run.is_file():
        return (FoldFolder(model),)
    found = tuple(FoldFolder(path) for path in sorted(model.glob("fold_*")) if FoldFolder(path).run.is_file())
    found = tuple(folder for folder in found if "." not in folder.root.name)
    if not found:
        raise PlanError(
            f"{model} is no model: expected a folder of folds (fold_0, …) or one fold's folder; train first"
        )
    return found
