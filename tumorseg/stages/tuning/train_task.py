"""Train a task of a study from rung to rung, and score it at each."""

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from tumorseg.schema.plan import Plan
from tumorseg.schema.tuning import Score, Study, Task
from tumorseg.stages.opening.devices import choose_device
from tumorseg.stages.opening.loaded import Roots, open_planned_dataset
from tumorseg.stages.training.in_parts import train_in_parts
from tumorseg.stages.training.request import TrainRequest
from tumorseg.stages.tuning.score_cases import Asked, score_cases
from tumorseg.stages.tuning.worker import Attempt
from tumorseg.storage.layout import FoldFolder, is_fold_folder
from tumorseg.storage.linking import link_folder
from tumorseg.storage.study_folder import AttemptFolder
from tumorseg.tuning.objectives import objective_values
from tumorseg.tuning.trial_plans import trial_plan

CHECKPOINT_EVERY_S = 120.0
"""How much work is lost at most with a worker that dies between two rungs."""
INNER_FOLD = 0
"""The only fold of a trial."""


class StudyContext(NamedTuple):
    """What all tasks of a study share."""

    study: Study
    plan: Plan
    """That the study refines."""
    roots: Roots
    """Data and work folder; preprocessed cases are the dataset's own."""
    device: str | None = None
    """The best there is if None."""
    dataset: str | None = None
    """Where the dataset is, if it moved."""
    num_workers: int | None = None
    """Threads that read beside the steps; as many as cores and memory allow if None."""


class _Stops:
    """Where a training stops: at rungs, every now and then for the sake of a checkpoint, and when it is told to."""

    def __init__(self, rungs: tuple[int, ...], should_stop: Callable[[], bool]) -> None:
        self._rungs, self._should_stop = frozenset(rungs), should_stop
        self._last_s = time.monotonic()

    def __call__(self, num_done: int) -> bool:
        now = time.monotonic()
        is_due = num_done in self._rungs or now - self._last_s >= CHECKPOINT_EVERY_S
        if is_due:
            self._last_s = now
        return is_due or self._should_stop()


def train_task(context: StudyContext, task: Task, attempt: Attempt) -> Iterator[Score]:
    """Train and score a task, going on from a copy of an earlier attempt if there is one.

    A trial trains and is scored on the study's inner split; a training that is judged is scored on what its fold holds out. Rungs that an
    earlier attempt has told are not scored again. Told to stop, it leaves a checkpoint and yields nothing more.

    Args:
        context: the study, and where everything is.
        task: what to train.
        attempt: where.

    Yields:
        A score for each rung, ascending.

    Raises:
        PlanError: the task's values make the plan unsound, or the dataset is not what was planned.
        TrainingError: loss or gradient are not finite time after time, or cases cannot be predicted.
        TumorsegError: a case cannot be read, or the disk cannot be written.
    """
    began = time.perf_counter()
    left = [rung for rung in task.rungs if rung not in {score.iteration for score in attempt.scores}]
    if not left:
        return
    plan = trial_plan(context.study, context.plan, task)
    request = _request(context, plan, task)
    asked = _asked(context, request, attempt)
    folder = AttemptFolder(attempt.folder).fold
    _take_over(attempt.previous, folder)
    with closing(train_in_parts(request, folder, _Stops(task.rungs, attempt.should_stop))) as parts:
        for num_done in parts:
            if attempt.should_stop():
                return
            if num_done not in left:
                continue
            cases = score_cases(folder, asked)
            if cases is None:
                return
            left.remove(num_done)
            began, seconds = time.perf_counter(), time.perf_counter() - began
            values = objective_values(cases, asked.objectives)
            yield Score(iteration=num_done, values=values, cases=cases, seconds=seconds)
            if not left:
                return


def _request(context: StudyContext, plan: Plan, task: Task) -> TrainRequest:
    return TrainRequest(
        roots=context.roots,
        plan=plan,
        fold=str(INNER_FOLD if task.fold is None else task.fold),
        configuration=context.study.configuration,
        device=choose_device(context.device),
        dataset=context.dataset,
        num_workers=context.num_workers,
    )


def _asked(context: StudyContext, request: TrainRequest, attempt: Attempt) -> Asked:
    """Return what the training is asked at each rung: the cases that its fold holds out."""
    dataset = open_planned_dataset(request.plan, context.roots, context.dataset)
    held_out = set(request.plan.folds[int(request.fold)])
    return Asked(
        cases=[case for case in dataset.cases if case.case_id in held_out],
        objectives=context.study.objectives,
        device=str(request.device),
        masks=attempt.folder / "masks",
        should_stop=attempt.should_stop,
    )


def _take_over(previous: Path | None, folder: FoldFolder) -> None:
    """Begin with the files of an earlier attempt's training: links, as all of them are replaced and never written to."""
    if previous is None or not is_fold_folder(AttemptFolder(previous).fold.root):
        return
    before = AttemptFolder(previous).fold
    names = (before.plan, before.run, before.environment, before.log, before.latest)
    link_folder(folder.root, {path.name: path for path in names if path.is_file()})
