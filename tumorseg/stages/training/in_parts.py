"""Train a fold in parts, as whoever compares trainings says."""

from collections.abc import Callable, Generator

from tumorseg.engine.ranks import ALONE
from tumorseg.errors import TrainingError
from tumorseg.stages.opening.devices import choose_device
from tumorseg.stages.opening.fold_folders import begin_run, check_begun
from tumorseg.stages.opening.loaded import choose_configuration
from tumorseg.stages.training.fitting import Job, begin, go_on, run_fit
from tumorseg.stages.training.fold_data import open_fold_data
from tumorseg.stages.training.observers import LogFile, StopCheckpoint
from tumorseg.stages.training.request import TrainRequest
from tumorseg.storage.atomic import remove_leftovers
from tumorseg.storage.layout import FoldFolder, is_fold_folder
from tumorseg.storage.locks import hold_folder


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
    data = open_fold_data(request, name, None)
    job = Job(request, name, choose_device(request.device), None, folder.root.parent, folder, ALONE)
    with hold_folder(folder.root, doing="trained", error=TrainingError):
        remove_leftovers(folder.root)
        fit = go_on(job, data) if is_fold_folder(folder.root) else begin(job, run, data)
        yield fit.progress.iteration
        keepers = (LogFile(folder, draws=False), StopCheckpoint(folder, fit.num_iterations))
        is_finished = False
        while not is_finished:
            is_finished = run_fit(fit, folder, keepers, lambda: should_stop(fit.progress.iteration))
            yield fit.progress.iteration
