"""Train one fold: sequence preprocessing, the fit loop, its files, and validation."""

import logging

from tumorseg.errors import TrainingError
from tumorseg.stages.opening.devices import choose_device
from tumorseg.stages.opening.fold_folders import Run, begin_run, check_begun, move_aside
from tumorseg.stages.opening.loaded import choose_configuration
from tumorseg.stages.opening.stopping import stop_on_signal
from tumorseg.stages.training.cascade import keep_model, out_of_fold
from tumorseg.stages.training.fitting import Job, begin, go_on, run_fit
from tumorseg.stages.training.fold_data import open_fold_data
from tumorseg.stages.training.mirroring import mirrored
from tumorseg.stages.training.observers import Checkpoints, LogFile
from tumorseg.stages.training.ranks import Watch, check_shares, joined, own_device
from tumorseg.stages.training.request import Trained, TrainRequest
from tumorseg.stages.training.validate import ValidateRequest, validate
from tumorseg.storage.atomic import remove_leftovers
from tumorseg.storage.layout import ALL_CASES, fold_folder, is_fold_folder, work_folder
from tumorseg.storage.locks import hold_folder
from tumorseg.tracking.progress import set_quiet

BEGUN, NEW = "begun", "new"
"""What the first process tells the others: whether there is a training to go on with."""


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
        job = Job(request, name, device, previous, model, folder, ranks)
        return _lead(job, run, watch) if ranks.rank == 0 else _assist(job, run, watch)


def _lead(job: Job, run: Run, watch: Watch | None) -> Trained:
    """Train, and write all files; the other processes are told when everything is ready for them."""
    request, folder = job.request, job.folder
    if not request.restart:
        check_begun(folder, run)  # before the work of preprocessing
    data = open_fold_data(request, job.name, job.previous)
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
        fit = go_on(job, data) if is_begun else begin(job, run, data)
        with mirrored(folder, request.roots, request.mlflow, request.dataset):
            with stop_on_signal() as should_stop:
                is_finished = run_fit(fit, folder, (LogFile(folder), Checkpoints(folder)), should_stop)
            if not is_finished:
                return Trained(folder, False, None)
            if not request.has_validation or request.fold == ALL_CASES:
                return Trained(folder, True, None)
            asked = ValidateRequest(roots=request.roots, model=folder.root, device=job.device, dataset=request.dataset)
            return Trained(folder, True, validate(asked))


def _assist(job: Job, run: Run, watch: Watch | None) -> Trained:
    """Train with the first process, which says when and writes all files."""
    assert watch is not None  # a process alone is the first
    set_quiet(True)
    logging.getLogger("tumorseg").setLevel(logging.WARNING)
    is_begun = watch.hear() == BEGUN
    # Everything is there by now, so that this only looks.
    data = open_fold_data(job.request.changed(jobs=1), job.name, job.previous)
    fit = go_on(job, data) if is_begun else begin(job, run, data)
    with stop_on_signal() as should_stop:
        fit.should_stop = should_stop
        return Trained(job.folder, fit.run(), None)
