"""Losses that look at hard voxels: those whose cross-entropy is high."""

import torch
from torch import Tensor, nn

from tumorseg.errors import PlanError
from tumorseg.losses.level import Level
from tumorseg.losses.overlap import Overlap, power, tversky_index
from tumorseg.losses.selection import mean_of_largest, sum_of_largest
from tumorseg.losses.statistics import Wanted
from tumorseg.schema.losses import FocalLoss, HardExampleLoss, TopKLoss, UnifiedFocalLoss
from tumorseg.schema.targets import Targets

TVERSKY_SMOOTH = 1e-7
"""Of the unified focal loss."""


class Focal(nn.Module):
    """(1 - p)^gamma times the cross-entropy -log(p), p being the probability of what is right.

    Of classes the mean over supervised voxels (softmax), of regions over voxels and regions (sigmoid); 0 where
    nothing is supervised. With gamma 0 and no alpha it is the cross-entropy.

    References:
        Lin et al., ICCV 2017; with Dice: Zhu et al., AnatomyNet, Medical Physics 2019.
    """

    wanted = Wanted(voxelwise=True)
    alpha: Tensor | None

    def __init__(self, spec: FocalLoss, targets: Targets) -> None:
        super().__init__()
        self.spec = spec
        if isinstance(spec.alpha, tuple) and len(spec.alpha) != targets.num_outputs:
            names = ", ".join(targets.region_names or targets.label_names)
            raise PlanError(f"alpha of focal has {len(spec.alpha)} entries for {targets.num_outputs} outputs ({names})")
        alpha = torch.tensor(spec.alpha, dtype=torch.float32) if isinstance(spec.alpha, tuple) else None
        self.register_buffer("alpha", alpha, persistent=False)

    def forward(self, level: Level) -> Tensor:
        """Return the loss of one resolution, a scalar."""
        values = focused(level.entropies, level.at(self.spec.gamma))
        factors = self._factors(level)
        if factors is not None:
            values = values * factors
        return values.sum() / (level.num_supervised * (level.logits.shape[1] if level.has_regions else 1))

    def _factors(self, level: Level) -> Tensor | None:
        """Return the weight of each voxel, and region."""
        if self.alpha is not None:
            by_output = self.alpha.to(level.target.device)
            if level.has_regions:
                return by_output.view(-1, *(1,) * (level.target.ndim - 1))
            # Unsupervised voxels take any weight: their cross-entropy is 0.
            return by_output[level.target.clamp(min=0)]
        if self.spec.alpha is None:
            return None
        assert isinstance(self.spec.alpha, float | int)
        inside = is_foreground(level).to(level.entropies.dtype)
        # alpha inside, 1 - alpha outside.
        return inside * (2 * self.spec.alpha - 1) + (1 - self.spec.alpha)


class TopK(nn.Module):
    """Mean cross-entropy of the worst voxels of a batch; 0 where nothing is supervised.

    References:
        Wu et al., Bridging category-level and instance-level semantic image segmentation, 2016; nnU-Net's TopKLoss.
    """

    wanted = Wanted(voxelwise=True)

    def __init__(self, spec: TopKLoss, targets: Targets) -> None:
        super().__init__()
        self.spec = spec

    def forward(self, level: Level) -> Tensor:
        """Return the loss of one resolution, a scalar."""
        count = level.num_supervised * (level.logits.shape[1] if level.has_regions else 1)
        share = level.at(self.spec.k)
        if share == 1:
            return level.entropies.sum() / count
        # Unsupervised voxels are 0, and so the last to be chosen. A number on the device is not waited for; float64
        # holds it where float32 could not count the voxels of a large batch.
        chosen = max(1, int(count * share)) if isinstance(count, int) else (count.double() * share).long().clamp(min=1)
        return mean_of_largest(level.entropies, chosen)


