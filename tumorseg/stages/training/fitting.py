"""The fit of a fold: begun from its plan, gone on with from its checkpoint, and run with what keeps its files."""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from tumorseg.engine.feed import Data, open_feeds
from tumorseg.engine.learner import Learner
from tumorseg.engine.loop import Fit
from tumorseg.engine.observers import Observer
from tumorseg.engine.ranks import Ranks
from tumorseg.errors import TrainingError
from tumorseg.schema.plan import Plan
from tumorseg.schema.targets import num_inputs, targets_of
from tumorseg.stages.opening.environment import begin_environment
from tumorseg.stages.opening.fold_folders import Run, fold_plan, resolve_options, write_run
from tumorseg.stages.training.calibrate import fit_to_hours, seconds_per_step
from tumorseg.stages.training.cascade import OutOfFold
from tumorseg.stages.training.observers import Messages, StepBar
from tumorseg.stages.training.precision import as_computed, tell_emulation
from tumorseg.stages.training.request import TrainRequest
from tumorseg.storage.checkpoints import load_checkpoint
from tumorseg.storage.layout import FoldFolder
from tumorseg.tracking.epochs import truncate_epochs
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


def begin(job: Job, run: Run, data: Data) -> Fit:
    """Resolve the plan, hours into iterations included, and write it before the first step."""
    plan = as_computed(resolve_options(job.request.plan, job.request.options), job.device, job.ranks)
    fit = _build(plan, job, data)
    if plan.training.max_hours is not None:
        step_s = seconds_per_step(fit.learner, fit.feeds)  # changes the weights, which are built again below
        training = fit_to_hours(plan.training, step_s, has_validation=data.validation is not None)
        plan = plan.changed(training=training)
        logger.info("%.3f s a step: %d epochs of %d", step_s, training.epochs, training.iterations_per_epoch)
        fit = _build(plan, job, data)
    if job.ranks.rank == 0:
        begin_environment(job.folder, job.device)
        write_run(job.folder, plan, run)
    return fit


def go_on(job: Job, data: Data) -> Fit:
    folder = job.folder
    plan = fold_plan(folder)
    tell_emulation(plan, job.device, job.ranks)
    fit = _build(plan, job, data)
    if folder.latest.is_file():
        fit.restore(load_checkpoint(folder.latest))
        logger.info("going on from iteration %d of %d", fit.progress.iteration, fit.num_iterations)
    first = round(job.ranks.of_first(fit.progress.iteration))
    if job.ranks.any(fit.progress.iteration != first):
        raise TrainingError(
            f"{folder.latest}: not all processes see the same checkpoint; wait until the file is everywhere"
        )
    return fit


def _build(plan: Plan, job: Job, data: Data) -> Fit:
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
    feeds = open_feeds(data, configuration, plan.training, learner, num_workers=job.request.num_workers)
    return Fit(learner, plan.training, feeds)


def run_fit(fit: Fit, folder: FoldFolder, keepers: Sequence[Observer], should_stop: Callable[[], bool]) -> bool:
    """Run to the planned end; False if asked to stop before it."""
    # The checkpoint makes an epoch count: a log that ran ahead of it when the run was killed is cut back.
    truncate_epochs(folder.log, fit.progress.iteration // fit.training.iterations_per_epoch)
    logger.debug("patches are read by %d workers, %d batches ahead", *fit.feeds.reading)
    with progress("train", fit.num_iterations, fit.progress.iteration) as advance:
        # What keeps checkpoints is last, as they make an epoch count.
        fit.observers = (StepBar(advance, fit.training), Messages(), *keepers)
        fit.should_stop = should_stop
        return fit.run()
