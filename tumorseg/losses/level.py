"""What the losses share at one resolution: computed on first use, once."""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torch.nn import functional as F

from tumorseg.losses.overlap import OverlapSums, count_by_class, sum_by_class
from tumorseg.schema.targets import IGNORE, Targets


@dataclass(frozen=True)
class Level:
    """One output of the network and the reference at its resolution."""

    logits: Tensor
    """(B, K, *space), float32 or float64."""
    target: Tensor
    """(B, *space) int64 class indices, `IGNORE` where nothing is supervised."""
    has_ignored: bool
    """Whether any voxel may be `IGNORE`; without one no mask is made."""
    region_table: Tensor
    """(R, classes + 1) bool: whether a region holds a class; the last column stands for `IGNORE`."""

    @cached_property
    def supervised(self) -> Tensor:
        """Return (B, *space) bool: where there is a reference."""
        return self.target != IGNORE

    @cached_property
    def num_supervised(self) -> Tensor | int:
        """Return the number of supervised voxels, at least 1 so that one can divide by it."""
        return self.supervised.sum().clamp(min=1) if self.has_ignored else self.target.numel()

    @cached_property
    def log_probabilities(self) -> Tensor:
        """Return the log-softmax of the logits (B, K, *space)."""
        return self.logits.log_softmax(1)

    @cached_property
    def log_probability_of_target(self) -> Tensor:
        """Return (B, *space): the log-softmax of each voxel's own class, 0 where unsupervised."""
        index = self.target.clamp(min=0).unsqueeze(1)
        return self.keep_supervised(self.log_probabilities.gather(1, index).squeeze(1))

    @cached_property
    def region_masks(self) -> Tensor:
        """Return (B, R, *space) bool: the reference of each region."""
        # IGNORE is -1, which indexes the last column.
        return self.region_table[:, self.target].movedim(0, 1)

    @cached_property
    def binary_cross_entropies(self) -> Tensor:
        """Return (B, R, *space): the sigmoid cross-entropy of each voxel and region, unsupervised ones included."""
        reference = self.region_masks.to(self.logits.dtype)
        return F.binary_cross_entropy_with_logits(self.logits, reference, reduction="none")

    @cached_property
    def overlap_sums(self) -> OverlapSums:
        """Return intersection, predicted and reference mass of each class, or of each region where there are any."""
        return self._region_sums() if len(self.region_table) else self._class_sums()

    def _class_sums(self) -> OverlapSums:
        probabilities = self.log_probabilities.exp()
        target, count = self.target.flatten(1), probabilities.shape[1]
        own = self.log_probability_of_target.exp().flatten(1)
        return OverlapSums(
            intersection=sum_by_class(own, target, count),
            predicted=self.keep_supervised(probabilities).flatten(2).sum(2),
            reference=count_by_class(target, count, own.dtype),
        )

    def _region_sums(self) -> OverlapSums:
        probabilities = self.logits.sigmoid()
        return OverlapSums(
            intersection=(probabilities * self.region_masks).flatten(2).sum(2),
            predicted=self.keep_supervised(probabilities).flatten(2).sum(2),
            reference=self.region_masks.flatten(2).sum(2),
        )

    def keep_supervised(self, values: Tensor) -> Tensor:
        """Return values (B, …, *space) with 0, and zero gradient, where unsupervised."""
        if not self.has_ignored:
            return values
        mask = self.supervised if values.ndim == self.target.ndim else self.supervised.unsqueeze(1)
        return values * mask


def region_table(targets: Targets) -> Tensor:
    """Return the look-up table (R, classes + 1) bool from class index to membership of each region."""
    table = torch.zeros(len(targets.regions), targets.num_classes + 1, dtype=torch.bool)
    for row, region in zip(table, targets.regions, strict=True):
        row[list(region)] = True
    return table


def downsample_target(target: Tensor, shape: torch.Size) -> Tensor:
    """Return class indices (B, *shape): of each coarse voxel the one at its centre.

    Integers throughout; the same voxels as `torch.nn.functional.interpolate(mode="nearest-exact")`.

    Args:
        target: (B, *space) integer class indices.
        shape: the coarse space.
    """
    for axis, (size, coarse) in enumerate(zip(target.shape[1:], shape, strict=True), start=1):
        if size != coarse:
            centres = (2 * torch.arange(coarse, device=target.device) + 1) * size // (2 * coarse)
            target = target.index_select(axis, centres)
    return target
