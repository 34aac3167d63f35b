"""What a study does next: trials as long as there is time for them, then the honest end.

All that it is told is on the disk, or in the storage, before it answers: a coordinator that is killed goes on where it was.
"""

import logging
from collections.abc import Sequence

from tumorseg.errors import PlanError, StorageError, TrainingError
from tumorseg.planning.memory.counting import MemoryCounter
from tumorseg.schema.quantities import duration_text, gb_text
from tumorseg.schema.tuning import Ended, FinalState, Score, Study, Task, Trial, TrialsSoFar, Values
from tumorseg.stages.tuning.judging import final_tasks
from tumorseg.stages.tuning.opening import Opened
from tumorseg.stages.tuning.study_clock import Reckoning, StudyClock
from tumorseg.storage.json_files import read_record, write_record
from tumorseg.storage.study_attempts import begun_attempts
from tumorseg.storage.study_folder import StudyFolder
from tumorseg.tracking.study_progress import Standing, Tell
from tumorseg.tuning.candidates import DEFAULT, MOST_CANDIDATES, choose_candidates
from tumorseg.tuning.engine import Asked, Engine
from tumorseg.tuning.objectives import is_better
from tumorseg.tuning.trial_plans import over_budget, trial_plan

logger = logging.getLogger(__name__)

MOST_UNFIT = 50
"""Trials in a row that cannot be run; then the space is at fault."""


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
        self._folder, self._study, self._plan = clock.folder, opened.study, opened.plan
        self._engine, self._counter, self._clock = engine, MemoryCounter(), clock
        self._num_workers, self._tell = num_workers, tell
        self._default_over_bytes: int | None = None
        trials = engine.trials()
        _check_storage(clock.folder, len(trials))
        _check_default(trials)

    def ask(self) -> Task | None:
        """Return the next task; None if there is none until one that runs has ended."""
        self._tell_standing()
        if self._clock.state.contenders is None:
            if self._has_time_for_trial():
                return self._next_trial()
            if self._engine.running():
                return None
            self._begin_end()
        return self._next_final()

    def running(self) -> Sequence[Task]:
        """Return the tasks that were given out and have not ended."""
        trials = [self._trial_task(number, values) for number, values in self._engine.running().items()]
        state = self._clock.state
        finals = [task for task in self._finals() if task.stem in state.finals and not state.finals[task.stem].is_over]
        return [*trials, *finals]

    def report(self, task: Task, index: int, score: Score) -> bool:
        """Take the score of a rung, and return whether to stop the task."""
        if task.number is None:
            self._clock.note_final(task.stem, FinalState(score=score))
            return False
        wants_stop = self._engine.report(task.number, index, score.values)
        self._clock.note_rung(task.number, index, score.seconds)
        self._write_trials()
        return wants_stop

    def end(self, task: Task, ended: Ended) -> None:
        """Take note that a task is over."""
        if task.number is None:
            known = self._clock.state.finals.get(task.stem, FinalState())
            self._clock.note_final(task.stem, known.changed(is_over=True, message=ended.message))
            logger.debug("%s: %s", task.stem, ended.message or ended.state)
            self._tell_standing()
            return
        if ended.state == "finished":
            self._engine.finish(task.number)
        elif ended.state == "stopped":
            self._engine.prune(task.number)
        else:
            self._engine.fail(task.number, ended.message)
        trials = self._write_trials()
        logger.debug("%s", _news(trials, task.number, self._study))
        self._tell_standing()
        _check_default(trials)
        if task.number == DEFAULT:
            self._warn_of_time()

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
        return tuple(by_number[number] for number in self._clock.state.contenders or ())

    def final_scores(self) -> dict[str, Score]:
        """Return the scores of the trainings that are judged, by stem."""
        return {stem: final.score for stem, final in self._clock.state.finals.items() if final.score is not None}

    def seconds(self) -> float:
        """Return the time that the study has been at work."""
        return self._clock.elapsed_s()

    def _tell_standing(self) -> None:
        """Tell how many trials, or trainings that judge, are over, and the best trial so far."""
        trials, left = self._engine.trials(), None if self._study.hours is None else max(self._left_s(), 0.0)
        best, name = _best(trials, self._study), self._study.objectives[0]
        told = "" if best is None else f"best {name} {_last(best):.4f} (trial {best.number})"
        if self._clock.state.contenders is None:
            over = self._num_counted(trials) - sum(trial.state == "running" for trial in trials)
            self._tell(Standing("trials", over, self._study.most_trials, told, left))
        else:
            over = sum(final.is_over for final in self._clock.state.finals.values())
            self._tell(Standing("judging", over, len(self._finals()), told, left))

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
        left_out = [number for number in failed if not begun_attempts(self._folder, _stem(number))]
        return len(trials) - len(left_out)

    def _warn_of_time(self) -> None:
        """Tell, once the first trial is over, if there is hardly time for another."""
        reckoned = self._reckoning()
        if self._left_s() <= reckoned.reserved_s + reckoned.trial_s:
            logger.warning(
                "--hours %g is too short to search: a trial takes %s, and judging %s; give more, or fewer --proxy-iterations",
                self._study.hours,
                duration_text(reckoned.trial_s),
                duration_text(reckoned.reserved_s),
            )

    def _next_trial(self) -> Task:
        """Return the next trial that can be run.

        Raises:
            PlanError: none of many can.
        """
        message = ""
        _check_failures(self._engine.trials())
        for _ in range(MOST_UNFIT):
            asked = self._engine.ask()
            task = self._trial_task(asked.number, asked.values)
            over_bytes, message = self._unfit(task)
            if not message:
                # Only now: killed before, the next coordinator asks for it and counts its memory again.
                self._engine.hand_out(asked.number)
                self._write_trials()
                return task
            logger.info("trial %d is left out: %s", asked.number, message)
            self._engine.fail(asked.number, message, max(over_bytes, 0))
            self._refuse_default(asked, message)
        raise PlanError(f"{MOST_UNFIT} trials in a row could not be run, the last one as {message}; narrow the space")

    def _unfit(self, task: Task) -> tuple[int, str]:
        """Return by how much a trial is over the memory budget, and why it cannot be run; nothing if it can."""
        try:
            over_bytes = over_budget(trial_plan(self._study, self._plan, task), self._counter)
            most = self._most_over_bytes()
        except PlanError as error:
            return 0, str(error)
        return over_bytes, f"it needs {gb_text(over_bytes)} more than the memory budget" if over_bytes > most else ""

    def _most_over_bytes(self) -> int:
        """Return what trials may take beyond the budget: nothing, unless the plan itself does, which was made so on purpose."""
        if self._default_over_bytes is None:
            self._default_over_bytes = over_budget(
                trial_plan(self._study, self._plan, self._trial_task(DEFAULT, {})), self._counter
            )
        return max(0, self._default_over_bytes)

    def _refuse_default(self, asked: Asked, message: str) -> None:
        if asked.number == DEFAULT:
            raise PlanError(f"the plan as it is cannot be trained shortly: {message}")

    def _trial_task(self, number: int, values: Values) -> Task:
        return Task(
            tumorseg_version=self._study.tumorseg_version,
            stem=_stem(number),
            number=number,
            values=values,
            seed=self._plan.training.seed,
            rungs=self._study.proxy.rungs,
        )

    def _begin_end(self) -> None:
        """Choose who is judged; from then on there are no further trials."""
        trials = self._engine.trials()
        most = min(MOST_CANDIDATES, max(1, self._reckoning().affordable(self._left_s()) - 1))
        candidates = choose_candidates(trials, self._study, self._engine.pareto(), most=most)
        numbers = tuple(trial.number for trial in candidates)
        logger.info("judged are the plan as it is and trials %s", ", ".join(map(str, numbers)) or "none")
        self._clock.note_contenders((DEFAULT, *numbers))

    def _finals(self) -> list[Task]:
        contenders = self.contenders()
        # Without a candidate there is nothing to hold the plan against.
        return [final.task for final in final_tasks(self._study, contenders)] if len(contenders) > 1 else []

    def _next_final(self) -> Task | None:
        for task in self._finals():
            if task.stem not in self._clock.state.finals and self._left_s() > 0:
                self._clock.note_final(task.stem, FinalState())
                return task
        return None

    def _write_trials(self) -> tuple[Trial, ...]:
        trials = self.trials()
        write_record(self._folder.trials, TrialsSoFar(trials=trials))
        return trials


