"""Train one fold: sequence preprocessing, the fit loop, its files, and validation."""

import logging

from tumorseg.engine.feed import Data
from tumorseg.engine.loop import Fit
from tumorseg.errors import Stopped, TrainingError
from tumorseg.stages.opening.devices import choose_device
from tumorseg.stages.opening.extending import check_epochs, make_longer
from tumorseg.stages.opening.fold_folders import Run, begin_run, check_begun, move_aside
from tumorseg.stages.opening.loaded import choose_configuration
from tumorseg.stages.opening.stopping import is_stop_asked, stop_on_signal
from tumorseg.stages.training.cascade import keep_model, out_of_fold
from tumorseg.stages.training.course import course_of
from tumorseg.stages.training.fitting import Job, begin, go_on, run_fit
from tumorseg.stages.training.fold_data import open_fold_data
from tumorseg.stages.training.given_weights import open_initial
from tumorseg.stages.training.initial_weights import check_fine_tuning, check_weights_given
from tumorseg.stages.training.mirroring import mirrored
from tumorseg.stages.training.observers import Checkpoints, EpochLines, LogFile
from tumorseg.stages.training.ranks import STOPPED, Watch, check_shares, joined, own_device
from tumorseg.stages.training.request import Trained, TrainRequest
from tumorseg.stages.training.restarting import run_watched
from tumorseg.stages.training.teachers import Teachers, check_teachers_given
from tumorseg.stages.training.validate import ValidateRequest, validate
from tumorseg.stages.watching.signs import Signs
from tumorseg.storage.atomic import remove_leftovers
from tumorseg.storage.layout import ALL_CASES, FoldFolder, fold_folder, is_fold_folder, work_folder
from tumorseg.storage.locks import hold_folder
from tumorseg.tracking.progress import set_quiet

BEGUN, NEW = "begun", "new"
"""What the first process tells the others: whether there is a training to go on with."""
SAID_BY_FIRST = ""
"""What one of the others says of what is kept: nothing, as the first process does."""


def train(request: TrainRequest, teachers: Teachers | None = None) -> Trained:
    """Train a fold to its planned end, going on from a checkpoint if there is one.

    As one of several processes that torchrun or `--num-gpus` started, train it together with the others.

    Args:
        request: what is asked for.
        teachers: models that it learns from, for a plan that says how.

    Raises:
        PlanError: no such fold or configuration, the folder holds another training, a cascade's previous configuration
            is not trained, the weights to begin with do not fit, or teachers are missing.
        TrainingError: loss or gradient are not finite time after time, another process trains this fold now, or one of those
            that train together is lost.
        TumorsegError: a case cannot be preprocessed or predicted.
    """
    name, configuration = choose_configuration(request.plan, request.configuration)
    check_fine_tuning(request.plan, configuration)
    check_teachers_given(request.plan, teachers)
    run = begin_run(request.plan, name, request.fold, request.options)
    device = own_device(choose_device(request.device))
    model = work_folder(request.roots.work, request.plan.dataset.name).model(request.plan.name, name)
    previous = out_of_fold(request.plan, name, model)
    if previous is not None:
        run = run.changed(previous=previous.identity)
    if teachers is not None:
        run = run.changed(teachers=teachers.notes, unlabelled=teachers.unlabelled)
    folder = fold_folder(model, request.fold)
    initial = None if request.init is None else open_initial(request.init, request.fold, own=folder.root)
    if initial is not None:
        run = run.changed(init=initial.digest)
    elif request.restart or not is_fold_folder(folder.root):
        check_weights_given(request.plan, is_given=False)  # before the work of preprocessing
    try:
        with stop_on_signal(), joined(device) as (ranks, watch):
            check_shares(request.plan.configurations[name].batch_size, ranks)
            job = Job(request, name, device, previous, model, folder, ranks, initial, teachers)
            return _lead(job, run, watch) if ranks.rank == 0 else _assist(job, run, watch)
    except Stopped as stopped:
        return Trained(folder, False, None, str(stopped))


