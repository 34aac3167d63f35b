"""Quantities that the losses share at one resolution, computed once, on first use."""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from tumorseg.losses.statistics import Statistics, VoxelSums, Wanted, class_statistics, region_statistics
from tumorseg.schema.numbers import Number, number_at
from tumorseg.schema.targets import IGNORE, Targets

DEFAULT = Wanted()


@dataclass(frozen=True)
class Level:
    """One output of the network and the reference at its resolution."""

    logits: Tensor
    """(B, K, *space), of any floating type."""
    target: Tensor
    """(B, *space) int64 class indices, `IGNORE` where nothing is supervised."""
    has_ignored: bool
    """Whether any voxel may be `IGNORE`; without one no mask is made."""
    region_table: Tensor
    """(R, classes + 1) bool: whether a region holds a class; the last column stands for `IGNORE`."""
    spacing_mm: tuple[float, ...]
    """Voxel edges."""
    wanted: Wanted = DEFAULT
    """What the components together need of the statistics."""
    distances: Tensor | None = None
    """(B, K, *space) float32, mm: signed distances from each output's surface in the reference, where a component needs them."""
    progress: float = 0.0
    """Fraction of the training that is done."""

    def at(self, number: Number) -> float:
        """Return the present value of a number of the plan."""
        return number_at(number, self.progress)

    @property
    def has_regions(self) -> bool:
        """Whether outputs are sigmoids of regions."""
        return len(self.region_table) > 0

    @cached_property
    def supervised(self) -> Tensor:
        """Return (B, *space) bool: where there is a reference."""
        return self.target != IGNORE

    @cached_property
    def num_supervised(self) -> Tensor | int:
        """Return the number of supervised voxels, at least 1 so that one can divide by it."""
        return self.supervised.sum().clamp(min=1) if self.has_ignored else self.target.numel()

    @cached_property
    def statistics(self) -> Statistics:
        """Return all sums over voxels, and the cross-entropy of each voxel where that is wanted."""
        if self.has_regions:
            return region_statistics(
                self.logits,
                self.target,
                self.region_table,
                self.wanted,
                masked=self.has_ignored,
                moments=self.distances,
            )
        return class_statistics(self.logits, self.target, self.wanted, masked=self.has_ignored, moments=self.distances)

    @property
    def sums(self) -> VoxelSums:
        """Return all sums over voxels, each (B, K)."""
        return self.statistics.sums

    @property
    def entropies(self) -> Tensor:
        """Return the cross-entropy of each voxel (B, *space), or of each voxel and region (B, R, *space)."""
        return self.statistics.voxelwise

    @cached_property
    def masks(self) -> Tensor:
        """Return (B, K, *space) bool: the reference of each output. The one thing that is as large as the logits but for them."""
        if self.has_regions:
            # IGNORE is -1, which indexes the last column.
            return self.region_table[:, self.target].movedim(0, 1)
        classes = torch.arange(self.logits.shape[1], device=self.target.device)
        return self.target.unsqueeze(1) == classes.view(-1, *(1,) * (self.target.ndim - 1))

    @cached_property
    def wide_logits(self) -> Tensor:
        """Return the logits in float32 or float64, for losses that are no sums."""
        return self.logits if self.logits.dtype == torch.float64 else self.logits.float()

    @cached_property
    def probabilities(self) -> Tensor:
        """Return softmax or sigmoids (B, K, *space), for losses that are no sums."""
        return self.wide_logits.sigmoid() if self.has_regions else self.wide_logits.softmax(1)

    def foreground(self, values: Tensor) -> Tensor:
        """Return values (B, K, …) without those of the background class, which regions do not have."""
        return values if self.has_regions else values[:, 1:]

    def keep_supervised(self, values: Tensor) -> Tensor:
        """Return values (B, …, *space) with 0, and zero gradient, where unsupervised."""
        if not self.has_ignored:
            return values
        mask = self.supervised if values.ndim == self.target.ndim else self.supervised.unsqueeze(1)
        # Not by multiplication, for 0 times infinity is NaN, in the gradient too.
        return values.masked_fill(~mask, 0.0)


def region_table(targets: Targets) -> Tensor:
    """Return the look-up table (R, classes + 1) bool from class index to membership of each region."""
    table = torch.zeros(len(targets.regions), targets.num_classes + 1, dtype=torch.bool)
    for row, region in zip(table, targets.regions, strict=True):
        row[list(region)] = True
    return table


def downsample(values: Tensor, shape: torch.Size, *, first_axis: int = 1) -> Tensor:
    """Return values at the centres of coarse voxels.

    Of class indices these are integers throughout; the same voxels as `torch.nn.functional.interpolate(mode="nearest-exact")`.

    Args:
        values: (B, *space) class indices, or (B, K, *space).
        shape: the coarse space.
        first_axis: where space begins.
    """
    for axis, (size, coarse) in enumerate(zip(values.shape[first_axis:], shape, strict=True), start=first_axis):
        if size != coarse:
            centres = (2 * torch.arange(coarse, device=values.device) + 1) * size // (2 * coarse)
            values = values.index_select(axis, centres)
    return values
