"""Refine a plan: trials, the honest end, and a child plan."""

import logging
import sys
from functools import partial
from pathlib import Path
from typing import NamedTuple

from tumorseg import __version__
from tumorseg.errors import PlanError, StorageError
from tumorseg.planning.memory.counting import MemoryCounter
from tumorseg.reports.tuning_page import tuning_page
from tumorseg.schema.plan import Plan
from tumorseg.schema.quantities import gb_text
from tumorseg.schema.tuning import TuningResult, Values
from tumorseg.stages.opening.devices import choose_device
from tumorseg.stages.opening.loaded import Roots, open_planned_dataset
from tumorseg.stages.planning.written_plans import Place, check_replaceable, check_writable
from tumorseg.stages.training.mirroring import mirrored
from tumorseg.stages.training.preprocess import PreprocessRequest, preprocess
from tumorseg.stages.tuning.child import write_child
from tumorseg.stages.tuning.coordinator import coordinate
from tumorseg.stages.tuning.judging import judge
from tumorseg.stages.tuning.local_workers import LocalWorkers
from tumorseg.stages.tuning.opening import Opened, open_study, study_folder
from tumorseg.stages.tuning.request import TuneRequest
from tumorseg.stages.tuning.study_clock import StudyClock
from tumorseg.stages.tuning.study_judge import StudyJudge
from tumorseg.stages.tuning.train_task import StudyContext, train_task
from tumorseg.stages.tuning.worker import work
from tumorseg.storage.atomic import write_text
from tumorseg.storage.json_files import read_record, write_record
from tumorseg.storage.layout import work_folder
from tumorseg.storage.locks import hold_folder
from tumorseg.storage.study_folder import StudyFolder, read_study
from tumorseg.tracking.study_progress import study_progress
from tumorseg.tuning.engine import Engine
from tumorseg.tuning.spaces import own_values

logger = logging.getLogger(__name__)

EXIT_RELEASED = 75
"""Of a worker that gave back what it did, as it was asked to leave."""


class Tuned(NamedTuple):
    """What came of a study."""

    output: Path
    """The child plan."""
    report: Path
    """The page to be read."""
    is_finished: bool
    """False if a signal ended it early; the same command goes on."""
    result: TuningResult | None
    """None if it is not finished."""


def tune(request: TuneRequest) -> Tuned:
    """Search, judge, and write a child plan; the same request goes on with what was begun.

    Raises:
        PlanError: what is asked for does not go with the plan, or the study's folder holds another one.
        StorageError: the storage does not answer, another process runs the study, or a folder cannot be written.
        TrainingError: the plan as it is cannot be trained, or workers end again and again.
        TumorsegError: cases cannot be preprocessed.
    """
    device = choose_device(request.device)
    folder = study_folder(request)
    _check_output(request, folder)
    with hold_folder(folder.root, doing="tuned", error=StorageError):
        clock = StudyClock(folder)
        opened = open_study(request, folder, device)
        _check_room(request, device)
        if folder.result.is_file():
            result = read_record(TuningResult, folder.result, error=StorageError)
            logger.info("%s is finished; --study NAME begins another", folder.root)
            return _written(request, folder, opened.plan, result)
        engine = Engine(opened.study, _own_values(opened), request.storage or str(folder.journal))
        _prepare(request, opened)
        with mirrored(folder, request.roots, request.mlflow, request.dataset), study_progress("tune") as tell:
            found = StudyJudge(opened, engine, clock, num_workers=request.jobs, tell=tell)
            crew = LocalWorkers(_worker_command(request, folder, device), request.jobs, folder)
            try:
                is_finished = coordinate(folder, found, crew)
            finally:
                clock.save()
            if not is_finished:
                return Tuned(request.output, folder.report, False, None)
            return _written(request, folder, opened.plan, _finish(folder, opened, engine, found))


