"""The trainings that judge: given out one after the other once there are no further trials."""

import logging
from collections.abc import Sequence

from tumorseg.schema.tuning import Ended, FinalState, Score, Study, Task
from tumorseg.stages.tuning.judging import final_tasks
from tumorseg.stages.tuning.study_clock import StudyClock
from tumorseg.tuning.candidates import DEFAULT, MOST_CANDIDATES, choose_candidates
from tumorseg.tuning.engine import Engine

logger = logging.getLogger(__name__)


class HonestEnd:
    """Who is judged, and how far their trainings are; all of it stands in the study's state."""

    def __init__(self, study: Study, engine: Engine, clock: StudyClock) -> None:
        """Take up what there is.

        Args:
            study: its folds, seeds and length.
            engine: its trials.
            clock: its state.
        """
        self._study, self._engine, self._clock = study, engine, clock

    @property
    def has_begun(self) -> bool:
        """Whether there are no further trials."""
        return self._clock.state.contenders is not None

    @property
    def contenders(self) -> tuple[int, ...]:
        """Numbers of the trials that are judged, the plan as it was first; none before it has begun."""
        return self._clock.state.contenders or ()

    def begin(self, *, most: int) -> None:
        """Choose who is judged.

        Args:
            most: candidates that there is time for; one at least is judged.
        """
        most = min(MOST_CANDIDATES, max(1, most))
        candidates = choose_candidates(self._engine.trials(), self._study, self._engine.pareto(), most=most)
        numbers = tuple(trial.number for trial in candidates)
        logger.info("judged are the plan as it is and trials %s", ", ".join(map(str, numbers)) or "none")
        self._clock.note_contenders((DEFAULT, *numbers))

    def next_task(self) -> Task | None:
        """Give out the next training; None if all are."""
        for task in self._tasks():
            if task.stem not in self._clock.state.finals:
                self._clock.note_final(task.stem, FinalState())
                return task
        return None

    def running(self) -> Sequence[Task]:
        """Return the trainings that were given out and have not ended."""
        known = self._clock.state.finals
        return [task for task in self._tasks() if task.stem in known and not known[task.stem].is_over]

    def report(self, task: Task, score: Score) -> None:
        """Take the score at the end of a training."""
        self._clock.note_final(task.stem, FinalState(score=score))

    def end(self, task: Task, ended: Ended) -> None:
        """Take note that a training is over."""
        known = self._clock.state.finals.get(task.stem, FinalState())
        self._clock.note_final(task.stem, known.changed(is_over=True, message=ended.message))
        logger.debug("%s: %s", task.stem, ended.message or ended.state)

    def scores(self) -> dict[str, Score]:
        """Return the scores of the trainings that reached their end, by stem."""
        return {stem: final.score for stem, final in self._clock.state.finals.items() if final.score is not None}

    def progress(self) -> tuple[int, int]:
        """Return how many trainings are over, and how many there are."""
        return sum(final.is_over for final in self._clock.state.finals.values()), len(self._tasks())

    def _tasks(self) -> list[Task]:
        numbers = self.contenders
        # Without a candidate there is nothing to hold the plan against.
        if len(numbers) < 2:
            return []
        by_number = {trial.number: trial for trial in self._engine.trials()}
        return [final.task for final in final_tasks(self._study, [by_number[number] for number in numbers])]
