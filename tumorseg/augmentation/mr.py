"""Artefacts of MR images that act voxel by voxel: uneven coils, noise, slices that differ.

References:
    Bias field: Van Leemput et al., Automated model-based bias field correction of MR images of the brain, IEEE TMI 1999 (the logarithm is
    a polynomial); Sudre et al., Longitudinal segmentation of age-related white matter hyperintensities, Medical Image Analysis 2017
    (as an augmentation; NiftyNet, from which MONAI and TorchIO have it).
    Rician noise: Gudbjartsson and Patz, The Rician distribution of noisy MRI data, Magnetic Resonance in Medicine 1995.
    Slice jumps: Graves and Mitchell, Body MRI artifacts in clinical practice, Journal of Magnetic Resonance Imaging 2013 (cross-talk).
"""

import math
from collections.abc import Sequence
from itertools import product
from typing import NamedTuple

import numpy as np
import torch
from numpy.polynomial import legendre
from torch import Tensor

from tumorseg.augmentation.dice import Dice, draw_channels, draw_each
from tumorseg.augmentation.mr_signal import air_of, scale_signal, shade_signal
from tumorseg.augmentation.samples import Sample
from tumorseg.schema.transforms.base import PatchFacts
from tumorseg.schema.transforms.mr import BiasField, RicianNoise, SliceJumps


class BiasFieldDraw(NamedTuple):
    """A field for each channel."""

    channels: tuple[int, ...]
    ratios: tuple[float, ...]
    """Greatest value over least."""
    degree: int
    seeds: tuple[int, ...]
    """Of the coefficients."""


class RicianNoiseDraw(NamedTuple):
    """Noise of each channel."""

    channels: tuple[int, ...]
    stds: tuple[float, ...]
    seed: int


class Jumps(NamedTuple):
    """Factors of the slices of one channel."""

    axis: int
    factors: tuple[float, ...]
    """Of the passes; slices take them in turn."""
    singles: tuple[tuple[int, float], ...]
    """Slices that jump by themselves, and by what factor."""


class SliceJumpsDraw(NamedTuple):
    """Jumps of each channel."""

    channels: tuple[int, ...]
    jumps: tuple[Jumps, ...]


def draw_bias_field(transform: BiasField, facts: PatchFacts, dice: Dice) -> BiasFieldDraw | None:
    """Decide the channels, how uneven they become, and the seed of each field."""
    channels = draw_channels(transform, facts, dice)
    ratios = draw_each(transform, channels, lambda: dice.uniform(transform.ratio))
    seeds = draw_each(transform, channels, dice.seed)
    return BiasFieldDraw(channels, ratios, transform.degree, seeds) if channels else None


def apply_bias_field(sample: Sample, draw: BiasFieldDraw, facts: PatchFacts) -> Sample:
    """Multiply the signal of each channel by its field, in proportion: the mean of the signal stays."""
    for channel, ratio, seed in zip(draw.channels, draw.ratios, draw.seeds, strict=True):
        values = sample.image[channel]
        field = smooth_field(values.shape, draw.degree, seed, device=values.device)
        low, high = torch.aminmax(field)
        # What the logarithm's level adds to all voxels alike is taken off with the mean.
        field.mul_(math.log(ratio) / (high - low).clamp(min=1e-12)).exp_()
        shade_signal(values, field.to(values.dtype))
    return sample


def smooth_field(shape: Sequence[int], degree: int, seed: int, *, device: torch.device) -> Tensor:
    """Return a random polynomial (*shape) float32 without a constant, of Legendre's polynomials up to a total degree.

    Coefficients are of the standard normal distribution, divided by their total degree.
    """
    dice = Dice(seed)
    field = torch.zeros((degree + 1,) * len(shape), dtype=torch.float64)
    for orders in product(range(degree + 1), repeat=len(shape)):
        if 0 < sum(orders) <= degree:
            field[orders] = dice.normal() / sum(orders)
    bases = [torch.from_numpy(legendre.legvander(np.linspace(-1, 1, size), degree)) for size in shape]
    # Axis by axis: the first becomes voxels and goes to the end, until all are in their places again.
    for basis in bases[:-1]:
        field = torch.tensordot(field, basis, dims=([0], [1]))
    # Only the last step touches every voxel: it is made on the device, as precisely there as on the CPU.
    field, basis = (part.float().to(device, non_blocking=True) for part in (field, bases[-1]))
    with torch.autocast(device.type, enabled=False):
        everywhere: Tensor = torch.tensordot(field, basis, dims=([0], [1]))
    return everywhere


def draw_rician_noise(transform: RicianNoise, facts: PatchFacts, dice: Dice) -> RicianNoiseDraw | None:
    """Decide the channels and their standard deviations."""
    channels = draw_channels(transform, facts, dice)
    stds = draw_each(transform, channels, lambda: dice.uniform(transform.std))
    return RicianNoiseDraw(channels, stds, dice.seed()) if channels else None


def apply_rician_noise(sample: Sample, draw: RicianNoiseDraw, facts: PatchFacts) -> Sample:
    """Give each channel noise of its own; where its signal is far above the noise the mean stays, in air it rises by 1.25 of the deviation."""
    image = sample.image
    generator = torch.Generator(image.device).manual_seed(draw.seed)
    for channel, std in zip(draw.channels, draw.stds, strict=True):
        values = image[channel]
        air = air_of(values)
        real, imaginary = torch.randn((2, *values.shape), generator=generator, device=image.device, dtype=image.dtype)
        values.sub_(air.level).add_(real, alpha=std)
        # The length of the complex number.
        values.hypot_(imaginary.mul_(std)).add_(air.level).mul_(air.inside)
    return sample


def draw_slice_jumps(transform: SliceJumps, facts: PatchFacts, dice: Dice) -> SliceJumpsDraw | None:
    """Decide the channels, and for each the axis and the factors."""
    channels = draw_channels(transform, facts, dice)
    jumps = draw_each(transform, channels, lambda: _draw_jumps(transform, facts, dice))
    return SliceJumpsDraw(channels, jumps) if channels else None


def _draw_jumps(transform: SliceJumps, facts: PatchFacts, dice: Dice) -> Jumps:
    axis = dice.choice(transform.allowed_axes(facts))
    num_passes = dice.integer(transform.num_interleaves)
    drawn = [dice.factor(transform.factor) for _ in range(num_passes)]
    # An image is normalised after it was acquired: what all passes share is not seen.
    mean = sum(drawn) / num_passes
    factors = tuple(factor / mean for factor in drawn)
    slices = range(facts.patch_size[axis])
    jumping = [number for number in slices if dice.chance(transform.single_probability)]
    singles = tuple((number, dice.uniform(transform.single_factor)) for number in jumping)
    return Jumps(axis, factors, singles)


def apply_slice_jumps(sample: Sample, draw: SliceJumpsDraw, facts: PatchFacts) -> Sample:
    """Multiply the signal of each slice by its factor; slices of factor 1 stay to the last bit, and the mean about where it was."""
    for channel, jumps in zip(draw.channels, draw.jumps, strict=True):
        values = sample.image[channel]
        size = values.shape[jumps.axis]
        num_passes = len(jumps.factors)
        gains = [jumps.factors[number % num_passes] for number in range(size)]
        for number, factor in jumps.singles:
            gains[number] *= factor
        lengths = [size if axis == jumps.axis else 1 for axis in range(values.ndim)]
        gain = torch.tensor(gains, dtype=values.dtype).reshape(lengths)
        scale_signal(values, gain.to(values.device, non_blocking=True))
    return sample
