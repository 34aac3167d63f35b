"""Random numbers of samples, each from its own generator, and always on the CPU.

So a sample's augmentation does not depend on the batch around it, nor on the device.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from tumorseg.schema.augmentation import Range

Generators = Sequence[torch.Generator]
"""One CPU generator per sample."""


def draw(shape: Sequence[int], generators: Generators) -> Tensor:
    """Return float32 (B, *shape), uniform from 0 to 1."""
    draws = torch.empty(len(generators), *shape)
    for row, generator in zip(draws, generators, strict=True):
        row.uniform_(generator=generator)
    return draws


def draw_chance(probability: float, shape: Sequence[int], generators: Generators) -> Tensor:
    """Return bool (B, *shape), each True with the given probability."""
    # Draws are below 1, so that a probability of 1 is certain.
    return draw(shape, generators) < probability


def draw_uniform(interval: Range, shape: Sequence[int], generators: Generators) -> Tensor:
    """Return float32 (B, *shape), uniform in the interval."""
    return spread(interval, draw(shape, generators))


def draw_factor(interval: Range, shape: Sequence[int], generators: Generators) -> Tensor:
    """Return float32 factors (B, *shape), distributed as those of `spread_factor`."""
    return spread_factor(interval, draw(shape, generators))


def spread(interval: Range, draws: Tensor) -> Tensor:
    """Return values in the interval from draws between 0 and 1."""
    return interval.low + (interval.high - interval.low) * draws


def spread_factor(interval: Range, draws: Tensor) -> Tensor:
    """Return factors in the interval from draws between 0 and 1.

    Where the interval holds 1, half of them are below 1 and half above, each half uniform, as in nnU-Net's intensity
    transforms: with (0.7, 1.4) shrinking is as likely as growing.
    """
    if not interval.low < 1 < interval.high:
        return spread(interval, draws)
    # From -1 to 1: the sign chooses the half, the rest is uniform in it.
    place = 2 * draws - 1
    return 1 + torch.where(place < 0, place * (1 - interval.low), place * (interval.high - 1))


def send(values: Tensor, like: Tensor) -> Tensor:
    """Return values in the type and on the device of another tensor."""
    # A blocking copy would wait until the GPU has finished all its work.
    return values.to(like.device, like.dtype, non_blocking=True)
