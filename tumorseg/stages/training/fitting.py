"""The fit of a fold: begun from its plan, gone on with from its checkpoint, and run with what keeps its files."""

import gc
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tumorseg.engine.feed import Data, open_feeds
from tumorseg.engine.learner import Learner
from tumorseg.engine.loop import Fit
from tumorseg.engine.observers import Observer
from tumorseg.engine.ranks import Ranks
from tumorseg.engine.saved import state_problem
from tumorseg.errors import PlanError, StorageError, TrainingError
from tumorseg.schema.initial_weights import InitialWeights
from tumorseg.schema.plan import Plan
from tumorseg.schema.targets import num_inputs, targets_of
from tumorseg.stages.opening.environment import begin_environment
from tumorseg.stages.opening.fold_folders import Run, fold_plan, read_run, resolve_options, write_run
from tumorseg.stages.opening.stopping import is_stop_asked
from tumorseg.stages.training.calibrate import fit_to_hours, seconds_per_step
from tumorseg.stages.training.cascade import OutOfFold
from tumorseg.stages.training.fault_observers import EventFile, FaultyBatches
from tumorseg.stages.training.given_weights import Initial, check_same_weights
from tumorseg.stages.training.initial_weights import begin_with, check_weights_given
from tumorseg.stages.training.observers import Messages, StepBar
from tumorseg.stages.training.precision import as_computed, tell_emulation
from tumorseg.stages.training.request import TrainRequest
from tumorseg.stages.training.teachers import Teachers, check_same_teachers
from tumorseg.storage.atomic import remove_file
from tumorseg.storage.checkpoints import is_there, load_checkpoint
from tumorseg.storage.json_files import write_record
from tumorseg.storage.layout import FoldFolder
from tumorseg.tracking.epochs import truncate_epochs
from tumorseg.tracking.events import truncate_events
from tumorseg.tracking.pace import Pace
from tumorseg.tracking.progress import progress

logger = logging.getLogger(__name__)


class Job(NamedTuple):
    """A training that is asked for, and where it belongs."""

    request: TrainRequest
    name: str
    """Of the configuration."""
    device: str
    previous: OutOfFold | None
    """Of a cascade."""
    model: Path
    folder: FoldFolder
    ranks: Ranks
    """The processes that train together."""
    initial: Initial | None = None
    """Weights to begin with, if `--init` names any."""
    teachers: Teachers | None = None
    """Models that it learns from, if there are any."""


def begin(job: Job, run: Run, data: Data) -> Fit:
    """Resolve the plan, hours into iterations included, and write it before the first step."""
    plan = as_computed(resolve_options(job.request.plan, job.request.options), job.device, job.ranks)
    if plan.training.max_hours is not None:
        # With nothing frozen, as the steps after that take longer.
        unfrozen = plan.changed(training=plan.training.changed(fine_tuning=None))
        timed = build_fit(unfrozen, job, data)
        step_s = seconds_per_step(timed.learner, timed.feeds)  # changes the weights, which are built again below
        # Two networks would lie side by side; building torch's first optimizer leaves frames in a circle, which hold on to one.
        del timed
        gc.collect()
        training = fit_to_hours(plan.training, step_s, has_validation=data.validation is not None)
        plan = plan.changed(training=training)
        logger.info("%.3f s a step: %d epochs of %d", step_s, training.epochs, training.iterations_per_epoch)
    fit = build_fit(plan, job, data)
    taken = take_up_initial(fit, job, plan, run)
    if job.ranks.rank == 0:
        begin_environment(job.folder, job.device)
        if taken is not None:
            write_record(job.folder.init, taken)
        write_run(job.folder, plan, run)
    return fit


def go_on(job: Job, data: Data) -> Fit:
    """Take a training up where its latest checkpoint stands.

    Raises:
        PlanError: the folder's plan cannot be read.
        TrainingError: not all processes see the same plan and checkpoint.
        StorageError: the checkpoint is damaged, or no state of this training.
    """
    folder = job.folder
    plan = fold_plan(folder)
    tell_emulation(plan, job.device, job.ranks)
    fit = build_fit(plan, job, data)
    state = _saved_state(fit, folder.latest)
    # Killed while it began again with another seed.
    is_first_try = state is not None and state["progress"]["seed"] != plan.training.seed
    # Nothing is removed that another process is about to read.
    job.ranks.any(False)
    if is_first_try:
        state = None
        if job.ranks.rank == 0:
            forget_first_try(folder)
    if state is not None:
        fit.restore(state)
        logger.info("going on from iteration %d of %d", fit.progress.iteration, fit.num_iterations)
    check_same_place(fit, folder, job.ranks)
    if state is None:
        take_up_initial(fit, job, plan, read_run(folder))
    return fit


