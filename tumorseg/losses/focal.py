"""Focal loss: cross-entropy in which voxels that are right already count little."""

import torch
from torch import Tensor, nn

from tumorseg.losses.level import Level
from tumorseg.schema.losses import FocalLoss
from tumorseg.schema.targets import Targets


class Focal(nn.Module):
    """(1 - p)^gamma times the cross-entropy -log(p), p being the probability of what is right.

    Of classes the mean over supervised voxels (softmax), of regions over voxels and regions (sigmoid); 0 where
    nothing is supervised. With gamma 0 and no alpha it is the cross-entropy.

    References:
        Lin et al., ICCV 2017; with Dice: Zhu et al., AnatomyNet, Medical Physics 2019.
    """

    def __init__(self, spec: FocalLoss, targets: Targets) -> None:
        super().__init__()
        self.gamma = spec.gamma
        self.alpha = spec.alpha
        self.has_regions = targets.has_regions

    def forward(self, level: Level) -> Tensor:
        """Return the loss of one resolution, a scalar."""
        if self.has_regions:
            is_foreground = level.region_masks
            values = self._focus(level.binary_cross_entropies, is_foreground)
            return level.keep_supervised(values).sum() / (level.num_supervised * is_foreground.shape[1])
        return self._focus(-level.log_probability_of_target, level.target > 0).sum() / level.num_supervised

    def _focus(self, cross_entropies: Tensor, is_foreground: Tensor) -> Tensor:
        """Weigh -log(p); the least 1 - p is one rounding error, so that its power keeps a slope."""
        wrong = -torch.expm1(-cross_entropies)
        values = wrong.clamp(min=torch.finfo(wrong.dtype).eps) ** self.gamma * cross_entropies
        if self.alpha is None:
            return values
        return values * torch.where(is_foreground, self.alpha, 1 - self.alpha)
