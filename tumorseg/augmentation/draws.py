"""Random numbers for a batch, always drawn on the CPU, so that every device gets the same augmentation."""

from collections.abc import Sequence

import torch
from torch import Tensor

from tumorseg.schema.augmentation import Range


def draw_chance(probability: float, shape: Sequence[int], generator: torch.Generator) -> Tensor:
    """Return bool of a shape, each True with the given probability."""
    return torch.rand(tuple(shape), generator=generator) < probability


def draw_uniform(interval: Range, shape: Sequence[int], generator: torch.Generator) -> Tensor:
    """Return float32 of a shape, uniform in the interval."""
    return interval.low + (interval.high - interval.low) * torch.rand(tuple(shape), generator=generator)


def draw_factor(interval: Range, shape: Sequence[int], generator: torch.Generator) -> Tensor:
    """Return float32 factors of a shape.

    Where the interval holds 1, half of them are below 1 and half above, each half uniform, as in nnU-Net's intensity
    transforms: with (0.7, 1.4) shrinking is as likely as growing.
    """
    if not interval.low < 1 < interval.high:
        return draw_uniform(interval, shape, generator)
    below = draw_uniform(Range(low=interval.low, high=1.0), shape, generator)
    above = draw_uniform(Range(low=1.0, high=interval.high), shape, generator)
    return torch.where(draw_chance(0.5, shape, generator), below, above)
