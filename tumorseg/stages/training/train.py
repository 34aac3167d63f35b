"""Train one fold: sequence preprocessing, the fit loop, its files, and validation."""

import logging
import signal
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from pydantic import Field

from tumorseg.engine.feed import Data, open_feeds
from tumorseg.engine.learner import Learner
from tumorseg.engine.loop import Fit
from tumorseg.engine.observers import Observer
from tumorseg.engine.ranks import ALONE, Ranks
from tumorseg.errors import TrainingError
from tumorseg.schema.base import Record
from tumorseg.schema.cases import preprocessing_of
from tumorseg.schema.metrics import MetricsReport
from tumorseg.schema.plan import Plan
from tumorseg.schema.targets import num_inputs, targets_of
from tumorseg.stages.opening.devices import choose_device
from tumorseg.stages.opening.environment import begin_environment
from tumorseg.stages.opening.fold_folders import (
    Run,
    TrainOptions,
    begin_run,
    check_begun,
    fold_plan,
    move_aside,
    resolve_options,
    write_run,
)
from tumorseg.stages.opening.loaded import Roots, choose_configuration, open_planned_dataset
from tumorseg.stages.training.calibrate import fit_to_hours, seconds_per_step
from tumorseg.stages.training.cascade import OutOfFold, keep_model, out_of_fold
from tumorseg.stages.training.mirroring import mirrored
from tumorseg.stages.training.observers import Checkpoints, LogFile, Messages, StepBar, StopCheckpoint
from tumorseg.stages.training.precision import as_computed, tell_emulation
from tumorseg.stages.training.preprocess import PreprocessRequest, StoredCases, preprocess
from tumorseg.stages.training.previous_segmentations import keep_previous
from tumorseg.stages.training.ranks import Watch, check_shares, joined, own_device
from tumorseg.stages.training.validate import ValidateRequest, validate
from tumorseg.storage.atomic import remove_leftovers
from tumorseg.storage.cases import CaseStore
from tumorseg.storage.checkpoints import load_checkpoint
from tumorseg.storage.layout import ALL_CASES, FoldFolder, fold_folder, is_fold_folder, work_folder
from tumorseg.storage.locks import hold_folder
from tumorseg.tracking.epochs import truncate_epochs
from tumorseg.tracking.progress import progress, set_quiet

logger = logging.getLogger(__name__)

BEGUN, NEW = "begun", "new"
"""What the first process tells the others: whether there is a training to go on with."""


class TrainRequest(Record):
    """Options of `train`."""

    roots: Roots = Roots()
    """Data and work folder."""
    plan: Plan
    """What to carry out."""
    fold: str
    """Number of the fold, or `all` for every case and no validation."""
    configuration: str | None = None
    """The plan's default if None."""
    options: TrainOptions = TrainOptions()
    """Overrides of the plan, resolved once into the fold's own plan."""
    device: str | None = None
    """`cpu`, `cuda`, `cuda:1`, …; the best there is if None."""
    restart: bool = False
    """Move an earlier training aside."""
    has_validation: bool = True
    """Whether the held-out cases are predicted at full resolution in the end."""
    dataset: str | None = None
    """Where the dataset is, if it moved."""
    jobs: int | None = None
    """Processes for preprocessing."""
    num_workers: int | None = Field(default=None, ge=0)
    """Threads that read and augment beside the steps; 0: each batch is read when it is needed; as many as cores and memory allow if
    None."""
    mlflow: str | None = None
    """Where the training is mirrored to, as MLflow takes it; nowhere if None."""


class Trained(NamedTuple):
    """Result of a training."""

    folder: FoldFolder
    is_finished: bool
    """False if a signal ended it early; the same command goes on."""
    metrics: MetricsReport | None
    """Of the held-out cases; None with `--fold all`, without validation, or if not finished."""


class _Job(NamedTuple):
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


