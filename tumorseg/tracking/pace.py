"""Pace: how fast steps are taken lately, and when the last one will be."""

import time
from collections import deque

from tumorseg.schema.quantities import duration_text


class Pace:
    """Number of steps done, and the time left at the pace of the latest ones.

    Steps that were finished before say nothing of the pace, unless it is known from a log how long they took.
    """

    def __init__(self, total: int, done: int = 0, *, span: int | None = None, usual_s: float | None = None) -> None:
        """Start the clock.

        Args:
            total: number of steps.
            done: steps that were finished before.
            span: how many of the latest steps tell the pace, such as those of an epoch, which has a validation in it; all of this
                run if None.
            usual_s: seconds that a step took before this run; counts for what this run's own steps lack to `span`.
        """
        self.total, self.count = total, done
        self._span, self._usual_s = span, usual_s
        self._began = time.monotonic()
        self._marks = deque([(done, self._began)])

    @property
    def seconds_left(self) -> float | None:
        """Return the time until the last step; None while nothing tells the pace."""
        left = max(self.total - self.count, 0)
        seconds = self._seconds_per_step()
        return None if seconds is None else seconds * left

    def step(self) -> str:
        """Count one more step and return the time that is left, or that was taken."""
        self.count += 1
        self._marks.append((self.count, time.monotonic()))
        # The oldest mark is where the span begins; without a span it is the start of this run.
        most = 2 if self._span is None else self._span + 1
        while len(self._marks) > most:
            del self._marks[1 if self._span is None else 0]
        return self.text()

    def text(self) -> str:
        """Return the time that is left, or that was taken, in words; nothing while nothing tells it."""
        if self.count >= self.total:
            return f"took {duration_text(time.monotonic() - self._began)}"
        left = self.seconds_left
        return "" if left is None else f"{duration_text(left)} left"

    def _seconds_per_step(self) -> float | None:
        (first, began), (last, ended) = self._marks[0], self._marks[-1]
        own = last - first
        if self._usual_s is None or self._span is None:
            return (ended - began) / own if own else None
        # Right after a resume the first steps, which wait for the readers, would promise years.
        known = max(self._span - own, 0)
        return (ended - began + known * self._usual_s) / (own + known)
