"""A fold's folder: which training it belongs to, and whether another may go on in it."""

import logging
import time
from pathlib import Path

from pydantic import Field

from tumorseg import __version__
from tumorseg.errors import PlanError, TrainingError
from tumorseg.schema.base import Record, record_hash
from tumorseg.schema.dataset import FileName
from tumorseg.schema.distillation import TeacherNote
from tumorseg.schema.plan import Plan
from tumorseg.storage.ensemble_layout import EnsembleFolder
from tumorseg.storage.json_files import read_record, write_record
from tumorseg.storage.layout import ALL_CASES, FoldFolder, is_fold_folder
from tumorseg.storage.locks import hold_folder

logger = logging.getLogger(__name__)


class TrainOptions(Record):
    """Train's own overrides of a plan."""

    epochs: int | None = Field(default=None, ge=1)
    """Replaces `training.epochs`."""
    iterations: int | None = Field(default=None, ge=1)
    """Replaces `training.iterations_per_epoch`."""
    max_hours: float | None = Field(default=None, gt=0)
    """Replaces `training.max_hours`."""
    seed: int | None = Field(default=None, ge=0, lt=2**63)
    """Replaces `training.seed`."""


class Run(Record):
    """Plan, options and version with which a fold's folder was begun."""

    plan_name: FileName
    """Name of the plan that train was given."""
    plan_hash: str
    """Its content hash."""
    configuration: str
    """Which configuration is trained."""
    fold: str = Field(pattern=r"^(all|[0-9]{1,6})$")
    """Number of the fold, or `all`."""
    options: TrainOptions
    """What train was given beside the plan."""
    previous: str | None = None
    """Identity of the trained previous model whose segmentations a cascade is shown."""
    init: str | None = None
    """Hash of the file of weights that it was begun with; null: weights follow from the seed."""
    teachers: tuple[TeacherNote, ...] = ()
    """Models that it learns from; empty: from the reference alone."""
    unlabelled: str | None = None
    """Hash of the further cases without a reference that it learns from; null: none."""
    tumorseg_version: str = __version__
    """Version that began it."""


def begin_run(plan: Plan, configuration: str, fold: str, options: TrainOptions) -> Run:
    """Return the record of a training that is asked for.

    Raises:
        PlanError: the plan has no such fold, or hours and a number of epochs are asked for together.
    """
    if options.epochs is not None and options.max_hours is not None:
        raise PlanError(f"--epochs {options.epochs} and --max-hours {options.max_hours:g} contradict; give one of them")
    if fold not in (ALL_CASES, *map(str, range(len(plan.folds)))):
        known = ", ".join([*map(str, range(len(plan.folds))), ALL_CASES])
        raise PlanError(f"plan {plan.name} has no fold {fold}; choose one of {known}")
    return Run(
        plan_name=plan.name, plan_hash=record_hash(plan), configuration=configuration, fold=fold, options=options
    )


def move_aside(folder: FoldFolder) -> None:
    """Rename the folder of an earlier training, if there is one.

    Raises:
        TrainingError: it is being validated.
    """
    if folder.root.exists():
        stem = f"{folder.root.name}.{time.strftime('%Y%m%d-%H%M%S')}"
        aside, number = folder.root.with_name(stem), 1
        # Two restarts may fall into one second.
        while aside.exists():
            number += 1
            aside = folder.root.with_name(f"{stem}-{number}")
        with hold_folder(folder.validation.resolve(), doing="written to", error=TrainingError):
            folder.root.rename(aside)
        logger.info("moved the earlier training to %s", aside)


def check_begun(folder: FoldFolder, run: Run) -> None:
    """Check that a run can go on in a folder, if a training was begun there; options that are not given are those of then.

    A number of epochs alone may differ; that is for `check_epochs` of `extending` to judge.

    Raises:
        PlanError: the folder holds another plan's training, or one with other options.
    """
    if not is_fold_folder(folder.root):
        return
    before = read_record(Run, folder.run, error=PlanError)
    if before.plan_hash != run.plan_hash:
        raise PlanError(
            f"{folder.root} holds a training of plan {before.plan_name} ({before.plan_hash}), not of plan {run.plan_name} "
            f"({run.plan_hash}); rename the plan's file, or give --restart to move the earlier training aside"
        )
    if before.previous != run.previous:
        raise PlanError(
            f"{folder.root} was begun with the segmentations of another training of the previous configuration "
            f"({before.previous}) than there is now ({run.previous}); give --restart to move the earlier training aside"
        )
    if run.init is not None and run.init != before.init:
        was = "weights that follow from the seed" if before.init is None else f"another file ({before.init})"
        raise PlanError(
            f"{folder.root} was begun with {was}, not with the one that --init names ({run.init}); leave out --init to continue, or give "
            "--restart to move the earlier training aside"
        )
    if (before.teachers, before.unlabelled) != (run.teachers, run.unlabelled):
        raise PlanError(
            f"{folder.root} was begun with {_lessons_text(before)}, now {_lessons_text(run)} are given; give the same to continue, or give "
            "--restart to move the earlier training aside"
        )
    given = run.options.model_dump(exclude_none=True)
    if dict(given.items() - before.options.model_dump().items()).keys() - {"epochs"}:
        raise PlanError(
            f"{folder.root} was begun with {options_text(before.options)}, now {options_text(run.options)} is asked for; "
            "give the same options or none to continue, or --restart to move the earlier training aside"
        )


