"""An epoch in one line: loss, DSC by class with the best so far, and what went wrong."""

from collections.abc import Mapping, Sequence

from tumorseg.schema.logs import EpochLog
from tumorseg.schema.quantities import bytes_text

MOST_NAMED = 4
"""Of more labels or regions, a line has the mean and the worst."""
NUM_WORST = 3
NOTHING = "–"

Scores = Mapping[str, float | None]
"""DSC by label or region; None where there was nothing to score."""


class Bests:
    """The best loss and the best DSC of all epochs so far."""

    def __init__(self) -> None:
        """Begin before the first epoch."""
        self.loss: float | None = None
        self.dsc: dict[str, float] = {}
        self.mean: float | None = None

    def add(self, train_loss: float, dsc: Scores) -> None:
        """Take in an epoch."""
        self.loss = train_loss if self.loss is None else min(self.loss, train_loss)
        for name, value in dsc.items():
            if value is not None:
                self.dsc[name] = max(value, self.dsc.get(name, value))
        mean = mean_dsc(dsc)
        if mean is not None:
            self.mean = mean if self.mean is None else max(self.mean, mean)


def mean_dsc(dsc: Scores) -> float | None:
    """Return the mean of what could be scored; None if nothing could."""
    known = [value for value in dsc.values() if value is not None]
    return sum(known) / len(known) if known else None


def epoch_line(log: EpochLog, bests: Bests, *, num_epochs: int, left: str) -> str:
    """Return the line about an epoch.

    Args:
        log: of the epoch.
        bests: of all epochs, this one included.
        num_epochs: planned.
        left: the time until the planned end, in words.
    """
    parts = [
        f"epoch {log.epoch + 1}/{num_epochs}",
        f"loss {log.train_loss:.3f} (best {bests.loss:.3f})",
        dsc_text(log.dsc, bests),
        f"lr {log.lr:.2g}",
        f"waiting {100 * log.data_wait_fraction:.1f} %",
        f"{log.num_skipped} skipped" if log.num_skipped else "",
        f"batch in {log.num_parts} parts" if log.num_parts > 1 else "",
        bytes_text(log.memory_bytes),
        left,
    ]
    return "  ".join(filter(None, parts))


def dsc_text(dsc: Scores, bests: Bests) -> str:
    """Return present and best DSC by class in a few words; of many classes the mean and the worst; nothing without any."""
    mean = mean_dsc(dsc)
    if mean is None:
        return ""
    if len(dsc) <= MOST_NAMED:
        named = [f"{name} {_pair(value, bests.dsc.get(name))}" for name, value in dsc.items()]
        return f"dsc {' '.join(named)}"
    worst = [f"{name} {score_text(dsc[name])}" for name in worst_classes(dsc)]
    return f"dsc mean {_pair(mean, bests.mean)}, worst {', '.join(worst)}"


def worst_classes(dsc: Scores, most: int = NUM_WORST) -> Sequence[str]:
    """Return the classes with the lowest DSC, the worst first."""
    known = {name: value for name, value in dsc.items() if value is not None}
    return sorted(known, key=lambda name: known[name])[:most]


def score_text(value: float | None) -> str:
    """Return a DSC with two decimals and no zero in front: `.91`; a dash for None."""
    return NOTHING if value is None else f"{value:.2f}".removeprefix("0")


def _pair(value: float | None, best: float | None) -> str:
    return f"{score_text(value)} ({score_text(best)})"
