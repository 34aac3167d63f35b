"""Seconds by part of a job."""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from time import perf_counter


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
