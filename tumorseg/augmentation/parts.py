"""Passing over an image part by part, so that what one operation leaves in the processor's cache the next finds there."""

import torch
from torch import Tensor

PART = 1 << 16
"""Voxels that the cache of a core holds a few times over."""


def parts(values: Tensor, axis: int = 0) -> tuple[Tensor, ...]:
    """Return views of a channel (*space) of some planes each, across an axis; on other devices than the CPU the whole in one."""
    if values.device.type != "cpu" or not values.numel():
        return (values,)
    num_planes = max(1, PART * values.shape[axis] // values.numel())
    return torch.split(values, num_planes, axis)


def mean_and_std(count: int, total: Tensor, squares: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation, as of a sample, from the sums of values and of their squares, in float64."""
    mean = total / count
    variance = (squares - total * mean) / max(count - 1, 1)
    return mean, variance.clamp(min=0).sqrt()


def add_sums(values: Tensor, sums: Tensor) -> None:
    """Add the sum of values and that of their squares to `sums` (2,) float64.

    In float64, or the variance of an image that is nearly constant would be lost in rounding.
    """
    exact = values.reshape(-1).double()
    sums[0] += exact.sum()
    sums[1] += torch.dot(exact, exact)