def work_on(folder: Path, *, roots: Roots, device: str | None = None, dataset: str | None = None) -> int:
    """Work for a study that another process runs, until it is over.

    Args:
        folder: of the study.
        roots: data and work folder, which must be the ones that the study's coordinator has.
        device: the best there is if None.
        dataset: where the dataset is, if it moved.

    Returns:
        The exit code: 0, or 75 if this process was asked to leave.

    Raises:
        PlanError: the folder holds no study, or one of another version of tumorseg.
        StorageError: it cannot be written.
    """
    found = StudyFolder(folder)
    study = read_study(found, __version__)
    plan = read_record(Plan, found.plan, error=PlanError)
    # What is wrong with this machine is no fault of any trial.
    open_planned_dataset(plan, roots, dataset)
    context = StudyContext(study, plan, roots, choose_device(device), dataset)
    return 0 if work(found, partial(train_task, context)) else EXIT_RELEASED


def _place(request: TuneRequest, folder: StudyFolder) -> Place:
    return Place(request.output, work_folder(request.roots.work, request.plan.dataset.name), folder.plan)


def _check_output(request: TuneRequest, folder: StudyFolder) -> None:
    """Refuse now what would be refused after hours: a file that is not the study's own."""
    check_writable(request.output)
    if not request.force:
        check_replaceable(_place(request, folder))


def _check_room(request: TuneRequest, device: str) -> None:
    """Refuse more workers on one GPU than its memory holds, each of which may fill the plan's budget."""
    if device == "cpu" or request.jobs == 1:
        return
    import torch

    room, needed = torch.cuda.get_device_properties(device).total_memory, request.plan.budget.vram_bytes
    if request.jobs * needed > room:
        raise PlanError(
            f"--jobs {request.jobs}: each worker may take {gb_text(needed)}, and {device} has {gb_text(room)}; give fewer, plan for a "
            "smaller --vram, or start workers for other GPUs with --worker"
        )


def _own_values(opened: Opened) -> Values:
    return own_values(opened.study.space, opened.plan, opened.study.configuration)


def _prepare(request: TuneRequest, opened: Opened) -> None:
    """Fill the case store before several workers would."""
    names = (opened.study.configuration,)
    preprocess(
        PreprocessRequest(
            roots=request.roots,
            plan=opened.plan,
            configurations=names,
            dataset=request.dataset,
            # Trainings compare what they read.
            has_comparison=False,
        )
    )


def _worker_command(request: TuneRequest, folder: StudyFolder, device: str) -> list[str]:
    roots = request.roots
    command = [sys.executable, "-m", "tumorseg", "--data-root", str(roots.data_root), "--work", str(roots.work), "-q"]
    command += ["tune", "--worker", str(folder.root), "--device", device]
    return command + ([] if request.dataset is None else ["-d", request.dataset])


def _finish(folder: StudyFolder, opened: Opened, engine: Engine, found: StudyJudge) -> TuningResult:
    """Judge, and write what was found."""
    contenders, scores, trials = found.contenders(), found.final.scores(), found.trials()
    judgement = judge(opened.study, contenders, scores, opened.patients)
    result = TuningResult(
        study=opened.study,
        trials=trials,
        pareto=engine.pareto(),
        importances=engine.importances(),
        judged=judgement.judged,
        verdicts=judgement.verdicts,
        chosen=judgement.chosen,
        claim=judgement.claim,
        seconds=found.seconds(),
        worker_seconds=sum(trial.seconds for trial in trials) + sum(score.seconds for score in scores.values()),
    )
    write_text(folder.report, tuning_page(result, opened.plan, judgement.differences))
    # Last: with it the study is finished.
    write_record(folder.result, result)
    return result


def _written(request: TuneRequest, folder: StudyFolder, plan: Plan, result: TuningResult) -> Tuned:
    """Write the child plan; again, if it has gone since."""
    write_child(plan, result, place=_place(request, folder), counter=MemoryCounter(), force=request.force)
    return Tuned(request.output, folder.report, True, result)
