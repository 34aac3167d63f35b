"""Sums that Dice, Tversky and their kin are made of, without a one-hot reference."""

from typing import Any, NamedTuple

import torch
from torch import Tensor


class OverlapSums(NamedTuple):
    """Mass of every class or region in one output, each (B, K)."""

    intersection: Tensor
    """Probability where the reference holds the class."""
    predicted: Tensor
    """Probability wherever there is supervision."""
    reference: Tensor
    """Voxels of the reference."""

    def select(self, *, first_class: int, batch: bool) -> "OverlapSums":
        """Return the sums from a class on, over the whole batch (K) or of each sample (B, K)."""
        kept = (values[:, first_class:] for values in self)
        return OverlapSums(*(values.sum(0) if batch else values for values in kept))


def sum_by_class(values: Tensor, index: Tensor, count: int) -> Tensor:
    """Sum values (B, N) by class index (B, N) into (B, count); an index of -1 counts nowhere.

    Its backward pass is a look-up, so that no mask is kept.
    """
    # torch leaves Function.apply without types.
    summed: Tensor = _SumByClass.apply(values, index, count)  # type: ignore[no-untyped-call]
    return summed


def count_by_class(index: Tensor, count: int, dtype: torch.dtype) -> Tensor:
    """Return how many voxels (B, count) of index (B, N) each class has."""
    return _add_up(torch.ones_like(index, dtype=dtype), index, count)


def _add_up(values: Tensor, index: Tensor, count: int) -> Tensor:
    """One pass per class is exact and repeatable, where atomic additions into a few bins are neither, nor fast."""
    return torch.stack([torch.where(index == k, values, 0).sum(1) for k in range(count)], dim=1)


class _SumByClass(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, index: Tensor, count: int) -> Tensor:
        ctx.save_for_backward(index)
        return _add_up(values, index, count)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (index,) = ctx.saved_tensors
        return gradients[0].gather(1, index.clamp(min=0)) * (index >= 0), None, None
