"""Seconds by part of a job."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from threading import Lock
from time import perf_counter

from tumorseg.schema.logs import EpochSeconds


class Stopwatch:
    """Seconds that each part has taken; parts of several threads add up."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        """By the part's name."""
        self._lock = Lock()

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Count what runs meanwhile towards a part."""
        began = perf_counter()
        try:
            yield
        finally:
            self.add(name, perf_counter() - began)

    def add(self, name: str, seconds: float) -> None:
        """Count seconds that were measured elsewhere."""
        with self._lock:
            self.seconds[name] = self.seconds.get(name, 0.0) + seconds

    def lap(self) -> dict[str, float]:
        """Return what each part has taken, and begin again from nothing."""
        with self._lock:
            taken, self.seconds = self.seconds, {}
        return taken


class EpochClock:
    """The time of the thread that takes the steps, from one epoch's log to the next."""

    def __init__(self) -> None:
        self._own = Stopwatch()
        self._began = perf_counter()

    def begin(self) -> None:
        """Let the first epoch begin now."""
        self._began = perf_counter()

    def part(self, name: str) -> AbstractContextManager[None]:
        """Count what runs meanwhile as `step` or `validation`; all else is waiting."""
        return self._own.part(name)

    def lap(self, beside: Stopwatch) -> EpochSeconds:
        """Return where an epoch's time went, and begin the next one.

        Args:
            beside: of the threads that read, augment and transfer.
        """
        now = perf_counter()
        passed, self._began = now - self._began, now
        own, others = self._own.lap(), beside.lap()
        step, validation = own.get("step", 0.0), own.get("validation", 0.0)
        # All are differences of one clock; rounding alone could leave less than nothing.
        waiting = max(0.0, passed - step - validation)
        shares = {name: others.get(name, 0.0) for name in ("reading", "augmentation", "transfer")}
        return EpochSeconds(step=step, waiting=waiting, validation=validation, **shares)
