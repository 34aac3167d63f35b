"""Soft Dice loss without a one-hot reference."""

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
        self.first_class = 0 if spec.include_background or targets.has_regions else 1

    def forward(self, level: Level) -> Tensor:
        """Return the loss of one resolution, a scalar."""
        sums = level.overlap_sums.select(first_class=self.first_class, batch=self.batch)
        total = sums.predicted + sums.reference + self.smooth
        dice = (2 * sums.intersection + self.smooth) / total.clamp(min=1e-8)
        return 1 - torch.where(total > 0, dice, 1.0).mean()
