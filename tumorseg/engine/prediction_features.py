"""What a prediction says of its own quality, gathered slice by slice, so that no probability is kept.

References:
    Roy et al. (2019). Bayesian QuickNAT: Model uncertainty in deep whole-brain segmentation for structure-wise quality control.
    NeuroImage 195. Agreement of samples as a measure of quality.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from tumorseg.engine.segmentation import SliceResult
from tumorseg.engine.uncertainty import entropy, probabilities
from tumorseg.schema.targets import Targets
from tumorseg.schema.trust import NameFeatures
from tumorseg.types import Segmentation, Spacing

DIGITS = 6
"""Of features: more would differ between processors."""


class _Sums(NamedTuple):
    """Over all slices so far, one number for each scored name (N,), float64."""

    probability: Tensor
    inside: Tensor
    """Of the probability within the mask."""
    voxels: Tensor
    """Of the mask."""
    votes: Tensor
    votes_inside: Tensor
    entropy: Tensor
    """Within the mask."""
    largest: Tensor
    """Probability of any voxel."""


class PredictionFeatures:
    """An observer of a segmentation that gathers the features of each label or region."""

    def __init__(self, targets: Targets, spacing_mm: Spacing) -> None:
        """Begin with nothing.

        Args:
            targets: what the K outputs of the slices mean.
            spacing_mm: voxel edges of the image.
        """
        self._targets = targets
        self._voxel_mm3 = math.prod(spacing_mm)
        # Labels have an output for the background, too.
        first = 0 if targets.has_regions else 1
        self._outputs = slice(first, first + len(targets.scored_names))
        self._values = [[targets.label_values[index] for index in classes] for classes in targets.scored_classes]
        self._start()

    def _start(self) -> None:
        self._last: int | None = None
        self._has_votes = True
        self._sums: _Sums | None = None

    def __call__(self, found: SliceResult) -> None:
        """Take a slice; where slices begin again, as memory ran out, what was gathered before is forgotten."""
        # They come in order, so that one which is no further than the last begins anew.
        if self._last is not None and found.position <= self._last:
            self._start()
        self._last = found.position
        self._has_votes &= found.votes is not None
        sums = self._slice_sums(found)
        if self._sums is not None:
            added = [before + now for before, now in zip(self._sums, sums, strict=True)]
            sums = _Sums(*added)._replace(largest=torch.maximum(self._sums.largest, sums.largest))
        self._sums = sums

    def _slice_sums(self, found: SliceResult) -> _Sums:
        shown = probabilities(found.logits, self._targets)[self._outputs]
        masks = np.stack([np.isin(found.values, values) for values in self._values])
        inside = torch.from_numpy(masks).to(shown.device)
        votes = torch.zeros_like(shown) if found.votes is None else found.votes[self._outputs].to(shown.device)
        unsure = entropy(found.logits, self._targets)[None]
        return _Sums(
            probability=_total(shown),
            inside=_total(shown * inside),
            voxels=_total(inside),
            votes=_total(votes),
            votes_inside=_total(votes * inside),
            entropy=_total(unsure * inside),
            largest=shown.flatten(1).amax(dim=1).double().cpu(),
        )

    def features(self, final: Segmentation | None = None) -> dict[str, NameFeatures]:
        """Return the features of each label or region; of an image without a slice, nothing was found of any.

        Args:
            final: (Z, Y, X), label values after postprocessing, in any orientation; None where there was none. A name that was found, but
                is not there, counts as not found.
        """
        names = self._targets.scored_names
        if self._sums is None:
            empty = NameFeatures(expected_dsc=None, agreement=None, entropy=None, volume_mm3=0, largest_probability=0)
            return dict.fromkeys(names, empty)
        columns = zip(*(sums.tolist() for sums in self._sums), strict=True)
        found = {name: self._features_of(_Numbers(*column)) for name, column in zip(names, columns, strict=True)}
        if final is None:
            return found
        values = dict(zip(names, self._values, strict=True))
        return {name: _afterwards(one, is_left=_holds(final, values[name])) for name, one in found.items()}

    def _features_of(self, sums: "_Numbers") -> NameFeatures:
        expected = agreement = unsure = None
        if sums.voxels:
            expected = _share(2 * sums.inside / (sums.probability + sums.voxels))
            unsure = _share(sums.entropy / sums.voxels)
            if self._has_votes:
                agreement = _share(2 * sums.votes_inside / (sums.votes + sums.voxels))
        return NameFeatures(
            expected_dsc=expected,
            agreement=agreement,
            entropy=unsure,
            volume_mm3=round(sums.voxels * self._voxel_mm3, DIGITS),
            largest_probability=_share(sums.largest),
        )


class _Numbers(NamedTuple):
    """`_Sums` of one name."""

    probability: float
    inside: float
    voxels: float
    votes: float
    votes_inside: float
    entropy: float
    largest: float


def _holds(segmentation: Segmentation, values: Sequence[int]) -> bool:
    # Slice by slice: mostly one of the first that is not empty tells.
    return any(np.isin(one, values).any() for one in segmentation)


def _afterwards(found: NameFeatures, *, is_left: bool) -> NameFeatures:
    """Return features, told what the final mask holds."""
    was_found = found.expected_dsc is not None
    if was_found == is_left:
        return found
    if is_left:
        return found.changed(by_postprocessing="added")
    return found.changed(expected_dsc=None, agreement=None, entropy=None, volume_mm3=0.0, by_postprocessing="removed")


def _total(values: Tensor) -> Tensor:
    """Return the sum over a slice of each name (N, rows, columns), on the CPU."""
    # In float64 already here: the sum of half a million float32 loses digits.
    return values.sum(dim=(1, 2), dtype=torch.float64).cpu()


def _share(value: float) -> float:
    return round(min(max(value, 0.0), 1.0), DIGITS)
