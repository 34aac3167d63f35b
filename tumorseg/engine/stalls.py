"""Whether a training's loss has stalled."""

import math
from typing import Any


class StallWatch:
    """Holds the mean loss of each window of epochs against that of the window before.

    So one lucky epoch asks nothing of those after it, and a stall is found at most once a window, however noisy the loss.
    What counts as a fall is measured by the whole fall so far: a loss may be negative or near 0.
    """

    def __init__(self, *, patience: float, threshold: float, epochs: int) -> None:
        """Begin at a training's first epoch.

        Args:
            patience: length of a window, as a share of the epochs.
            threshold: share of the whole fall so far that each window must fall.
            epochs: of the planned training.
        """
        # Rounded up, as fewer epochs are noisier; the small number is for products like 0.1 * 30, just above 3.
        self._window = math.ceil(patience * epochs - 1e-9)
        self._threshold, self._sum = threshold, 0.0
        self._first: float | None = None
        self._last: float | None = None

    def has_stalled(self, epochs: int, loss: float) -> bool:
        """Add an epoch's mean loss; return whether a window ends with it over which the loss has fallen too little.

        Args:
            epochs: so far, this one included.
            loss: the epoch's mean.
        """
        self._sum += loss
        if epochs % self._window:
            return False
        mean, self._sum = self._sum / self._window, 0.0
        if self._first is None or self._last is None:
            self._first = self._last = mean
            return False
        # A loss that has risen since the first window has fallen by nothing: then any fall will do.
        so_far = max(0.0, self._first - self._last)
        is_stalled = not mean < self._last - self._threshold * so_far
        self._last = mean
        return is_stalled

    def state(self) -> dict[str, Any]:
        """Return what was seen so far."""
        return {"sum": self._sum, "first": self._first, "last": self._last}

    def restore(self, state: dict[str, Any]) -> None:
        """Take up what was seen."""
        self._sum, self._first, self._last = state["sum"], state["first"], state["last"]
