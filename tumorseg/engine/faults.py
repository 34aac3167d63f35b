"""Rules for what may befall a training, on plain values: what to do is decided here and nowhere else.

A gradient overflows now and then by design, where a gradient scaler looks for the largest scale that just fits. So such a
step is left out, and only many in a row, or an epoch without a finite loss, end a training. A loss that is not finite has
no such excuse. All processes of a training are given the same values, so all decide alike.
"""

import math
from collections.abc import Mapping
from enum import Enum
from typing import NamedTuple

MOST_SKIPPED = 32
"""Steps in a row whose loss or gradient may be other than finite: twice as many as a gradient scaler needs from its first
scale, 2^16, down to 1."""
MOST_LOST = 3
"""Steps in a row whose loss may be other than finite."""
LEAST_STEPS, LEAST_EPOCHS = 1000, 2
"""What half of a training has at least, or a label that is not found by then says nothing yet."""
WINDOW = 0.1
"""Share of the training, up to its half, in which is looked whether each label is found."""
LOOK_EVERY = 4
"""Steps of it of which one is looked at."""
LEAST_PATCHES = 20
"""Patches with a label that were looked at, or nothing is made of it."""
SEED_STEP = 1_000_003
"""From a seed to that of the second try: far, as users count up seeds to train again."""


class Action(Enum):
    """Action on a step, and on its training."""

    GO_ON = "go on"
    """All is well."""
    SKIP = "skip"
    """The step is left out; the training goes on."""
    STOP = "stop"
    """The step is left out, and the training ends with an error."""
    RESTART = "restart"
    """The training begins again with another seed."""
    TELL = "tell"
    """The training goes on, and says what is wrong."""


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
    num_lost: int = 0
    """Steps in a row whose loss was not finite, this one included."""


class Fault(NamedTuple):
    """A step that could not be taken."""

    loss: float
    iteration: int
    """From 0."""
    case_ids: tuple[str, ...]
    precision: str
    """In which the network ran."""


class Seen(NamedTuple):
    """What training patches have shown of a label or region."""

    num_hits: int
    """Voxels that are of it and were found to be."""
    num_patches: int
    """Patches with a voxel of it."""


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
    is_over = outcome.num_skipped >= most or outcome.num_lost >= MOST_LOST or is_epoch_lost
    return Action.STOP if is_over else Action.SKIP


def describe_fault(loss: float) -> str:
    """Return what was not finite in a step that could not be taken."""
    return "the gradient is not finite" if math.isfinite(loss) else f"the loss became {loss}"


def describe_stop(fault: Fault, num_skipped: int) -> str:
    """Return why a training ends with a step, and what to do.

    Args:
        fault: the step.
        num_skipped: steps in a row that were left out, this one included.
    """
    what = (
        f"{describe_fault(fault.loss)} at iteration {fault.iteration} on cases {', '.join(fault.case_ids)} (steps in a row that "
        f"were not taken: {num_skipped})"
    )
    remedy = ", or training.precision.cuda=bf16 or fp32" if fault.precision == "fp16" else ""
    if not math.isfinite(fault.loss):
        advice = f"look at these cases for extreme intensities (the training's folder keeps the batches in `faults`), or set a lower optimizer.lr{remedy}"
    elif remedy:
        advice = "fp16 cannot hold it, however low its scale: set training.precision.cuda=bf16 or fp32, or a lower optimizer.lr"
    else:
        advice = "look at these cases for extreme intensities, or set a lower optimizer.lr"
    return f"{what}; {advice}; earlier checkpoints are untouched"


def more_parts(num_parts: int, num_patches: int) -> int | None:
    """Return in how many parts a batch goes through the network once it did not fit the memory; None if it cannot be divided further.

    Args:
        num_parts: in which it did not fit.
        num_patches: of the batch, in the process that has most.
    """
    return None if num_parts >= num_patches else min(2 * num_parts, num_patches)


def collapse_window(epochs: int, iterations_per_epoch: int) -> range | None:
    """Return the steps in which is looked whether each label is found, up to half of a training; None if that is too short to tell.

    Args:
        epochs: of the training; the window ends with one of them.
        iterations_per_epoch: steps of each.
    """
    half = (epochs + 1) // 2
    end = half * iterations_per_epoch
    if half < LEAST_EPOCHS or end < LEAST_STEPS:
        return None
    return range(end - round(WINDOW * epochs * iterations_per_epoch), end)


def window_before_end(planned: range, start: int, end: int) -> range | None:
    """Return the steps in which is looked where a training ends sooner: up to that end, if it comes before the planned half.

    Args:
        planned: those of the planned training.
        start: first step of the tail with which the training ends.
        end: steps of the whole training.
    """
    if end >= planned.stop:
        return planned
    # As short as one that is not judged.
    return None if end < LEAST_STEPS else range(max(start, end - len(planned)), end)


def never_found(seen: Mapping[str, Seen]) -> tuple[str, ...]:
    """Return the labels and regions whose DSC over training patches is 0, of those that the patches really had."""
    lost = [name for name, found in seen.items() if found.num_patches >= LEAST_PATCHES and found.num_hits == 0]
    return tuple(sorted(lost))


def decide_collapse(num_lost: int, num_restarts_left: int) -> Action:
    """Return what to do where a number of labels and regions are not found after half of a training."""
    if num_lost == 0:
        return Action.GO_ON
    return Action.RESTART if num_restarts_left else Action.TELL


def next_seed(seed: int) -> int:
    """Return the seed of a training that begins again."""
    return (seed + SEED_STEP) % 2**63


class Collapsed(Exception):  # noqa: N818 (a decision)
    """A training is to begin again with another seed."""

    def __init__(self, names: tuple[str, ...], iteration: int) -> None:
        """Keep what was not found after how many steps."""
        super().__init__(names, iteration)
        self.names, self.iteration = names, iteration
