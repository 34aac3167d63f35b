"""The coordinator of a study: it alone opens tasks, reads what workers answer, and tells whoever decides.

Everything that it knows stands in the folder and with the judge: one that was killed finds it there again. A worker is judged by its
counter and this process's clock, a task by the lines that were written, in their order, whenever they are read.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

from tumorseg.schema.tuning import Ended, Score, Task
from tumorseg.stages.tuning.beats import USUAL_PACE, Pace
from tumorseg.stages.tuning.leaving import leaving_on_signal
from tumorseg.stages.tuning.roles import Crew, Judge
from tumorseg.stages.tuning.roster import Roster
from tumorseg.storage.atomic import remove_leftovers
from tumorseg.storage.study_attempts import begun_attempts, checkpoint_time, read_ended, read_scores
from tumorseg.storage.study_folder import StudyFolder, close_study, reopen_study
from tumorseg.storage.study_tasks import (
    TaskFile,
    claimed_tasks,
    open_task,
    open_tasks,
    remove_task_files,
    settle_task,
)

MOST_LOST = 3
"""Workers that may be lost in a row over one task without reaching its next rung; then it is the task's fault."""


@dataclass
class _Running:
    """A task that was given out and has not ended."""

    task: Task
    attempt: int
    num_read: int = 0
    """Bytes of the present attempt's file of values."""
    num_reported: int = 0
    """Rungs."""
    num_lost: int = 0
    """Workers that were lost over it since its last rung, or its last checkpoint."""
    checkpoint_ns: int = 0
    """When the newest checkpoint was written that a lost worker left."""


def coordinate(
    folder: StudyFolder,
    judge: Judge,
    crew: Crew,
    *,
    pace: Pace = USUAL_PACE,
    clock: Callable[[], float] = time.monotonic,
) -> bool:
    """Have all tasks of a study done. The caller holds the study's folder, so that there is one coordinator.

    SIGTERM or Ctrl-C lets the crew give back what it does; other workers go on, and wait for the next coordinator.

    Args:
        folder: of the study.
        judge: gives out tasks, and is told what becomes of them.
        crew: workers on this machine.
        pace: how often to look, and when a worker is gone.
        clock: seconds since any moment; no other clock decides anything.

    Returns:
        True once there is no more to do, False if SIGTERM came first.

    Raises:
        TrainingError: the crew ends again and again.
        StorageError: the folder cannot be written, or is damaged.
    """
    with leaving_on_signal() as leave:
        try:
            coordinator = Coordinator(folder, judge, crew, pace=pace, clock=clock)
            while coordinator.step():
                if leave.is_asked:
                    return False
                time.sleep(pace.poll_s)
            close_study(folder)
        finally:
            crew.dismiss()
    return True


