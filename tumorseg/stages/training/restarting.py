"""A training that begins again with another seed, since it had never found one of its labels."""

import gc
import logging
import time
from collections.abc import Callable

from tumorseg.engine.faults import Collapsed, next_seed
from tumorseg.engine.feed import Data
from tumorseg.engine.loop import Fit
from tumorseg.schema.logs import TrainingEvent
from tumorseg.schema.plan import Plan, Reason
from tumorseg.stages.opening.fold_folders import fold_plan, read_run
from tumorseg.stages.training.fitting import Job, build_fit, forget_first_try, take_up_initial
from tumorseg.storage.json_files import write_record
from tumorseg.storage.layout import FoldFolder
from tumorseg.storage.linking import link_folder
from tumorseg.tracking.events import append_event, read_events

logger = logging.getLogger(__name__)

FIELD, FIRST_SEED = "training.seed", "first_seed"
"""What a second try has of its own in its plan, and the figure in the reason for it."""


def run_watched(first: list[Fit], job: Job, data: Data, train: Callable[[Fit], None]) -> None:
    """Train, a second time if the first try finds one of its labels nowhere.

    Args:
        first: holds the fit of the first try, or of the second one if that was begun earlier; taken out, so that nobody else holds on to
            its memory.
        job: the training.
        data: its cases.
        train: runs a fit.
    """
    fit = first.pop()
    # The first process alone looks: the others may not see the files yet.
    may_restart = job.ranks.rank == 0 and _may_restart(job)
    fit.num_restarts_left = round(job.ranks.of_first(float(may_restart)))
    try:
        train(fit)
    except Collapsed as found:
        names, iteration = found.names, found.iteration
    else:
        return
    # Outside, as the error holds on to the first network.
    plan = _second_plan(fold_plan(job.folder), fit.training.seed, names)
    del fit
    # Building torch's first optimizer leaves frames in a circle, which hold on to the network.
    gc.collect()
    if job.ranks.rank == 0:
        _begin_again(job.folder, plan, names, iteration)
    # Nobody trains before the files are ready.
    job.ranks.any(False)
    second = build_fit(plan, job, data)
    take_up_initial(second, job, plan, read_run(job.folder))
    train(second)


def _may_restart(job: Job) -> bool:
    """Return whether this is a first try that can be begun again."""
    plan = fold_plan(job.folder)
    # The one file that says so, whatever else was written by then.
    reason = plan.reasons.get(FIELD)
    if reason is not None and FIRST_SEED in reason.inputs:
        return False
    # A second try would take longer than the hours that there are, and a job that is cut off gives no model.
    if plan.training.max_hours is not None:
        return False
    # Given weights must be at hand to begin with them again. The folder knows of them: the present command need not have named them.
    return read_run(job.folder).init is None or job.initial is not None


def _second_plan(plan: Plan, first_seed: int, names: tuple[str, ...]) -> Plan:
    """Return a fold's plan with another seed."""
    reason = Reason(
        source="device",
        rule="another seed: the first try had never found some labels in training patches",
        inputs={FIRST_SEED: first_seed, "never_found": ", ".join(names)},
        alternative="training.restart_on_collapse=false, which goes on with the first seed",
    )
    training = plan.training.changed(seed=next_seed(first_seed))
    return plan.changed(training=training, reasons=plan.reasons | {FIELD: reason})


def _begin_again(folder: FoldFolder, plan: Plan, names: tuple[str, ...], iteration: int) -> None:
    """Put the files of the first try aside; killed at any moment, the same command goes on with the first or the second one."""
    kept = (folder.plan, folder.log, folder.latest, folder.best, folder.progress)
    link_folder(folder.collapsed, {path.name: path for path in kept if path.is_file()})
    message = (
        f"never found in training patches by iteration {iteration}: {', '.join(names)}; it begins again with the seed {plan.training.seed}; "
        f"the first try is kept in {folder.collapsed.name}"
    )
    # One that was killed here before has told of it.
    if not any(event.kind == "restarted" for event in read_events(folder.events)):
        event = TrainingEvent(kind="restarted", iteration=iteration, message=message, at=time.time())
        append_event(folder.events, event)
    logger.warning("%s", message)
    # From here on the second try is what goes on: checkpoints of another seed are not its own.
    write_record(folder.plan, plan)
    forget_first_try(folder)
