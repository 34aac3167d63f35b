"""How well several opinions of one case agree, from volumes of probabilities that are read one by one."""

from collections.abc import Iterator, Sequence
from itertools import combinations
from statistics import fmean

import numpy as np
from numpy.typing import NDArray

from tumorseg.ops.quantised import STEPS, num_stored
from tumorseg.schema.targets import Targets
from tumorseg.storage.probability_cache import Volumes
from tumorseg.types import Mask, Segmentation


def decided(volumes: Volumes, targets: Targets) -> Segmentation:
    """Return the class indices (Z, Y, X) that probabilities decide for; of regions the labels that they are painted with."""
    if targets.has_regions:
        return _painted(volumes, targets)
    best = np.zeros(volumes.about.shape, np.int64)
    index, total = np.zeros(volumes.about.shape, np.int16), np.zeros(volumes.about.shape, np.int64)
    for number in range(num_stored(targets)):
        steps = volumes.volume(number).astype(np.int64)
        total += steps
        is_better = steps > best
        best[is_better], index[is_better] = steps[is_better], number + 1
    # The background has what the others leave.
    index[total + best <= STEPS] = 0
    return index


def _painted(volumes: Volumes, targets: Targets) -> Segmentation:
    index = np.zeros(volumes.about.shape, np.int16)
    for number, value in enumerate(targets.region_values):
        index[volumes.volume(number) > STEPS // 2] = targets.label_values.index(value)
    return index


def agreement(opinions: Sequence[Volumes], targets: Targets) -> float:
    """Return the mean DSC of all pairs of opinions over what either finds; 1 of a single one, and where none finds anything.

    Args:
        opinions: each of one teacher, on the student's grid.
        targets: what the volumes mean.
    """
    scores = []
    for one, other in combinations(opinions, 2):
        found = [_dice(mine, theirs) for mine, theirs in zip(_masks(one, targets), _masks(other, targets), strict=True)]
        known = [score for score in found if score is not None]
        scores.append(fmean(known) if known else 1.0)
    return fmean(scores) if scores else 1.0


def _masks(opinion: Volumes, targets: Targets) -> Iterator[Mask]:
    """Yield where each label or region is found."""
    if targets.has_regions:
        for number in range(num_stored(targets)):
            yield opinion.volume(number) > STEPS // 2
        return
    index = decided(opinion, targets)
    for number in range(1, targets.num_classes):
        yield index == number


def _dice(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> float | None:
    total = int(one.sum()) + int(other.sum())
    return 2 * int((one & other).sum()) / total if total else None
