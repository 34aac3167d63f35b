"""One case under many choices: the candidates' probabilities in slabs, combined and decided as `predict` does it."""

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from math import prod
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from tumorseg.engine.combining import combined, decision_of
from tumorseg.engine.restoration import decide
from tumorseg.ops.choosing.protocol import Choice
from tumorseg.ops.cropping import box_shape, box_slices
from tumorseg.ops.quantised import restore
from tumorseg.schema.ensembles import Combination
from tumorseg.schema.targets import IGNORE, Targets
from tumorseg.storage.probability_cache import SLAB, Volumes
from tumorseg.types import Box, Segmentation

VOXELS_OF_A_SLAB = 1 << 20
"""About as many are looked at together, so that memory does not grow with the size of an image times its classes."""
IGNORED = 65535
"""Stands for `IGNORE` in the kept form of a reference."""


class Question(NamedTuple):
    """What all cases are asked."""

    own: tuple[Targets, ...]
    """What each candidate predicts."""
    wanted: Targets
    """What is scored."""

    @property
    def label_candidates(self) -> tuple[int, ...]:
        """Return the numbers of the candidates that predict labels where regions are scored."""
        differs = [targets.has_regions != self.wanted.has_regions for targets in self.own]
        return tuple(np.flatnonzero(differs).tolist())

    def targets_of(self, choice: Choice) -> Targets:
        """Return what an ensemble predicts: regions if one of its members does, else labels."""
        used = [self.own[number] for number in choice.used]
        return next((targets for targets in used if targets.has_regions), used[0])

    def combination_of(self, choice: Choice) -> Combination:
        """Return the record of a choice among its members.

        Where all members predict labels and regions are scored, they are combined as labels, which have one set of weights then and no
        thresholds: rows of names and thresholds of regions are not proposed for them (`label_candidates`).
        """
        targets = self.targets_of(choice)
        if targets.has_regions == self.wanted.has_regions:
            return choice.combination(self.wanted.scored_names)
        counts = tuple(choice.row(0)[number] for number in choice.used)
        weights = {} if len(set(counts)) == 1 else dict.fromkeys(targets.scored_names, tuple(map(float, counts)))
        return Combination(weights=weights, postprocessing=choice.steps)


class OpenCase(NamedTuple):
    """A case whose probabilities and reference can be read."""

    volumes: Mapping[int, Volumes]
    """By number of the candidate."""
    reference: Volumes
    """Class indices of what is scored, as kept."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """Return its voxels (Z, Y, X), as stored."""
        return self.reference.about.shape

    @property
    def whole(self) -> Box:
        """Return the box of all its voxels."""
        return tuple((0, size) for size in self.shape)

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Return its voxel edges in that order."""
        return self.reference.about.spacing_mm

    def window(self, candidates: Sequence[int]) -> Box:
        """Return the box outside of which neither these candidates nor the reference have anything."""
        boxes = [self.volumes[number].about.box for number in candidates]
        boxes.append(self.reference.about.box)
        filled = [box for box in boxes if 0 not in box_shape(box)]
        if not filled:
            return ((0, 0), (0, 0), (0, 0))
        return tuple((min(low for low, _ in axis), max(high for _, high in axis)) for axis in zip(*filled, strict=True))

    def reference_in(self, window: Box) -> Segmentation:
        """Return the class indices of the reference in a window; `IGNORE` where nothing is known."""
        found = np.asarray(self.reference.read(window)[0], np.int32)
        found[found == IGNORED] = IGNORE
        return found


class Slab:
    """Some planes of a case, whose probabilities are read when they are first asked for."""

    def __init__(self, case: OpenCase, window: Box, question: Question) -> None:
        """Take up the planes of a window."""
        self.window = window
        self._case, self._question = case, question
        self._known: dict[tuple[int, bool], Tensor] = {}

    @cached_property
    def reference(self) -> Segmentation:
        """Return the class indices (Z, Y, X) of the reference."""
        return self._case.reference_in(self.window)

    def logits(self, choice: Choice) -> Tensor:
        """Return what an ensemble says (K, Z, Y, X), without its thresholds."""
        targets, combination = self._question.targets_of(choice), self._question.combination_of(choice)
        members = [self._probabilities(number, targets) for number in choice.used]
        return combined(members, combination, targets)

    def values(self, choice: Choice) -> Segmentation:
        """Return the label values (Z, Y, X) that an ensemble decides for, without postprocessing."""
        targets, combination = self._question.targets_of(choice), self._question.combination_of(choice)
        logits, margins = self.logits(choice), decision_of(combination, targets).margins
        if margins:
            logits = logits - logits.new_tensor(margins).reshape(-1, 1, 1, 1)
        return decide(logits, targets)

    def _probabilities(self, number: int, targets: Targets) -> Tensor:
        key = number, targets.has_regions
        if key not in self._known:
            steps = self._case.volumes[number].read(self.window)
            self._known[key] = torch.from_numpy(restore(steps, self._question.own[number], targets))
        return self._known[key]


def slabs_of(case: OpenCase, window: Box, question: Question) -> Iterator[Slab]:
    """Yield a case's window in slabs along the first axis, as they are packed."""
    (first, last), *plane = window
    if 0 in box_shape(window):
        return
    count = max(1, VOXELS_OF_A_SLAB // (SLAB * prod(box_shape(tuple(plane)))))
    # Whole packs of planes, counted from the first plane of the image.
    start = first - first % SLAB
    for low in range(start, last, SLAB * count):
        planes = max(low, first), min(low + SLAB * count, last)
        yield Slab(case, (planes, *plane), question)


def paint(case: OpenCase, choices: Sequence[Choice], question: Question) -> list[Segmentation]:
    """Return the label values (Z, Y, X) of a whole case for each choice, without postprocessing."""
    window = case.window(sorted({number for choice in choices for number in choice.used}))
    painted: list[Segmentation | None] = [None] * len(choices)
    for slab in slabs_of(case, window, question):
        for place, choice in enumerate(choices):
            values = slab.values(choice)
            mask = painted[place]
            if mask is None:
                mask = painted[place] = np.zeros(case.shape, values.dtype)
            mask[box_slices(slab.window)] = values
    return [np.zeros(case.shape, np.uint8) if mask is None else mask for mask in painted]
