"""Changes of intensity of nnU-Net's table; labels stay as they are.

References:
    The transforms of batchgeneratorsv2 of the same names, whose results these are.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from tumorseg.augmentation.dice import Dice, draw_channels, draw_each
from tumorseg.augmentation.noise import Noise
from tumorseg.augmentation.parts import add_sums, mean_and_std, parts
from tumorseg.augmentation.samples import Sample
from tumorseg.schema.transforms.base import PatchFacts
from tumorseg.schema.transforms.intensity import Brightness, Contrast, Gamma, GaussianNoise

LEAST = 1e-7
"""Least divisor, for channels that are constant."""


class NoiseDraw(NamedTuple):
    """White noise."""

    channels: tuple[int, ...]
    stds: tuple[float, ...]
    """Of each channel."""
    seed: int


class FactorDraw(NamedTuple):
    """A factor for each channel."""

    channels: tuple[int, ...]
    factors: tuple[float, ...]


class GammaDraw(NamedTuple):
    """An exponent for each channel."""

    channels: tuple[int, ...]
    gammas: tuple[float, ...]
    inverted: bool
    """Whether it is that of the negative image."""


def draw_noise(transform: GaussianNoise, facts: PatchFacts, dice: Dice) -> NoiseDraw | None:
    """Decide the channels and their standard deviations."""
    channels = draw_channels(transform, facts, dice)
    stds = draw_each(transform, channels, lambda: dice.uniform(transform.std))
    return NoiseDraw(channels, stds, dice.seed()) if channels else None


def apply_noise(sample: Sample, draw: NoiseDraw, facts: PatchFacts) -> Sample:
    """Add noise of its own to each channel."""
    noise = Noise(draw.seed, sample.image.device)
    for channel, std in zip(draw.channels, draw.stds, strict=True):
        for part in parts(sample.image[channel]):
            part.add_(noise.like(part), alpha=std)
    return sample


def draw_factors(transform: Brightness | Contrast, facts: PatchFacts, dice: Dice) -> FactorDraw | None:
    """Decide the channels and their factors."""
    channels = draw_channels(transform, facts, dice)
    factors = draw_each(transform, channels, lambda: dice.factor(transform.factor))
    return FactorDraw(channels, factors) if channels else None


def apply_brightness(sample: Sample, draw: FactorDraw, facts: PatchFacts) -> Sample:
    """Multiply each channel by its factor."""
    for channel, factor in zip(draw.channels, draw.factors, strict=True):
        sample.image[channel].mul_(factor)
    return sample


def apply_contrast(sample: Sample, draw: FactorDraw, facts: PatchFacts) -> Sample:
    """Stretch each channel about its mean, clamped to its own former range."""
    for channel, factor in zip(draw.channels, draw.factors, strict=True):
        values = sample.image[channel]
        shift = values.mean() * (1 - factor)
        # Towards the mean nothing leaves the range.
        bounds = torch.aminmax(values) if factor > 1 else None
        for part in parts(values):
            # (values - mean) * factor + mean, in one operation less.
            part.mul_(factor).add_(shift)
            if bounds is not None:
                # Faster than a clamp, of which the bounds would be read for each voxel.
                torch.maximum(part, bounds.min, out=part)
                torch.minimum(part, bounds.max, out=part)
    return sample


def draw_gamma(transform: Gamma, facts: PatchFacts, dice: Dice) -> GammaDraw | None:
    """Decide the channels and their exponents."""
    channels = draw_channels(transform, facts, dice)
    gammas = draw_each(transform, channels, lambda: dice.factor(transform.gamma))
    return GammaDraw(channels, gammas, transform.inverted) if channels else None


def apply_gamma(sample: Sample, draw: GammaDraw, facts: PatchFacts) -> Sample:
    """Bend each channel's range, and bring its mean and standard deviation back."""
    for channel, gamma in zip(draw.channels, draw.gammas, strict=True):
        _bend(sample.image[channel], gamma, inverted=draw.inverted)
    return sample


def _bend(values: Tensor, gamma: float, *, inverted: bool) -> None:
    """Bend a channel (*space) in place: from its least value on, or, inverted, from its greatest."""
    low, high = torch.aminmax(values)
    start = high if inverted else low
    extent = (high - low).clamp(min=LEAST) * (-1 if inverted else 1)
    before, after = values.new_zeros(2, 2, dtype=torch.float64)
    for part in parts(values):
        # The start is subtracted first, so that rounding leaves nothing below 0, of which there is no power.
        part.sub_(start).div_(extent)
        add_sums(part, before)
        # A power by way of logarithms, in a third of the time; that of 0 is 0.
        part.log2_().mul_(gamma).exp2_()
        add_sums(part, after)
    count = values.numel()
    mean, std = mean_and_std(count, *before)
    bent_mean, bent_std = mean_and_std(count, *after)
    factor = extent * std / (bent_std * extent.abs()).clamp(min=LEAST) * extent.abs()
    shift = start + extent * mean - factor * bent_mean
    for part in parts(values):
        part.mul_(factor.to(values.dtype)).add_(shift.to(values.dtype))
