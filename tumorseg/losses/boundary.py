"""Losses of surfaces: distances in mm, and borders within a tolerance."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tumorseg.losses.distance_maps import signed_distances
from tumorseg.losses.level import Level
from tumorseg.losses.overlap import ratio
from tumorseg.losses.statistics import Wanted
from tumorseg.schema.losses import BoundaryLoss, HausdorffLoss, NeighbourLoss, SurfaceDiceLoss
from tumorseg.schema.targets import Targets


class Boundary(nn.Module):
    """Mean over supervised voxels and foreground outputs of error times distance from the reference's surface, in mm.

    Written as (p - g) times the signed distance: the published p times it, less the reference's own value, so that a perfect
    prediction has 0. A target that a patch does not show, or that fills it, adds nothing. Distances are cut off at
    `max_distance_mm`.

    References:
        Kervadec et al., MIDL 2019; MedIA 2021.
    """

    def __init__(self, spec: BoundaryLoss, targets: Targets) -> None:
        super().__init__()
        self.wanted = Wanted()
        self.max_distance_mm = spec.max_distance_mm

    def forward(self, level: Level) -> Tensor:
        """Return the loss of one resolution, a scalar."""
        assert level.distances is not None
        moments = level.foreground(level.sums.moment)
        # The reference's own value: distances are negative inside it, and elsewhere it is 0.
        of_reference = level.foreground(level.keep_supervised(level.distances.clamp(max=0))).sum()
        return (moments.sum() - of_reference) / (level.num_supervised * moments.shape[1])


class Hausdorff(nn.Module):
    """Mean of squared errors times powers of the distances from both surfaces, over voxels and foreground outputs.

    References:
        Karimi and Salcudean, IEEE TMI 2019; MONAI's HausdorffDTLoss, which this is at a spacing of 1.
    """

    wanted = Wanted()

    def __init__(self, spec: HausdorffLoss, targets: Targets) -> None:
        super().__init__()
        self.spec = spec

    def forward(self, level: Level) -> Tensor:
        """Return the loss of one resolution, a scalar."""
        p, reference = level.foreground(level.probabilities), level.foreground(level.masks)
        known = level.supervised.unsqueeze(1) if level.has_ignored else None
        # Distances from the prediction's surface carry no gradient: a threshold has none.
        field = sum(self._power(mask, known, level) for mask in (p.detach() > 0.5, reference))
        values = level.keep_supervised((p - reference.to(p.dtype)).square() * field)
        return values.sum() / (level.num_supervised * p.shape[1])

    def _power(self, mask: Tensor, known: Tensor | None, level: Level) -> Tensor:
        distances = signed_distances(mask, known, level.spacing_mm, self.spec.max_distance_mm)
        return distances.abs_().pow_(level.at(self.spec.alpha))


class SurfaceDice(nn.Module):
    """1 minus a soft surface Dice: the share of both borders that lies within a tolerance of the other.

    A border is what an erosion by one voxel takes away, of probabilities as of masks; a tolerance is a dilation of the other
    border. Beyond the patch, and where nothing is supervised, there is neither. It is 1 where there is no border at all.

    References:
        Bokhovkin and Burnaev, Boundary loss for remote sensing imagery, ISNN 2019; Nikolov et al., JMIR 2021 (surface Dice).
    """

    wanted = Wanted()

    def __init__(self, spec: SurfaceDiceLoss, targets: Targets) -> None:
        super().__init__()
        self.spec = spec

    def forward(self, level: Level) -> Tensor:
        """Return the loss of one resolution, a scalar."""
        p, masks = level.foreground(level.probabilities), level.foreground(level.masks)
        borders = [self._border(values, level) for values in (p, masks.to(p.dtype))]
        # Half a voxel counts as one, where `round` would go to the even number; a box reaches as far to either side.
        reaches = [int(self.spec.tolerance_mm / edge + 0.5) for edge in level.spacing_mm]
        boxes = [2 * reach + 1 for reach in reaches]
        near = [_dilate(border, boxes) for border in borders]
        matched = (borders[0] * near[1] + borders[1] * near[0]).flatten(2).sum(2)
        total = (borders[0] + borders[1]).flatten(2).sum(2)
        return 1 - ratio(matched + self.spec.smooth, total + self.spec.smooth).mean()

    def _border(self, values: Tensor, level: Level) -> Tensor:
        known = level.supervised.unsqueeze(1) if level.has_ignored else None
        # As if inside the target, so that there is no border where supervision ends.
        full = values if known is None else torch.where(known, values, 1.0)
        # Pooling pads with the least value, so nothing is eroded from beyond the patch.
        # An axis of one voxel has no border.
        eroded = -_dilate(-full, [3 if size > 1 else 1 for size in values.shape[2:]])
        return level.keep_supervised(full - eroded)


class NeighbourPenalty(nn.Module):
    """Mean difference between logits and the share of each class among a voxel's neighbours, itself included.

    References:
        Murugesan et al., Trust your neighbours, MICCAI 2023; with cross-entropy it is MONAI's NACLLoss.
    """

    wanted = Wanted()

    def __init__(self, spec: NeighbourLoss, targets: Targets) -> None:
        super().__init__()
        self.spec = spec

    def forward(self, level: Level) -> Tensor:
        """Return the loss of one resolution, a scalar."""
        logits = level.wide_logits
        shares = _mean(level.masks.to(logits.dtype), self.spec.kernel_size)
        apart = (shares - logits).abs() if self.spec.distance == "l1" else (shares - logits).square()
        return level.keep_supervised(apart).sum() / (level.num_supervised * logits.shape[1])


def _dilate(values: Tensor, sizes: list[int]) -> Tensor:
    """Return the largest value in a box of odd edges around each voxel: one axis after the other."""
    # A box is separable: this costs the sum of its edges per voxel, not their product.
    pool = F.max_pool2d if values.ndim == 4 else F.max_pool3d
    for axis, size in enumerate(sizes):
        if size > 1:
            edges = [size if other == axis else 1 for other in range(len(sizes))]
            values = pool(values, edges, 1, [edge // 2 for edge in edges])
    return values


def _mean(values: Tensor, size: int) -> Tensor:
    """Return the mean in a box of an odd edge around each voxel, 0 being outside."""
    for axis in range(2, values.ndim):
        # `pad` counts axes from the last one.
        edges = [0, 0] * (values.ndim - axis - 1) + [size // 2, size // 2]
        count, padded = values.shape[axis], F.pad(values, edges)
        # A copy of its own, as the others are added in place.
        values = padded.narrow(axis, 0, count).clone()
        for shift in range(1, size):
            values += padded.narrow(axis, shift, count)
        values /= size
    return values