def _saved_state(fit: Fit, checkpoint: Path) -> dict[str, Any] | None:
    """Return the state that a checkpoint holds; None if there is none yet."""
    if not is_there(checkpoint):
        return None
    state = load_checkpoint(checkpoint)
    if (problem := state_problem(state, fit)) is not None:
        raise StorageError(
            f"is no checkpoint of a training of the plan beside it: {problem}; copy the fold's folder anew, or train with --restart",
            file=checkpoint,
        )
    return state


def check_same_place(fit: Fit, folder: FoldFolder, ranks: Ranks) -> None:
    """Check that all processes go on from the same place to the same end, before any of them has more to tell the others.

    Args:
        fit: of this process.
        folder: whose files it was taken from.
        ranks: the processes.

    Raises:
        TrainingError: they do not.
    """
    training = fit.training
    seen = (
        (folder.latest, fit.progress.iteration),
        (folder.plan, fit.num_iterations),
        # As the first one's value comes: a float, in which a large seed is not exact.
        (folder.plan, float(training.seed)),
    )
    for path, value in seen:
        if ranks.any(value != ranks.of_first(value)):
            raise TrainingError(f"{path}: not all processes see the same file; wait until it is the same everywhere")


def take_up_initial(fit: Fit, job: Job, plan: Plan, run: Run) -> InitialWeights | None:
    """Give a training that has no checkpoint yet the weights that `--init` names; None if it begins with those of the seed.

    Raises:
        PlanError: it was begun with given weights that are not given now, or nothing of them fits.
        TrainingError: not all processes read the same ones.
    """
    if job.initial is not None:
        check_same_weights(job.initial, job.ranks)
        return begin_with(fit.learner, job.initial, plan, configuration=job.name, fold=job.request.fold)
    if run.init is not None:
        raise PlanError(
            f"{job.folder.root} was begun with given weights and has no checkpoint yet; give the same --init again"
        )
    check_weights_given(plan, is_given=False)
    return None


def build_fit(plan: Plan, job: Job, data: Data) -> Fit:
    """Return the fit of a plan, at its beginning."""
    configuration, size = plan.configurations[job.name], job.ranks.size
    # One device takes the share of every GPU that the plan counts on and that is not here, by gradient accumulation.
    parts = -(-configuration.gradient_accumulation * plan.budget.num_gpus // size)
    configuration = configuration.changed(gradient_accumulation=parts)
    targets = targets_of(plan.dataset)
    learner = Learner(
        configuration,
        plan.training,
        num_channels=num_inputs(configuration, targets),
        targets=targets,
        device=job.device,
        ranks=job.ranks,
    )
    if job.teachers is not None:
        check_same_teachers(job.teachers, job.ranks)
        learner.teach(job.teachers.teaching(plan, configuration, learner))
    feeds = open_feeds(data, configuration, plan.training, learner, num_workers=job.request.num_workers)
    return Fit(learner, plan.training, feeds)


def run_fit(
    fit: Fit,
    folder: FoldFolder,
    keepers: Sequence[Observer],
    should_stop: Callable[[], bool],
    *,
    pace: Pace | None = None,
) -> bool:
    """Run to the planned end; False if asked to stop before it."""
    # The checkpoint makes an epoch count: a log that ran ahead of it when the run was killed is cut back.
    truncate_epochs(folder.log, fit.num_epochs_done)
    truncate_events(folder.events, fit.progress.iteration)
    logger.debug("patches are read by %d workers, %d batches ahead", *fit.feeds.reading)
    pace = pace or Pace(fit.num_iterations, fit.progress.iteration)
    with progress("train", fit.num_iterations, fit.progress.iteration, pace=pace) as advance:
        # What keeps checkpoints is last, as they make an epoch count.
        faults = (EventFile(folder), FaultyBatches(folder))
        length = fit.learner.optimisation.length
        bar = StepBar(advance, pace, length=length, iterations_per_epoch=fit.training.iterations_per_epoch)
        fit.observers = (bar, Messages(), *faults, *keepers)
        fit.should_stop, fit.should_leave = should_stop, is_stop_asked
        return fit.run()


def forget_first_try(folder: FoldFolder) -> None:
    """Remove the files of a first try, which are kept aside, from a fold's folder whose plan has another seed."""
    # The checkpoint last: its seed is what says that the others are of the first try.
    for path in (folder.best, folder.log, folder.progress, folder.latest):
        remove_file(path)
