"""Train one fold: sequence preprocessing, the fit loop, its files, and validation."""

import logging
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from tumorseg.engine.feed import Data, open_feeds
from tumorseg.engine.learner import Learner
from tumorseg.engine.loop import Fit
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
    read_run,
    resolve_options,
    write_run,
)
from tumorseg.stages.opening.loaded import Roots, choose_configuration, open_planned_dataset
from tumorseg.stages.training.calibrate import fit_to_hours, seconds_per_step
from tumorseg.stages.training.cascade import OutOfFold, keep_model, out_of_fold
from tumorseg.stages.training.mirroring import mirrored
from tumorseg.stages.training.observers import Checkpoints, LogFile, Messages, StepBar
from tumorseg.stages.training.preprocess import PreprocessRequest, StoredCases, preprocess
from tumorseg.stages.training.previous_segmentations import keep_previous
from tumorseg.stages.training.validate import ValidateRequest, validate
from tumorseg.storage.atomic import remove_leftovers
from tumorseg.storage.cases import CaseStore
from tumorseg.storage.checkpoints import load_checkpoint
from tumorseg.storage.layout import ALL_CASES, FoldFolder, fold_folder, is_fold_folder, work_folder
from tumorseg.storage.locks import hold_folder
from tumorseg.tracking.epochs import truncate_epochs
from tumorseg.tracking.progress import progress

logger = logging.getLogger(__name__)


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
    mlflow: str | None = None
    """Where the training is mirrored to, as MLflow takes it; nowhere if None."""


class Trained(NamedTuple):
    """Result of a training."""

    folder: FoldFolder
    is_finished: bool
    """False if a signal ended it early; the same command goes on."""
    metrics: MetricsReport | None
    """Of the held-out cases; None with `--fold all`, without validation, or if not finished."""


def train(request: TrainRequest) -> Trained:
    """Train a fold to its planned end, going on from a checkpoint if there is one.

    Raises:
        PlanError: no such fold or configuration, the folder holds another training, or a cascade's previous configuration
            is not trained.
        TrainingError: loss or gradient are not finite time after time, or another process trains this fold now.
        TumorsegError: a case cannot be preprocessed or predicted.
    """
    name, _ = choose_configuration(request.plan, request.configuration)
    run = begin_run(request.plan, name, request.fold, request.options)
    device = choose_device(request.device)
    model = work_folder(request.roots.work, request.plan.dataset.name).model(request.plan.name, name)
    previous = out_of_fold(request.plan, name, model)
    if previous is not None:
        run = run.changed(previous=previous.identity)
    folder = fold_folder(model, request.fold)
    if not request.restart:
        check_begun(folder, run)  # before the work of preprocessing
    data = _open_data(request, name, previous)
    with hold_folder(folder.root, doing="trained", error=TrainingError):
        if request.restart:
            move_aside(folder)
        remove_leftovers(folder.root)
        if previous is not None:
            keep_model(previous, model)
        check_begun(folder, run)  # again, now that no other process can begin one
        is_begun = is_fold_folder(folder.root)
        fit = _continue(folder, data, device) if is_begun else _begin(request, run, folder, data, device)
        with mirrored(folder, request.roots, request.mlflow, request.dataset):
            if not _run_fit(fit, folder):
                return Trained(folder, False, None)
            if not request.has_validation or request.fold == ALL_CASES:
                return Trained(folder, True, None)
            asked = ValidateRequest(roots=request.roots, model=folder.root, device=device, dataset=request.dataset)
            return Trained(folder, True, validate(asked))


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


def _begin(request: TrainRequest, run: Run, folder: FoldFolder, data: Data, device: str) -> Fit:
    """Resolve the plan, hours into iterations included, and write it before the first step."""
    plan = resolve_options(request.plan, request.options)
    fit = _build_fit(plan, run.configuration, data, device)
    if plan.training.max_hours is not None:
        step_s = seconds_per_step(fit.learner, fit.feeds.training)  # changes the weights, which are built again below
        training = fit_to_hours(plan.training, step_s, has_validation=data.validation is not None)
        plan = plan.changed(training=training)
        logger.info("%.3f s a step: %d epochs of %d", step_s, training.epochs, training.iterations_per_epoch)
        fit = _build_fit(plan, run.configuration, data, device)
    begin_environment(folder, device)
    write_run(folder, plan, run)
    return fit


def _continue(folder: FoldFolder, data: Data, device: str) -> Fit:
    run = read_run(folder)
    fit = _build_fit(fold_plan(folder), run.configuration, data, device)
    if folder.latest.is_file():
        fit.restore(load_checkpoint(folder.latest))
        logger.info("going on from iteration %d of %d", fit.progress.iteration, fit.num_iterations)
    return fit


def _build_fit(plan: Plan, name: str, data: Data, device: str) -> Fit:
    configuration = plan.configurations[name]
    # One device takes the share of every GPU that the plan counts on, by gradient accumulation.
    parts = configuration.gradient_accumulation * plan.budget.num_gpus
    configuration = configuration.changed(gradient_accumulation=parts)
    targets = targets_of(plan.dataset)
    learner = Learner(
        configuration,
        plan.training,
        num_channels=num_inputs(configuration, targets),
        targets=targets,
        device=device,
    )
    return Fit(learner, plan.training, open_feeds(data, configuration, plan.training, learner))


def _run_fit(fit: Fit, folder: FoldFolder) -> bool:
    """Run to the planned end; False if a signal asked to stop before it."""
    # The checkpoint makes an epoch count: a log that ran ahead of it when the run was killed is cut back.
    truncate_epochs(folder.log, fit.progress.iteration // fit.training.iterations_per_epoch)
    with progress("train", fit.num_iterations, fit.progress.iteration) as advance, _stop_on_signal() as should_stop:
        fit.observers = (StepBar(advance, fit.training), LogFile(folder), Messages(), Checkpoints(folder))
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
