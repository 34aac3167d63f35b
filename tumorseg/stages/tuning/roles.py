"""What the coordinator of a study works with: who decides about tasks, and the workers that it has started itself."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from tumorseg.schema.tuning import Ended, Score, Task


class Judge(Protocol):
    """What decides which tasks there are, and what becomes of them. It remembers all that it was told, also when it is killed."""

    def ask(self) -> Task | None:
        """Return a task to be done; None if there is none until one of those that run has ended."""

    def running(self) -> Sequence[Task]:
        """Return the tasks that `ask` gave out and that have not ended."""

    def report(self, task: Task, index: int, score: Score) -> bool:
        """Take the score of a rung, counted from 0, and return whether to stop the task.

        After a restart rungs are told again, and get the same answer.
        """

    def end(self, task: Task, ended: Ended) -> None:
        """Take note that a task is over: finished, stopped or failed. After a restart it may be told again."""

    def should_end(self, task: Task) -> bool:
        """Return whether the time for a task that runs is over."""


class Death(NamedTuple):
    """A worker on this machine that has ended."""

    prefix: str
    """What its name begins with."""
    cause: str
    """One line."""


class Crew(Protocol):
    """The workers that the coordinator has started itself."""

    def tend(self, *, has_progress: bool) -> list[Death]:
        """Start those that are missing, and return those that have ended since the last time.

        Args:
            has_progress: whether any worker has got anywhere since the last time.

        Raises:
            TrainingError: they end again and again, without getting anywhere.
        """

    def num_alive(self) -> int:
        """Return how many there are now."""

    def owns(self, worker: str) -> bool:
        """Return whether a worker is one of them."""

    def kill(self, worker: str) -> None:
        """End a worker at once, if it is one of them."""

    def dismiss(self) -> None:
        """Have them leave, and wait until they have."""