def _lessons_text(run: Run) -> str:
    """Return who teaches, and with what, as far as it tells two trainings apart."""
    teachers = ", ".join(f"{one.plan_name}/{one.configuration} ({one.weights}, by {one.way})" for one in run.teachers)
    further = "" if run.unlabelled is None else f" and further cases ({run.unlabelled})"
    return f"the teachers {teachers or 'none'}{further}"


def options_text(options: TrainOptions) -> str:
    """Return options as they are given on the command line."""
    given = options.model_dump(exclude_none=True)
    return ", ".join(f"--{name.replace('_', '-')} {value}" for name, value in given.items()) or "no options"


def resolve_options(plan: Plan, options: TrainOptions) -> Plan:
    """Return the plan with train's own options in place.

    An explicit length puts a planned `max_hours` out of force, and an extension.
    """
    names = {"epochs": "epochs", "iterations": "iterations_per_epoch", "max_hours": "max_hours", "seed": "seed"}
    given = {names[name]: value for name, value in options.model_dump(exclude_none=True).items()}
    if {"epochs", "max_hours"} & given.keys():
        given["extension"] = None
    if {"epochs", "iterations_per_epoch"} & given.keys():
        given.setdefault("max_hours", None)
    return plan.changed(training=plan.training.changed(**given))


def write_run(folder: FoldFolder, plan: Plan, run: Run) -> None:
    """Begin a training: the resolved plan first, the record that makes the folder valid last."""
    write_record(folder.plan, plan)
    write_record(folder.run, run)


def fold_plan(folder: FoldFolder) -> Plan:
    """Return a fold's resolved plan.

    Raises:
        PlanError: it is missing or malformed, or the training beside it is another plan's.
    """
    plan = read_record(Plan, folder.plan, error=PlanError)
    # Where a folder was copied in part, or two were mixed up, a fold's number and configuration mean nothing.
    if is_fold_folder(folder.root) and (fault := _misfit(plan, read_record(Run, folder.run, error=PlanError))):
        raise PlanError(
            f"does not fit {folder.plan.name} beside it: {fault}; copy the whole folder anew", file=folder.run
        )
    return plan


def _misfit(plan: Plan, run: Run) -> str | None:
    """Return why a training cannot be of a plan, or None."""
    if run.plan_name != plan.name:
        return f"found plan {run.plan_name}, expected {plan.name}"
    if run.configuration not in plan.configurations:
        return f"found configuration {run.configuration}, expected one of {', '.join(sorted(plan.configurations))}"
    # A plan that names no folds does not tell how many there were.
    if plan.folds and run.fold != ALL_CASES and int(run.fold) >= len(plan.folds):
        return f"found fold {run.fold}, expected one below {len(plan.folds)}"
    return None


def read_run(folder: FoldFolder) -> Run:
    """Return what a fold's folder was begun with.

    Raises:
        PlanError: the folder holds no training.
    """
    _refuse_ensemble(folder.root)
    if not is_fold_folder(folder.root):
        raise PlanError(
            f"{folder.root} holds no training ({folder.run.name} is missing); give a model folder or one of its folds"
        )
    return read_record(Run, folder.run, error=PlanError)


def model_folds(model: Path) -> tuple[FoldFolder, ...]:
    """Return the folds of a model folder, or the one fold that a folder is.

    Raises:
        PlanError: there is no training, or it is an ensemble.
    """
    _refuse_ensemble(model)
    if is_fold_folder(model):
        return (FoldFolder(model),)
    found = tuple(FoldFolder(path) for path in sorted(model.glob("fold_*")) if is_fold_folder(path))
    # `fold_0.<time>` is an earlier training that was moved aside.
    found = tuple(folder for folder in found if "." not in folder.root.name)
    if not found:
        raise PlanError(
            f"{model} is no model: expected a folder of folds (fold_0, …) or one fold's folder; train first"
        )
    return found


def _refuse_ensemble(path: Path) -> None:
    if EnsembleFolder(path).is_there():
        raise PlanError(
            f"{path} is an ensemble, expected a model: `tumorseg predict` takes an ensemble, by itself; other verbs take its models "
            f"one by one ({path / 'members' / '0'}, …)"
        )