def _lead(job: Job, run: Run, watch: Watch | None) -> Trained:
    """Train, and write all files; the other processes are told when everything is ready for them."""
    request, folder = job.request, job.folder
    has_validation = request.has_validation and request.fold != ALL_CASES
    with (
        hold_folder(folder.root, doing="trained", error=TrainingError),
        Signs(folder, has_validation=has_validation) as signs,
    ):
        if watch is not None:
            watch.on_loss = signs.fail
        data = _open_data(job, run, signs)
        if job.previous is not None:
            keep_model(job.previous, job.model)
        is_begun = is_fold_folder(folder.root)
        if is_begun:
            make_longer(folder, run)
        if watch is not None:
            watch.tell(BEGUN if is_begun else NEW)
        # Where a signal has ended one of the others before its first step; one that comes here is noticed there.
        if job.ranks.any(False):
            raise Stopped("one of the processes was stopped before its first step, and nothing is lost")
        first = [go_on(job, data) if is_begun else begin(job, run, data)]
        with mirrored(folder, request.roots, request.mlflow, request.dataset):
            run_watched(first, job, data, lambda fit: _run(fit, folder, signs))
            if not has_validation:
                signs.enter("finished")
                return Trained(folder, True, None)
            signs.enter("validating")
            asked = ValidateRequest(roots=request.roots, model=folder.root, device=job.device, dataset=request.dataset)
            metrics = validate(asked)
            signs.enter("finished")
            return Trained(folder, True, metrics)


def _open_data(job: Job, run: Run, signs: Signs) -> Data:
    """Preprocess, and leave the folder ready for the training: empty of an earlier one that is not asked for."""
    request, folder = job.request, job.folder
    # Before the first sign, which is a file that is written too.
    remove_leftovers(folder.root)
    if not request.restart:
        # Before the work of preprocessing.
        check_begun(folder, run)
        check_epochs(folder, run)
        signs.enter("preparing")
    data = _fold_data(job, request)
    if request.restart:
        # The earlier training stays where it is until the new one can begin, and keeps its own signs.
        move_aside(folder)
        signs.enter("preparing")
    return data


def _fold_data(job: Job, request: TrainRequest) -> Data:
    """Return the cases of a fold, with what teachers have to say of them."""
    data = open_fold_data(request, job.name, job.previous)
    if job.teachers is None:
        return data
    return job.teachers.extended(data, job.device, is_first=job.ranks.rank == 0)


def _run(fit: Fit, folder: FoldFolder, signs: Signs) -> None:
    """Train to the planned end.

    Raises:
        Stopped: asked to before it.
    """
    course = course_of(fit, folder)
    log_file = LogFile(folder, pace=course.pace)
    signs.train(*course, epoch_length=fit.training.iterations_per_epoch)
    lines = EpochLines(course.bests, course.pace, fit.training)
    try:
        # The lines first, as they know the best so far.
        keepers = (lines, signs, log_file, Checkpoints(folder))
        is_finished = run_fit(fit, folder, keepers, is_stop_asked, pace=course.pace)
    finally:
        log_file.draw()
    if not is_finished:
        raise Stopped(_kept(fit))


def _assist(job: Job, run: Run, watch: Watch | None) -> Trained:
    """Train with the first process, which says when and writes all files."""
    assert watch is not None  # a process alone is the first
    set_quiet(True)
    logging.getLogger("tumorseg").setLevel(logging.WARNING)
    told = watch.hear()
    if told == STOPPED:
        raise Stopped(SAID_BY_FIRST)
    # Everything is there by now, so that this only looks.
    try:
        data = _fold_data(job, job.request.changed(jobs=1))
    except Stopped:
        # Some were missing here, and the others wait for this process.
        job.ranks.any(True)
        raise Stopped(SAID_BY_FIRST) from None
    if job.ranks.any(False):
        raise Stopped(SAID_BY_FIRST)
    first = [go_on(job, data) if told == BEGUN else begin(job, run, data)]
    run_watched(first, job, data, _follow)
    return Trained(job.folder, True, None)


def _follow(fit: Fit) -> None:
    """Train as one of the others, which keep no files.

    Raises:
        Stopped: one of the processes was asked to.
    """
    fit.should_stop = fit.should_leave = is_stop_asked
    if not fit.run():
        raise Stopped(SAID_BY_FIRST)


def _kept(fit: Fit) -> str:
    done = fit.progress.iteration
    if done == 0:
        return "no step was taken yet, so there is no checkpoint"
    return f"a checkpoint after {done} of {fit.num_iterations} steps is kept"
