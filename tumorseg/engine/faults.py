"""Rules for a step whose loss or gradient is not finite, on plain values.

A gradient overflows now and then by design, where a gradient scaler looks for the largest scale that just fits. So such a
step is left out, and only many in a row, or an epoch without a finite loss, end a training.
"""

import math
from enum import Enum
from typing import NamedTuple

MOST_SKIPPED = 32
"""Steps in a row whose loss or gradient may be other than finite: twice as many as a gradient scaler needs from its first
scale, 2^16, down to 1."""


class Action(Enum):
    """Action on a step, and on its training."""

    GO_ON = "go on"
    """The step is taken."""
    SKIP = "skip"
    """The step is left out; the training goes on."""
    STOP = "stop"
    """The step is left out, and the training ends with an error."""


class Outcome(NamedTuple):
    """A step, and how its training stands after it."""

    has_stepped: bool
    """Whether the step could be taken."""
    num_skipped: int
    """Steps in a row that were left out, this one included."""
    num_planned: int
    """Steps of the whole training."""
    ends_epoch: bool
    """Whether it is the last step of an epoch."""
    has_finite_loss: bool
    """Whether any step of the epoch, this one included, had a finite loss."""


def can_be_taken(loss: float, gradient_norms: list[float]) -> bool:
    """Return whether a step may change the weights: loss and gradient are finite."""
    return all(map(math.isfinite, (loss, *gradient_norms)))


def decide(outcome: Outcome) -> Action:
    """Return what to do about a step and its training."""
    if outcome.has_stepped:
        return Action.GO_ON
    # A training shorter than the bound ends once none of its steps could be taken.
    most = min(MOST_SKIPPED, outcome.num_planned)
    is_epoch_lost = outcome.ends_epoch and not outcome.has_finite_loss
    return Action.STOP if outcome.num_skipped >= most or is_epoch_lost else Action.SKIP


def describe_fault(loss: float) -> str:
    """Return what was not finite in a step that could not be taken."""
    return "the gradient is not finite" if math.isfinite(loss) else f"the loss became {loss}"
