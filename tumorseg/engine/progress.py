"""Progress of a training and the scores of its epochs, in plain values that a checkpoint keeps."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from tumorseg.engine.learner import StepResult

BEST_DECAY = 0.9
"""Weight of the past in the running mean that decides the best epoch, as in nnU-Net."""


class EpochMeans(NamedTuple):
    """Mean training losses of an epoch, over steps whose loss was finite."""

    loss: float
    components: dict[str, float]
    """By name, in alphabetical order."""


@dataclass
class Progress:
    """State of a training between two steps; its fields are those of the checkpoint."""

    iteration: int = 0
    seed: int | None = None
    """Of the training; None before the first step."""
    losses: list[float] = field(default_factory=list)
    """Finite ones of the present epoch."""
    components: dict[str, float] = field(default_factory=dict)
    """Their sums in the present epoch."""
    running: float | None = None
    """Running mean of the validation DSC, or of the negative training loss."""
    best: float = -math.inf
    """Best value of it."""
    skipped: int = 0
    """Steps in a row, up to the latest, that were not taken."""
    skipped_in_epoch: int = 0
    """Steps of the present epoch that were not taken."""

    lost: int = 0
    """Steps in a row, up to the latest, whose loss was not finite."""
    division: int = 1
    """How many times the planned number of parts a batch goes through the network in."""
    seen: dict[str, list[int]] = field(default_factory=dict)
    """Of each label and region, up to half of the training: voxels that were found, and patches that had it."""

    def awaits_end(self, iterations_per_epoch: int) -> bool:
        """Return whether an epoch's steps are done, and the rest of it is not: held-out batches, log and checkpoints."""
        return bool(self.losses) and self.iteration % iterations_per_epoch == 0

    def add(self, result: StepResult) -> None:
        """Count a step; its loss counts if it is finite."""
        self.lost = 0 if math.isfinite(result.total) else self.lost + 1
        if math.isfinite(result.total):
            self.losses.append(result.total)
            for name, value in result.components.items():
                self.components[name] = self.components.get(name, 0.0) + value
        self.skipped = 0 if result.has_stepped else self.skipped + 1
        self.skipped_in_epoch += not result.has_stepped
        self.iteration += 1

    def means(self) -> EpochMeans:
        """Return the means of the present epoch so far, which has a finite loss."""
        count = len(self.losses)
        components = {name: total / count for name, total in sorted(self.components.items())}
        return EpochMeans(sum(self.losses) / count, components)

    def end_epoch(self, train_loss: float, dsc: Mapping[str, float | None] | None) -> bool:
        """Begin a new epoch; return whether the running mean of what makes an epoch good is the best so far.

        Args:
            train_loss: of the epoch, which decides where there are no held-out cases.
            dsc: of each label or region on held-out patches, None where there was nothing to score; None without held-out
                cases.
        """
        self.losses, self.components, self.skipped_in_epoch = [], {}, 0
        value = -train_loss if dsc is None else _mean_dsc(dsc)
        self.running = value if self.running is None else BEST_DECAY * self.running + (1 - BEST_DECAY) * value
        is_best = self.running > self.best
        self.best = max(self.best, self.running)
        return is_best


def _mean_dsc(dsc: Mapping[str, float | None]) -> float:
    """Return the mean of what could be scored."""
    values = [value for value in dsc.values() if value is not None]
    # Without anything to score, 0 is no reason to call an epoch the best.
    return sum(values) / len(values) if values else 0.0
