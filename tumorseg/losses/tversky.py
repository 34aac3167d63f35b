"""Tversky loss: Dice that weighs false alarms and misses differently."""

import torch
from torch import Tensor, nn

from tumorseg.losses.level import Level
from tumorseg.schema.losses import TverskyLoss
from tumorseg.schema.targets import Targets

STRAIGHT_BELOW = 1e-6
"""Below this, a power is continued by a straight line: with an exponent under 1 its slope would be endless at 0."""


class Tversky(nn.Module):
    """Mean over classes or regions of (1 minus the Tversky index) to the power gamma.

    Where neither prediction nor reference has any mass, as in a patch without supervision, the index is 1.

    References:
        Salehi et al., MLMI 2017; Abraham and Khan, ISBI 2019 (whose exponent is 1 / gamma, with alpha and beta in
        exchanged roles).
    """

    def __init__(self, spec: TverskyLoss, targets: Targets) -> None:
        super().__init__()
        self.spec = spec
        self.first_class = 0 if spec.include_background or targets.has_regions else 1

    def forward(self, level: Level) -> Tensor:
        """Return the loss of one resolution, a scalar."""
        spec = self.spec
        sums = level.overlap_sums.select(first_class=self.first_class, batch=spec.batch)
        false_positives, false_negatives = sums.predicted - sums.intersection, sums.reference - sums.intersection
        total = sums.intersection + spec.alpha * false_positives + spec.beta * false_negatives + spec.smooth
        index = (sums.intersection + spec.smooth) / total.clamp(min=1e-8)
        loss = 1 - torch.where(total > 0, index, 1.0)
        if spec.gamma != 1:
            loss = loss * loss.clamp(min=STRAIGHT_BELOW) ** (spec.gamma - 1)
        return loss.mean()
