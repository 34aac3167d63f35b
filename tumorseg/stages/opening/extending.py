"""Whether a fold's training has reached its end, and how a larger `--epochs` makes one that has longer.

The fold's plan is the one file that says so: once it is written the training is longer, whoever goes on with it and
whatever was killed in between. The checkpoint at the earlier end stays as it is until the first further one.
"""

import logging
import time
from typing import NamedTuple

from tumorseg.engine.ending import num_iterations
from tumorseg.engine.saved import course_problem
from tumorseg.errors import PlanError, StorageError
from tumorseg.schema.logs import TrainingEvent
from tumorseg.schema.plan import Plan, Reason
from tumorseg.schema.training import Extension, Training
from tumorseg.stages.opening.fold_folders import Run, fold_plan, options_text, read_run
from tumorseg.storage.checkpoints import is_there, load_checkpoint
from tumorseg.storage.json_files import write_record
from tumorseg.storage.layout import FoldFolder, is_fold_folder
from tumorseg.tracking.events import append_event

logger = logging.getLogger(__name__)


class Reached(NamedTuple):
    """How far a training has come."""

    iterations: int
    """Steps so far."""
    num_iterations: int
    """Steps of the whole training, as it is known now: fewer than planned if it ends sooner."""
    is_end: bool
    """Whether nothing of it is left to do, the last epoch's validation included."""


def reached(folder: FoldFolder, training: Training) -> Reached:
    """Return how far a fold's training has come by its latest checkpoint.

    Raises:
        StorageError: the checkpoint is damaged, or none of a training.
    """
    if not is_there(folder.latest):
        return Reached(0, num_iterations(training, None), False)
    # Mapped, since of all its bytes only a few plain values are read.
    state = load_checkpoint(folder.latest, is_mapped=True)
    if (problem := course_problem(state, training)) is not None:
        raise StorageError(
            f"is no checkpoint of a training: {problem}; copy the fold's folder anew", file=folder.latest
        )
    done, total = state["progress"]["iteration"], num_iterations(training, state["length"])
    # Losses of an epoch are kept until all of it is done.
    return Reached(done, total, done >= total and not state["progress"]["losses"])


def check_epochs(folder: FoldFolder, run: Run) -> None:
    """Check that a run asks for the epochs that a fold's training has, or for more than one that is finished has.

    Raises:
        PlanError: it asks for others.
    """
    _longer(folder, run)


def make_longer(folder: FoldFolder, run: Run) -> None:
    """Add epochs to a training that is finished, if a run asks for more than it has; nobody else may be training it.

    Raises:
        PlanError: it asks for others than it may.
        StorageError: the fold's plan cannot be written.
    """
    longer = _longer(folder, run)
    if longer is None:
        return
    training, extension = longer.training, longer.training.extension
    assert extension is not None  # what makes it longer
    write_record(folder.plan, longer)
    base = longer.configurations[run.configuration].optimizer.lr
    message = (
        f"made longer from {extension.after_epochs} to {training.epochs} epochs: the lr falls once more, from {extension.lr_from * base:.3g} to "
        f"{extension.lr_to * base:.3g}"
    )
    logger.info("%s was %s", folder.root, message)
    iteration = extension.after_epochs * training.iterations_per_epoch
    append_event(folder.events, TrainingEvent(kind="extended", iteration=iteration, message=message, at=time.time()))


def _longer(folder: FoldFolder, run: Run) -> Plan | None:
    """Return the plan of a training that is to be longer; None if it is to go on as it is."""
    asked = run.options.epochs
    if asked is None or not is_fold_folder(folder.root):
        return None
    plan, before = fold_plan(folder), read_run(folder)
    training = plan.training
    # What it was made longer to counts, if it was: it may have been killed since, and is given the same command again.
    known = before.options.epochs if training.extension is None else training.epochs
    if asked == known:
        return None
    now, length = reached(folder, training), training.iterations_per_epoch
    begun = f"{folder.root} was begun with {options_text(before.options)}"
    if training.extension is not None:
        begun = f"{begun}, made longer to {training.epochs} epochs"
    if not now.is_end:
        raise PlanError(
            f"{begun} and has been trained for {now.iterations // length} of {now.num_iterations // length} epochs, now --epochs {asked} is "
            "asked for; leave it out to finish the training, which a larger --epochs makes longer then, or give --restart to move it aside"
        )
    if asked * length <= now.iterations:
        raise PlanError(
            f"{begun} and is finished after {now.iterations // length} epochs, now --epochs {asked} is asked for; a larger number makes it "
            "longer, and --restart moves it aside for a shorter training"
        )
    return _extended(plan, asked, after_epochs=now.iterations // length)


def _extended(plan: Plan, epochs: int, *, after_epochs: int) -> Plan:
    """Return a plan of more epochs; hours no longer say how many."""
    extension = Extension(after_epochs=after_epochs)
    training = plan.training.changed(epochs=epochs, extension=extension, max_hours=None)
    rule = f"train --epochs {epochs}, after the training had ended with {after_epochs}"
    reason = Reason(source="user", rule=rule, inputs={"value": epochs, "planned": plan.training.epochs})
    return plan.changed(training=training, reasons=plan.reasons | {"training.epochs": reason})