class Coordinator:
    """What runs, and which workers there are."""

    def __init__(
        self, folder: StudyFolder, judge: Judge, crew: Crew, *, pace: Pace, clock: Callable[[], float]
    ) -> None:
        """Find the tasks again that an earlier coordinator has given out; arguments as for `coordinate`.

        Raises:
            StorageError: the folder cannot be written.
        """
        self._folder, self._judge = folder, judge
        self._roster = Roster(folder, crew, pace=pace, clock=clock)
        self._running: dict[str, _Running] = {}
        self._has_progress = False
        # Whether the judge has said that it has no more until a task ends.
        self._is_dry = False
        reopen_study(folder)
        remove_leftovers(folder.open)
        self._find_again()

    def step(self) -> bool:
        """Look once at everything, and do what is to be done; False once all is done."""
        if self._running:
            self._roster.tend(has_progress=self._has_progress)
        self._has_progress = False
        claims = [file for file in claimed_tasks(self._folder) if self._is_current(file)]
        self._roster.look([file.worker for file in claims])
        for file in claims:
            # Before anything is made of a worker's death: what it wrote counts.
            self._read(self._running[file.stem])
            cause = self._roster.loss_of(file.worker)
            # What was read may have ended the task, or opened it again.
            if cause and self._is_current(file):
                self._lose(self._running[file.stem], cause)
        self._roster.forget_silent()
        for running in list(self._running.values()):
            if self._judge.should_end(running.task):
                self._end(running, Ended(state="stopped", message="the time was over"))
        return self._fill()

    def _find_again(self) -> None:
        """Take up what runs, and take back files of what has ended."""
        tasks = {task.stem: task for task in self._judge.running()}
        files = [*open_tasks(self._folder), *claimed_tasks(self._folder)]
        for stem in sorted({file.stem for file in files} - set(tasks)):
            settle_task(self._folder, stem)
        for stem in sorted(tasks):
            # Killed between two steps, a coordinator leaves a task with two files, of which the later counts, or with none.
            attempts = [file.attempt for file in files if file.stem == stem]
            number = max(attempts, default=None)
            if number is None:
                number = max(begun_attempts(self._folder, stem), default=-1) + 1
                open_task(self._folder, tasks[stem], number)
            remove_task_files(self._folder, stem, below=number)
            self._running[stem] = _Running(tasks[stem], number)

    def _is_current(self, file: TaskFile) -> bool:
        running = self._running.get(file.stem)
        return running is not None and running.attempt == file.attempt

    def _read(self, running: _Running) -> None:
        """Take in what a worker has written since the last time."""
        place = self._folder.attempt(running.task.stem, running.attempt)
        # Before the lines, which are written first: none is missed.
        ended = read_ended(place)
        scores, running.num_read = read_scores(place.values, running.num_read)
        for score in scores:
            if self._is_over(running, score):
                return
        if ended is None:
            return
        if ended.state == "released":
            self._open_again(running)
        elif ended.state == "finished":
            # All lines that there are have been read.
            self._lose(running, "scores of a task that had finished could not be read")
        else:
            self._end(running, ended)

    def _is_over(self, running: _Running, score: Score) -> bool:
        """Report a rung, and return whether the task is over with it."""
        rungs = running.task.rungs
        # Each attempt repeats the rungs of those before it, which were reported then.
        if score.iteration != rungs[running.num_reported]:
            return False
        wants_stop = self._judge.report(running.task, running.num_reported, score)
        running.num_reported += 1
        running.num_lost, self._has_progress = 0, True
        if running.num_reported == len(rungs):
            # At once, whatever becomes of its worker now.
            self._end(running, Ended(state="finished"))
        elif wants_stop:
            self._end(running, Ended(state="stopped"))
        return running.task.stem not in self._running

    def _lose(self, running: _Running, cause: str) -> None:
        left_ns = checkpoint_time(self._folder.attempt(running.task.stem, running.attempt))
        # A long way to a rung on machines that are taken away again and again is no fault of the task.
        if 0 < running.checkpoint_ns < left_ns:
            running.num_lost = 0
        running.checkpoint_ns = max(running.checkpoint_ns, left_ns)
        running.num_lost += 1
        if running.num_lost == MOST_LOST:
            self._end(
                running, Ended(state="failed", message=f"{MOST_LOST} workers in a row were lost over it: {cause}")
            )
        else:
            self._open_again(running)

    def _open_again(self, running: _Running) -> None:
        # The next file before the last one goes: a number that was given out never comes again.
        running.attempt += 1
        running.num_read = 0
        open_task(self._folder, running.task, running.attempt)
        remove_task_files(self._folder, running.task.stem, below=running.attempt)

    def _end(self, running: _Running, ended: Ended) -> None:
        # The judge first: if this process is killed in between, the files are taken back by the next one.
        self._judge.end(running.task, ended)
        del self._running[running.task.stem]
        settle_task(self._folder, running.task.stem)
        self._is_dry = False

    def _fill(self) -> bool:
        """Open a task for each worker that may take one; False if nothing runs any more and there is no more to do."""
        # One at least waits for whoever comes. No more than there are workers, so that the trials of one follow from each other.
        most = max(1, self._roster.num_alive())
        while len(self._running) < most and not self._is_dry:
            task = self._judge.ask()
            if task is None:
                self._is_dry = True
            else:
                open_task(self._folder, task, 0)
                self._running[task.stem] = _Running(task, 0)
        return bool(self._running)