def train(request: TrainRequest) -> Trained:
    """Train a fold to its planned end, going on from a checkpoint if there is one.

    As one of several processes that torchrun or `--num-gpus` started, train it together with the others.

    Raises:
        PlanError: no such fold or configuration, the folder holds another training, or a cascade's previous configuration
            is not trained.
        TrainingError: loss or gradient are not finite time after time, another process trains this fold now, or one of those
            that train together is lost.
        TumorsegError: a case cannot be preprocessed or predicted.
    """
    name, _ = choose_configuration(request.plan, request.configuration)
    run = begin_run(request.plan, name, request.fold, request.options)
    device = own_device(choose_device(request.device))
    model = work_folder(request.roots.work, request.plan.dataset.name).model(request.plan.name, name)
    previous = out_of_fold(request.plan, name, model)
    if previous is not None:
        run = run.changed(previous=previous.identity)
    folder = fold_folder(model, request.fold)
    with joined(device) as (ranks, watch):
        check_shares(request.plan.configurations[name].batch_size, ranks)
        job = _Job(request, name, device, previous, model, folder, ranks)
        return _lead(job, run, watch) if ranks.rank == 0 else _assist(job, run, watch)


def _lead(job: _Job, run: Run, watch: Watch | None) -> Trained:
    """Train, and write all files; the other processes are told when everything is ready for them."""
    request, folder = job.request, job.folder
    if not request.restart:
        check_begun(folder, run)  # before the work of preprocessing
    data = _open_data(request, job.name, job.previous)
    with hold_folder(folder.root, doing="trained", error=TrainingError):
        if request.restart:
            move_aside(folder)
        remove_leftovers(folder.root)
        if job.previous is not None:
            keep_model(job.previous, job.model)
        check_begun(folder, run)  # again, now that no other process can begin one
        is_begun = is_fold_folder(folder.root)
        if watch is not None:
            watch.tell(BEGUN if is_begun else NEW)
        fit = _continue(job, data) if is_begun else _begin(job, run, data)
        with mirrored(folder, request.roots, request.mlflow, request.dataset):
            with _stop_on_signal() as should_stop:
                is_finished = _run_fit(fit, folder, (LogFile(folder), Checkpoints(folder)), should_stop)
            if not is_finished:
                return Trained(folder, False, None)
            if not request.has_validation or request.fold == ALL_CASES:
                return Trained(folder, True, None)
            asked = ValidateRequest(roots=request.roots, model=folder.root, device=job.device, dataset=request.dataset)
            return Trained(folder, True, validate(asked))


def train_in_parts(request: TrainRequest, folder: FoldFolder, should_stop: Callable[[int], bool]) -> Generator[int]:
    """Train a fold in a folder of the caller's own, and stop with a checkpoint wherever the caller says so.

    Nothing is validated or mirrored, and no configuration may be a cascade. Drawn on, the training goes on where it stopped; so it does in
    another process that begins with the files of the folder.

    Args:
        request: what to train.
        folder: where.
        should_stop: is told the steps that are taken so far, after each one.

    Yields:
        Steps taken so far: before the first one of this process, at each stop, and at the planned end.

    Raises:
        PlanError: no such fold or configuration, or the folder holds another training.
        TrainingError: loss or gradient are not finite time after time, or another process trains here now.
        TumorsegError: a case cannot be preprocessed.
    """
    name, _ = choose_configuration(request.plan, request.configuration)
    run = begin_run(request.plan, name, request.fold, request.options)
    check_begun(folder, run)  # before the work of preprocessing
    data = _open_data(request, name, None)
    job = _Job(request, name, choose_device(request.device), None, folder.root.parent, folder, ALONE)
    with hold_folder(folder.root, doing="trained", error=TrainingError):
        remove_leftovers(folder.root)
        fit = _continue(job, data) if is_fold_folder(folder.root) else _begin(job, run, data)
        yield fit.progress.iteration
        keepers = (LogFile(folder, draws=False), StopCheckpoint(folder, fit.num_iterations))
        is_finished = False
        while not is_finished:
            is_finished = _run_fit(fit, folder, keepers, lambda: should_stop(fit.progress.iteration))
            yield fit.progress.iteration


def _assist(job: _Job, run: Run, watch: Watch | None) -> Trained:
    """Train with the first process, which says when and writes all files."""
    assert watch is not None  # a process alone is the first
    set_quiet(True)
    logging.getLogger("tumorseg").setLevel(logging.WARNING)
    is_begun = watch.hear() == BEGUN
    # Everything is there by now, so that this only looks.
    data = _open_data(job.request.changed(jobs=1), job.name, job.previous)
    fit = _continue(job, data) if is_begun else _begin(job, run, data)
    with _stop_on_signal() as should_stop:
        fit.should_stop = should_stop
        return Trained(job.folder, fit.run(), None)


