"""Observers of a training: log, checkpoints, progress bar. They see everything and decide nothing."""

from typing import Any, NamedTuple

from tumorseg.engine.learner import Inputs, StepResult
from tumorseg.schema.logs import EpochLog, TrainingEvent


class Step(NamedTuple):
    """A step that was taken, or left out."""

    iteration: int
    """From 0."""
    case_ids: tuple[str, ...]
    """Case of each patch."""
    result: StepResult
    inputs: Inputs | None = None
    """The whole batch, if its loss was not finite."""


class Observer:
    """Called in the course of a training; an observer defines those of the methods that matter to it."""

    def on_step(self, step: Step) -> None:
        """Hear of a step."""

    def on_fault(self, step: Step) -> None:
        """Hear, before `on_step`, of a step that was left out because loss or gradient was not finite."""

    def on_event(self, event: TrainingEvent) -> None:
        """Hear of what befell the training."""

    def on_epoch(self, log: EpochLog, state: dict[str, Any], is_best: bool) -> None:
        """Hear of the end of an epoch: its log, the full state, and whether this is the best epoch so far."""

    def on_stop(self, state: dict[str, Any]) -> None:
        """Hear that the training was told to stop, in the middle of an epoch or at its end; the full state."""
