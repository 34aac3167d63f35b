"""Losses of overlap: functions of intersections and sums of probabilities."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from tumorseg.losses.level import Level
from tumorseg.losses.statistics import Wanted
from tumorseg.schema.losses import DiceLoss, GeneralizedDiceLoss, JaccardLoss, OverlapLoss, TverskyLoss
from tumorseg.schema.targets import Targets

STRAIGHT_BELOW = 1e-6
"""Below this, a power is continued by a straight line: with an exponent under 1 its slope would be endless at 0."""


class Overlap(NamedTuple):
    """Mass of each class or region that counts: (B, K), or (K) over the whole batch."""

    intersection: Tensor
    """Probability where the reference has it."""
    predicted: Tensor
    """Probability anywhere, or its square."""
    reference: Tensor
    """Voxels of the reference."""


def overlap_of(level: Level, spec: OverlapLoss, *, squared: bool = False) -> Overlap:
    """Return the sums that an overlap loss counts."""
    sums, first = level.sums, 0 if spec.include_background or level.has_regions else 1
    chosen = (sums.intersection, sums.squared if squared else sums.predicted, sums.reference)
    kept = (values[:, first:] for values in chosen)
    return Overlap(*(values.sum(0) if spec.batch else values for values in kept))


def ratio(numerator: Tensor, denominator: Tensor) -> Tensor:
    """Return numerator / denominator, 1 where neither prediction nor reference has any mass."""
    # The branch that is not taken has a gradient too, which 0 / 0 would turn into NaN.
    return torch.where(denominator > 0, numerator / denominator.clamp(min=1e-8), 1.0)


def power(values: Tensor, exponent: float) -> Tensor:
    """Return values to a power, with a slope that stays finite at 0."""
    return values if exponent == 1 else values * values.clamp(min=STRAIGHT_BELOW) ** (exponent - 1)


class SoftDice(nn.Module):
    """1 minus the mean soft Dice coefficient of classes or regions.

    nnU-Net's MemoryEfficientSoftDiceLoss is this value minus 1. Where neither prediction nor reference has any mass,
    as in a patch without supervision, the coefficient is 1.

    References:
        Milletari et al., V-Net, 3DV 2016; Drozdzal et al., DLMIA 2016; Isensee et al., Nature Methods 2021.
    """

    def __init__(self, spec: DiceLoss, targets: Targets) -> None:
        super().__init__()
        self.spec = spec
        self.wanted = Wanted(overlap=True, squares=spec.denominator == "squared")

    def forward(self, level: Level) -> Tensor:
        """Return the loss of one resolution, a scalar."""
        found = overlap_of(level, self.spec, squared=self.wanted.squares)
        smooth = self.spec.smooth
        return 1 - ratio(2 * found.intersection + smooth, found.predicted + found.reference + smooth).mean()


class SoftJaccard(nn.Module):
    """1 minus the mean soft Jaccard index of classes or regions.

    References:
        Rahman and Wang, ISVC 2016.
    """

    def __init__(self, spec: JaccardLoss, targets: Targets) -> None:
        super().__init__()
        self.spec = spec
        self.wanted = Wanted(overlap=True, squares=spec.denominator == "squared")

    def forward(self, level: Level) -> Tensor:
        """Return the loss of one resolution, a scalar."""
        found = overlap_of(level, self.spec, squared=self.wanted.squares)
        union = found.predicted + found.reference - found.intersection
        return 1 - ratio(found.intersection + self.spec.smooth, union + self.spec.smooth).mean()


class GeneralizedDice(nn.Module):
    """1 minus one Dice coefficient over all classes or regions, each weighted by its size in the reference.

    A class that a sample (or batch) lacks weighs as much as the smallest that is there.

    References:
        Sudre et al., DLMIA 2017.
    """

    wanted = Wanted(overlap=True)

    def __init__(self, spec: GeneralizedDiceLoss, targets: Targets) -> None:
        super().__init__()
        self.spec = spec
        self._exponent = {"square": 2, "simple": 1, "uniform": 0}[spec.class_weighting]

    def forward(self, level: Level) -> Tensor:
        """Return the loss of one resolution, a scalar."""
        found = overlap_of(level, self.spec)
        weights = self._weights(found.reference)
        intersection, total = ((weights * values).sum(-1) for values in (found.intersection, found[1] + found[2]))
        return 1 - ratio(2 * intersection + self.spec.smooth, total + self.spec.smooth).mean()

    def _weights(self, reference: Tensor) -> Tensor:
        """Return weights as shares of the largest, so that `smooth` stays small against masses of any size."""
        # Infinite where nothing is there, so that no absent class is the smallest; if all are absent it is not used.
        smallest = torch.where(reference > 0, reference, torch.inf).amin(-1, keepdim=True)
        return torch.where(reference > 0, (smallest / reference.clamp(min=1)) ** self._exponent, 1.0)


class Tversky(nn.Module):
    """Mean over classes or regions of (1 minus the Tversky index) to the power gamma.

    References:
        Salehi et al., MLMI 2017; Abraham and Khan, ISBI 2019 (whose exponent is 1 / gamma, with alpha and beta in
        exchanged roles).
    """

    wanted = Wanted(overlap=True)

    def __init__(self, spec: TverskyLoss, targets: Targets) -> None:
        super().__init__()
        self.spec = spec

    def forward(self, level: Level) -> Tensor:
        """Return the loss of one resolution, a scalar."""
        spec, found = self.spec, overlap_of(level, self.spec)
        index = tversky_index(found, level.at(spec.alpha), level.at(spec.beta), spec.smooth)
        return power(1 - index, level.at(spec.gamma)).mean()


def tversky_index(found: Overlap, alpha: float, beta: float, smooth: float) -> Tensor:
    """Return the Tversky index of each class or region: intersection over itself, alpha false positives and beta misses."""
    false_positives, false_negatives = found.predicted - found.intersection, found.reference - found.intersection
    total = found.intersection + alpha * false_positives + beta * false_negatives + smooth
    return ratio(found.intersection + smooth, total)