def _open_data(request: TrainRequest, name: str, previous: OutOfFold | None) -> Data:
    """Fill the case store, and return the cases to train on and those that the fold holds out; `all` trains on every case used."""
    fields = {"roots": request.roots, "plan": request.plan, "dataset": request.dataset, "jobs": request.jobs}
    stored = preprocess(PreprocessRequest(configurations=(name,), **fields))[name]
    shown = None if previous is None else _keep_previous(request, name, stored, previous)
    if request.fold == ALL_CASES:
        return Data(CaseStore(stored.folder, stored.keys, shown), None)
    number = int(request.fold)
    held_out, others = set(request.plan.folds[number]), request.plan.not_trained_on(number)
    training = {case_id: key for case_id, key in stored.keys.items() if case_id not in others}
    validation = {case_id: key for case_id, key in stored.keys.items() if case_id in held_out}
    return Data(CaseStore(stored.folder, training, shown), CaseStore(stored.folder, validation, shown))


def _keep_previous(request: TrainRequest, name: str, stored: StoredCases, previous: OutOfFold) -> dict[str, str]:
    dataset = open_planned_dataset(request.plan, request.roots, request.dataset)
    spec = preprocessing_of(request.plan, request.plan.configurations[name])
    return keep_previous(dataset, stored, previous.files, spec, jobs=request.jobs)


def _begin(job: _Job, run: Run, data: Data) -> Fit:
    """Resolve the plan, hours into iterations included, and write it before the first step."""
    plan = as_computed(resolve_options(job.request.plan, job.request.options), job.device, job.ranks)
    fit = _build_fit(plan, job, data)
    if plan.training.max_hours is not None:
        step_s = seconds_per_step(fit.learner, fit.feeds)  # changes the weights, which are built again below
        training = fit_to_hours(plan.training, step_s, has_validation=data.validation is not None)
        plan = plan.changed(training=training)
        logger.info("%.3f s a step: %d epochs of %d", step_s, training.epochs, training.iterations_per_epoch)
        fit = _build_fit(plan, job, data)
    if job.ranks.rank == 0:
        begin_environment(job.folder, job.device)
        write_run(job.folder, plan, run)
    return fit


def _continue(job: _Job, data: Data) -> Fit:
    folder = job.folder
    plan = fold_plan(folder)
    tell_emulation(plan, job.device, job.ranks)
    fit = _build_fit(plan, job, data)
    if folder.latest.is_file():
        fit.restore(load_checkpoint(folder.latest))
        logger.info("going on from iteration %d of %d", fit.progress.iteration, fit.num_iterations)
    first = round(job.ranks.of_first(fit.progress.iteration))
    if job.ranks.any(fit.progress.iteration != first):
        raise TrainingError(
            f"{folder.latest}: not all processes see the same checkpoint; wait until the file is everywhere"
        )
    return fit


def _build_fit(plan: Plan, job: _Job, data: Data) -> Fit:
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


def _run_fit(fit: Fit, folder: FoldFolder, keepers: Sequence[Observer], should_stop: Callable[[], bool]) -> bool:
    """Run to the planned end; False if asked to stop before it."""
    # The checkpoint makes an epoch count: a log that ran ahead of it when the run was killed is cut back.
    truncate_epochs(folder.log, fit.progress.iteration // fit.training.iterations_per_epoch)
    logger.debug("patches are read by %d workers, %d batches ahead", *fit.feeds.reading)
    with progress("train", fit.num_iterations, fit.progress.iteration) as advance:
        # What keeps checkpoints is last, as they make an epoch count.
        fit.observers = (StepBar(advance, fit.training), Messages(), *keepers)
        fit.should_stop = should_stop
        return fit.run()


@contextmanager
def _stop_on_signal() -> Iterator[Callable[[], bool]]:
    """Turn SIGTERM into a wish to stop after the present step, where signals can be caught (the main thread)."""
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked.is_set
        return
    before = signal.signal(signal.SIGTERM, lambda *_: asked.set())
    try:
        yield asked.is_set
    finally:
        signal.signal(signal.SIGTERM, before)