class HardExamples(nn.Module):
    """Mean cross-entropy of all foreground voxels and of the worst of the background; 0 where nothing is supervised.

    Of regions, what counts are voxels and regions.

    References:
        Shrivastava et al., Training region-based object detectors with online hard example mining, CVPR 2016.
    """

    wanted = Wanted(voxelwise=True)

    def __init__(self, spec: HardExampleLoss, targets: Targets) -> None:
        super().__init__()
        self.spec = spec

    def forward(self, level: Level) -> Tensor:
        """Return the loss of one resolution, a scalar."""
        values, inside = level.entropies, is_foreground(level).to(level.entropies.dtype)
        per_voxel = level.logits.shape[1] if level.has_regions else 1
        num_inside = inside.sum()
        num_chosen = ((level.num_supervised * per_voxel - num_inside) * level.at(self.spec.k)).ceil()
        # Foreground is 0 in the second sum, where only the background is to be chosen from.
        total = (values * inside).sum() + sum_of_largest(values * (1 - inside), num_chosen)
        return total / (num_inside + num_chosen).clamp(min=1)


class UnifiedFocal(nn.Module):
    """Asymmetric unified focal loss: focal cross-entropy that spares foreground, focal Tversky that spares background.

    Each region is a pair of itself and its background. The mean of the cross-entropy runs over voxels and classes, as in MONAI's
    AsymmetricUnifiedFocalLoss, which is this one for two classes.

    References:
        Yeung et al., Unified focal loss, Computerized Medical Imaging and Graphics 2022.
    """

    wanted = Wanted(overlap=True, voxelwise=True)

    def __init__(self, spec: UnifiedFocalLoss, targets: Targets) -> None:
        super().__init__()
        self.spec = spec

    def forward(self, level: Level) -> Tensor:
        """Return the loss of one resolution, a scalar."""
        balance, delta, gamma = (level.at(number) for number in (self.spec.balance, self.spec.delta, self.spec.gamma))
        return balance * _spared_entropy(level, delta, gamma) + (1 - balance) * _spared_tversky(level, delta, gamma)


def _spared_entropy(level: Level, delta: float, gamma: float) -> Tensor:
    """Return the cross-entropy of which the background's is focal."""
    values, inside = level.entropies, is_foreground(level).to(level.entropies.dtype)
    weighted = inside * values * delta + (1 - inside) * focused(values, gamma) * (1 - delta)
    return weighted.sum() / (level.num_supervised * level.logits.shape[1] * (2 if level.has_regions else 1))


def _spared_tversky(level: Level, delta: float, gamma: float) -> Tensor:
    """Return the Tversky loss of background and foreground, of which the foreground's is focal."""

    def loss(found: Overlap) -> Tensor:
        return 1 - tversky_index(found, 1 - delta, delta, TVERSKY_SMOOTH)

    inside = Overlap(level.sums.intersection, level.sums.predicted, level.sums.reference)
    foreground = loss(inside)
    if level.has_regions:
        # The region's background has no output: its sums are what is left of all supervised voxels.
        voxels = level.supervised.flatten(1).sum(1, keepdim=True).to(inside.predicted.dtype)
        both = inside.predicted + inside.reference - inside.intersection
        background = loss(Overlap(voxels - both, voxels - inside.predicted, voxels - inside.reference))
    else:
        foreground, background = foreground[:, 1:], foreground[:, :1]
    return torch.cat((background, power(foreground, 1 - gamma)), dim=1).mean()


def is_foreground(level: Level) -> Tensor:
    """Return where the reference has foreground: (B, *space), of regions (B, R, *space)."""
    return level.masks if level.has_regions else level.target > 0


def focused(entropies: Tensor, gamma: float) -> Tensor:
    """Return (1 - p)^gamma times -log(p); the least 1 - p is one rounding error, so that its power keeps a slope."""
    if gamma == 0:
        return entropies
    # 1 - p, which keeps its digits where p is near 1.
    wrong = -torch.expm1(-entropies)
    return wrong.clamp(min=torch.finfo(wrong.dtype).eps) ** gamma * entropies
