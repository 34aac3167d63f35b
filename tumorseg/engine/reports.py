"""What a training tells its observers of its steps and of what befell it, and its end if too much goes wrong."""

import math
import time
from collections.abc import Sequence

from tumorseg.engine.faults import (
    Action,
    Collapsed,
    Fault,
    Outcome,
    decide,
    decide_collapse,
    describe_fault,
    describe_stop,
)
from tumorseg.engine.learner import Learner
from tumorseg.engine.observers import Observer, Step
from tumorseg.engine.progress import Progress
from tumorseg.errors import TrainingError
from tumorseg.schema.logs import EventKind, TrainingEvent


class Reports:
    """Carries out what `engine.faults` decides about each step, and tells the observers."""

    def __init__(
        self, learner: Learner, iterations_per_epoch: int, observers: Sequence[Observer], progress: Progress
    ) -> None:
        """Begin where a training stands.

        Args:
            learner: takes the steps.
            iterations_per_epoch: steps of an epoch.
            observers: called in their order.
            progress: counts the steps.
        """
        self._learner, self._length = learner, iterations_per_epoch
        self._observers, self._progress = observers, progress

    def end_step(self, step: Step) -> None:
        """Count a step, report it, and end the training if too much went wrong.

        Raises:
            TrainingError: loss or gradient were not finite time after time.
        """
        progress, result = self._progress, step.result
        progress.add(result)
        outcome = Outcome(
            has_stepped=result.has_stepped,
            num_skipped=progress.skipped,
            num_planned=self._learner.optimisation.length.num_iterations,
            ends_epoch=progress.iteration % self._length == 0,
            has_finite_loss=bool(progress.losses),
            num_lost=progress.lost,
        )
        self._tell_division()
        action = decide(outcome)
        if action is not Action.GO_ON:
            self._tell_fault(step)
        if action is Action.STOP:
            fault = Fault(result.total, step.iteration, step.case_ids, self._learner.execution.precision)
            raise TrainingError(describe_stop(fault, progress.skipped))
        for observer in self._observers:
            observer.on_step(step._replace(inputs=None))

    def judge_labels(self, names: tuple[str, ...], num_restarts_left: int) -> None:
        """Begin again, or say so, if labels are never found.

        Args:
            names: of those labels and regions.
            num_restarts_left: how often the training may begin again.

        Raises:
            Collapsed: it is to begin again.
        """
        # Of one process, as all must do the same.
        num_lost = round(self._learner.ranks.of_first(len(names)))
        action = decide_collapse(num_lost, num_restarts_left)
        if action is Action.RESTART:
            raise Collapsed(names, self._progress.iteration)
        if action is Action.TELL:
            self.tell(
                "collapsed",
                f"never found in training patches by iteration {self._progress.iteration}: {', '.join(names)}",
            )

    def tell(self, kind: EventKind, message: str, case_ids: tuple[str, ...] = ()) -> None:
        """Report what befell the training."""
        iteration = self._progress.iteration
        event = TrainingEvent(kind=kind, iteration=iteration, message=message, case_ids=case_ids, at=time.time())
        for observer in self._observers:
            observer.on_event(event)

    def _tell_fault(self, step: Step) -> None:
        """Report a step that was left out; with the whole batch and as an event if its loss was not finite."""
        is_lost = not math.isfinite(step.result.total)
        assert step.inputs is not None
        # All processes come here, as each has a share of the batch.
        step = step._replace(inputs=self._learner.whole_batch(step.inputs) if is_lost else None)
        for observer in self._observers:
            observer.on_fault(step)
        if is_lost:
            message = f"iteration {step.iteration}: step not taken, as {describe_fault(step.result.total)}"
            self.tell("skipped", message, step.case_ids)

    def _tell_division(self) -> None:
        division = self._learner.division
        if division.factor != self._progress.division:
            self._progress.division = division.factor
            parts = f"batches go through the network in {division.num_parts} parts from now on"
            self.tell("divided", f"memory ran out: {parts}")
