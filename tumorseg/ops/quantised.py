"""Probabilities as 16-bit integers that decide as the probabilities did.

A step is 1/65535. With labels the background is what the other classes leave, so that it is not stored; with regions each is stored.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tumorseg.schema.targets import Targets

STEPS = 65535
"""The largest stored value, which stands for 1."""
Steps = NDArray[np.uint16]


def num_stored(targets: Targets) -> int:
    """Return how many volumes are stored: one for each region, or for each label but the background."""
    return len(targets.scored_names)


def quantise(probabilities: NDArray[np.float32], decided: NDArray[Any], targets: Targets) -> Steps:
    """Return the stored form of probabilities; what is decided by it is what was decided by the logits.

    A rounding makes some classes equal that were not. There the one that was decided for takes as many steps from the one that would
    win as it needs, at most one for each class.

    Args:
        probabilities: (K, Y, X), as from `engine.uncertainty.probabilities`.
        decided: (Y, X), the likeliest class; of regions (K, Y, X) bool, whether each is more probable than a half.
        targets: what the K outputs mean.

    Returns:
        (S, Y, X), S regions, or labels without the background.
    """
    steps = np.rint(probabilities * np.float32(STEPS)).astype(np.int64)
    if targets.has_regions:
        half = STEPS // 2
        found = np.where(decided, np.maximum(steps, half + 1), np.minimum(steps, half))
        return np.asarray(found, np.uint16)
    steps[0] = STEPS - steps[1:].sum(axis=0)
    won = steps.argmax(axis=0)
    rows, columns = np.nonzero(won != decided)
    winner, chosen = won[rows, columns], decided[rows, columns]
    moved = steps[winner, rows, columns] - steps[chosen, rows, columns] + 1
    steps[chosen, rows, columns] += moved
    steps[winner, rows, columns] -= moved
    return np.asarray(steps[1:].clip(0, STEPS), np.uint16)


def restore(steps: Steps, own: Targets, wanted: Targets) -> NDArray[np.float32]:
    """Return the probabilities of stored volumes.

    Args:
        steps: (S, …), as from `quantise`.
        own: what they are of.
        wanted: what they shall be of: the same, or regions of the same labels.

    Returns:
        (K, …), those of classes with the background first; a region of labels has the sum of its classes.
    """
    if wanted.has_regions and not own.has_regions:
        # Rounded up, classes may come to a few steps more than there are.
        joined = [_sum_of(steps, classes) for classes in wanted.regions]
        return np.stack(joined).astype(np.float32) / np.float32(STEPS)
    if own.has_regions:
        return steps.astype(np.float32) / np.float32(STEPS)
    background = STEPS - _sum_of(steps, range(1, own.num_classes))
    return np.concatenate((background[None], steps)).astype(np.float32) / np.float32(STEPS)


def _sum_of(steps: Steps, classes: Any) -> NDArray[np.int64]:
    """Return what some classes come to, at most all there is; the background is not among them."""
    total = np.zeros(steps.shape[1:], np.int64)
    for index in classes:
        total += steps[index - 1]
    return np.minimum(total, STEPS)