def _stem(number: int) -> str:
    """Return the name of a trial's task."""
    return f"trial-{number:05d}"


def _check_default(trials: Sequence[Trial]) -> None:
    """Raise where the plan as it is has failed: there is nothing to hold trials against."""
    if trials and trials[DEFAULT].state == "failed":
        raise TrainingError(
            f"the plan as it is cannot be tuned, as its own trial failed: {trials[DEFAULT].message}; mend that, and begin another study "
            "with --study NAME"
        )


def _check_failures(trials: Sequence[Trial]) -> None:
    """Raise where one trial after the other has failed: it is no fault of theirs."""
    last = trials[-MOST_UNFIT:]
    if len(last) == MOST_UNFIT and all(trial.state == "failed" for trial in last):
        raise TrainingError(
            f"{MOST_UNFIT} trials in a row have failed, the last one: {last[-1].message}; mend that or narrow the space, and begin "
            "another study with --study NAME"
        )


def _check_storage(folder: StudyFolder, num_trials: int) -> None:
    """Raise where the storage is not the one that the study was begun with."""
    known = read_record(TrialsSoFar, folder.trials, error=StorageError).trials if folder.trials.is_file() else ()
    if len(known) > num_trials:
        raise StorageError(
            f"has {len(known)} trials, and the study's storage {num_trials}; give the --storage with which it was begun",
            file=folder.root,
        )


def _news(trials: Sequence[Trial], number: int, study: Study) -> str:
    """Return a line on a trial that has ended."""
    trial = trials[number]
    reached = (
        f"{study.objectives[0]} {_last(trial):.4f} after {trial.scores[-1].iteration} steps" if trial.scores else ""
    )
    return "; ".join(filter(None, [f"trial {number} {trial.state}", reached, trial.message]))


def _best(trials: Sequence[Trial], study: Study) -> Trial | None:
    """Return the finished trial that is best by the first objective."""
    best: Trial | None = None
    for one in trials:
        if one.state == "finished" and (best is None or is_better(study.objectives[0], _last(one), _last(best))):
            best = one
    return best


def _last(trial: Trial) -> float:
    """Return the first objective at the last rung."""
    return trial.scores[-1].values[0]
