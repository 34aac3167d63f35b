"""What a study does next: trials as long as there is time for them, then the honest end.

All that it is told is on the disk, or in the storage, before it answers: a coordinator that is killed goes on where it was.
"""

import logging
from collections.abc import Sequence

from tumorseg.errors import PlanError
from tumorseg.schema.tuning import Ended, Score, Task, Trial, TrialsSoFar
from tumorseg.stages.tuning.honest_end import HonestEnd
from tumorseg.stages.tuning.opening import Opened
from tumorseg.stages.tuning.standing import best_words, news
from tumorseg.stages.tuning.study_checks import MOST_UNFIT, check_default, check_failures, check_storage, warn_of_time
from tumorseg.stages.tuning.study_clock import Reckoning, StudyClock
from tumorseg.stages.tuning.trial_tasks import TrialTasks, stem_of
from tumorseg.storage.json_files import write_record
from tumorseg.storage.study_attempts import begun_attempts
from tumorseg.tracking.study_progress import Standing, Tell
from tumorseg.tuning.candidates import DEFAULT
from tumorseg.tuning.engine import Engine

logger = logging.getLogger(__name__)


class StudyJudge:
    """A study's trials and its honest end, as the coordinator asks for them."""

    def __init__(
        self, opened: Opened, engine: Engine, clock: StudyClock, *, num_workers: int, tell: Tell = lambda _: None
    ) -> None:
        """Take up a study where it is.

        Args:
            opened: what it is.
            engine: its trials.
            clock: its time, which runs.
            num_workers: at once, to reckon with.
            tell: is told how the study stands.

        Raises:
            TrainingError: the plan as it is cannot be trained.
            StorageError: the storage lacks trials that the folder knows of, or the folder cannot be read.
        """
        self._folder, self._study = clock.folder, opened.study
        self._engine, self._clock = engine, clock
        self._tasks = TrialTasks(opened.study, opened.plan)
        self.final = HonestEnd(opened.study, engine, clock)
        self._num_workers, self._tell = num_workers, tell
        trials = engine.trials()
        check_storage(clock.folder, len(trials))
        check_default(trials)

    def ask(self) -> Task | None:
        """Return the next task; None if there is none until one that runs has ended."""
        self._tell_standing()
        if not self.final.has_begun:
            if self._has_time_for_trial():
                return self._next_trial()
            if self._engine.running():
                return None
            # From now on there are no further trials.
            self.final.begin(most=self._reckoning().affordable(self._left_s()) - 1)
        return self.final.next_task() if self._left_s() > 0 else None

    def running(self) -> Sequence[Task]:
        """Return the tasks that were given out and have not ended."""
        trials = [self._tasks.task(number, values) for number, values in self._engine.running().items()]
        return [*trials, *self.final.running()]

    def report(self, task: Task, index: int, score: Score) -> bool:
        """Take the score of a rung, and return whether to stop the task."""
        if task.number is None:
            self.final.report(task, score)
            return False
        wants_stop = self._engine.report(task.number, index, score.values)
        self._clock.note_rung(task.number, index, score.seconds)
        self._write_trials()
        return wants_stop

    def end(self, task: Task, ended: Ended) -> None:
        """Take note that a task is over."""
        if task.number is None:
            self.final.end(task, ended)
            self._tell_standing()
            return
        if ended.state == "finished":
            self._engine.finish(task.number)
        elif ended.state == "stopped":
            self._engine.prune(task.number)
        else:
            self._engine.fail(task.number, ended.message)
        trials = self._write_trials()
        logger.debug("%s", news(trials, task.number, self._study))
        self._tell_standing()
        check_default(trials)
        if task.number == DEFAULT:
            warn_of_time(self._reckoning(), self._left_s())

    def should_end(self, task: Task) -> bool:
        """Return whether the time for a task that runs is over."""
        self._clock.save_now_and_then()
        if self._study.hours is None:
            return False
        if task.number is None:
            return self._left_s() <= 0
        # The default is what all is held against; half of it would be of no use.
        is_default = task.number == DEFAULT
        return self._left_s() <= (0 if is_default else self._reckoning().reserved_s)

    def trials(self) -> tuple[Trial, ...]:
        """Return all trials, with what they took."""
        seconds = self._clock.state.rung_seconds
        return tuple(one.changed(seconds=sum(seconds.get(one.number, ()))) for one in self._engine.trials())

    def contenders(self) -> tuple[Trial, ...]:
        """Return the trials that are judged, the plan as it was first; none before the honest end."""
        by_number = {trial.number: trial for trial in self.trials()}
        return tuple(by_number[number] for number in self.final.contenders)

    def seconds(self) -> float:
        """Return the time that the study has been at work."""
        return self._clock.elapsed_s()

    def _tell_standing(self) -> None:
        """Tell how many trials, or trainings that judge, are over, and the best trial so far."""
        trials = self._engine.trials()
        left_s = None if self._study.hours is None else max(self._left_s(), 0.0)
        best = best_words(trials, self._study)
        if self.final.has_begun:
            self._tell(Standing("judging", *self.final.progress(), best, left_s))
        else:
            over = self._num_counted(trials) - sum(trial.state == "running" for trial in trials)
            self._tell(Standing("trials", over, self._study.most_trials, best, left_s))

    def _left_s(self) -> float:
        hours = self._study.hours
        return float("inf") if hours is None else 3600 * hours - self._clock.elapsed_s()

    def _reckoning(self) -> Reckoning:
        return Reckoning.of(self._study, self._clock.state.rung_seconds, self._num_workers)

    def _has_time_for_trial(self) -> bool:
        trials = self._engine.trials()
        if self._study.most_trials is not None and self._num_counted(trials) >= self._study.most_trials:
            return False
        reckoned = self._reckoning()
        return self._left_s() > reckoned.reserved_s + reckoned.trial_s

    def _num_counted(self, trials: Sequence[Trial]) -> int:
        """Return how many trials count against the limit: all but those that were left out, which cost nothing."""
        failed = [trial.number for trial in trials if trial.state == "failed"]
        left_out = [number for number in failed if not begun_attempts(self._folder, stem_of(number))]
        return len(trials) - len(left_out)

    def _next_trial(self) -> Task:
        """Return the next trial that can be run.

        Raises:
            PlanError: none of many can.
        """
        message = ""
        check_failures(self._engine.trials())
        for _ in range(MOST_UNFIT):
            asked = self._engine.ask()
            task = self._tasks.task(asked.number, asked.values)
            over_bytes, message = self._tasks.unfit(task)
            if not message:
                # Only now: killed before, the next coordinator asks for it and counts its memory again.
                self._engine.hand_out(asked.number)
                self._write_trials()
                return task
            logger.info("trial %d is left out: %s", asked.number, message)
            self._engine.fail(asked.number, message, max(over_bytes, 0))
            if asked.number == DEFAULT:
                raise PlanError(f"the plan as it is cannot be trained shortly: {message}")
        raise PlanError(f"{MOST_UNFIT} trials in a row could not be run, the last one as {message}; narrow the space")

    def _write_trials(self) -> tuple[Trial, ...]:
        trials = self.trials()
        write_record(self._folder.trials, TrialsSoFar(trials=trials))
        return trials
