"""Soft Dice loss without a one-hot reference."""

from typing import Any

import torch
from torch import Tensor, nn

from tumorseg.losses.level import Level
from tumorseg.schema.losses import DiceLoss
from tumorseg.schema.targets import Targets


class SoftDice(nn.Module):
    """1 minus the mean soft Dice coefficient of classes or regions.

    nnU-Net's MemoryEfficientSoftDiceLoss is this value minus 1. Where neither prediction nor reference has any mass,
    as in a patch without supervision, the coefficient is 1.

    References:
        Milletari et al., V-Net, 3DV 2016; Drozdzal et al., DLMIA 2016; Isensee et al., Nature Methods 2021.
    """

    def __init__(self, spec: DiceLoss, targets: Targets) -> None:
        super().__init__()
        self.smooth = spec.smooth
        self.batch = spec.batch
        self.has_regions = targets.has_regions
        self.first_class = 0 if spec.include_background or targets.has_regions else 1

    def forward(self, level: Level) -> Tensor:
        """Return the loss of one resolution, a scalar."""
        sums = _region_sums(level) if self.has_regions else _class_sums(level)
        intersection, predicted, reference = (value[:, self.first_class :] for value in sums)
        if self.batch:
            intersection, predicted, reference = intersection.sum(0), predicted.sum(0), reference.sum(0)
        total = predicted + reference + self.smooth
        dice = (2 * intersection + self.smooth) / total.clamp(min=1e-8)
        return 1 - torch.where(total > 0, dice, 1.0).mean()


def _class_sums(level: Level) -> tuple[Tensor, Tensor, Tensor]:
    """Return intersection, predicted and reference mass (B, K)."""
    probabilities = level.log_probabilities.exp()
    target = level.target.flatten(1)
    count = probabilities.shape[1]
    own = level.log_probability_of_target.exp().flatten(1)
    # torch leaves Function.apply without types.
    intersection: Tensor = _SumByClass.apply(own, target, count)  # type: ignore[no-untyped-call]
    reference = _sum_by_class(torch.ones_like(own), target, count)
    return intersection, level.keep_supervised(probabilities).flatten(2).sum(2), reference


def _region_sums(level: Level) -> tuple[Tensor, Tensor, Tensor]:
    """Return intersection, predicted and reference mass (B, R)."""
    probabilities = level.logits.sigmoid()
    masks = level.region_masks
    intersection = (probabilities * masks).flatten(2).sum(2)
    reference = masks.flatten(2).sum(2)
    return intersection, level.keep_supervised(probabilities).flatten(2).sum(2), reference


def _sum_by_class(values: Tensor, index: Tensor, count: int) -> Tensor:
    """Sum values (B, N) by class index (B, N) into (B, count); an index of -1 counts nowhere.

    One pass per class is exact and repeatable, where atomic additions into a few bins are neither, nor fast.
    """
    return torch.stack([torch.where(index == k, values, 0).sum(1) for k in range(count)], dim=1)


class _SumByClass(torch.autograd.Function):
    """`_sum_by_class` whose backward pass is a look-up, so that no mask is kept."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, index: Tensor, count: int) -> Tensor:
        ctx.save_for_backward(index)
        return _sum_by_class(values, index, count)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (index,) = ctx.saved_tensors
        return gradients[0].gather(1, index.clamp(min=0)) * (index >= 0), None, None
