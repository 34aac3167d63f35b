"""Artefacts of MR images that arise in k-space, as weights of its lines along one axis.

A patch is not a field of view: its opposite faces hold different tissue, and a plain Fourier transform would join them, so that every
artefact drew a line along the faces. Here the patch is continued by its mirror image, which joins without a step. Lines of k-space are
then the frequencies of the discrete cosine transform, and weighing them is one product with a matrix of the axis's size, several
times faster than the transform there and back.

Weights are real and the same for a frequency and its negative, so images stay real; that of the mean is 1, so means stay. As in TorchIO
and MONAI no magnitude is taken: values a little below the air may arise.

References:
    Pérez-García et al., TorchIO, Computer Methods and Programs in Biomedicine 2021 (ghosting, spikes).
    Ghosting: Axel et al., Respiratory effects in two-dimensional Fourier transform MR imaging, Radiology 1986.
    Gibbs ringing: Morelli et al., An image-based approach to understanding the physics of MR artifacts, RadioGraphics 2011 (cited by MONAI).
    Spikes: Graves and Mitchell, Body MRI artifacts in clinical practice, Journal of Magnetic Resonance Imaging 2013.
"""

import math
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from tumorseg.augmentation.dice import Dice, draw_channels, draw_each
from tumorseg.augmentation.mr_signal import air_of, change_signal
from tumorseg.augmentation.samples import Sample
from tumorseg.schema.transforms.base import PatchFacts
from tumorseg.schema.transforms.mr import Ghosting, Gibbs, Spikes


class Ghosts(NamedTuple):
    """Copies in one channel."""

    axis: int
    num_ghosts: int
    """On either side."""
    spacing: int
    """Voxels from one to the next."""
    intensity: float
    """Of the nearest."""


class GhostingDraw(NamedTuple):
    """Ghosts of each channel."""

    channels: tuple[int, ...]
    ghosts: tuple[Ghosts, ...]
    center_share: float
    """Share of the lines that stay."""


class Cut(NamedTuple):
    """Where the lines of an axis end."""

    axis: int
    kept: float
    """Share of the lines, from the centre."""


class GibbsDraw(NamedTuple):
    """Cuts of each channel."""

    channels: tuple[int, ...]
    cuts: tuple[tuple[Cut, ...], ...]


class Spike(NamedTuple):
    """A plane wave."""

    frequencies: tuple[float, ...]
    """Cycles per voxel along each axis."""
    amplitude: float
    phase_deg: float
    """At the first voxel."""


class SpikesDraw(NamedTuple):
    """Waves of each channel."""

    channels: tuple[int, ...]
    spikes: tuple[tuple[Spike, ...], ...]


def line_shares(size: int) -> Tensor:
    """Return the frequencies (size + 1) float64 of an axis of a size, from 0 to 1, the fastest that its voxels hold."""
    return torch.arange(size + 1, dtype=torch.float64) / size


def line_filter(weights: Tensor) -> Tensor:
    """Return the matrix (size, size) that weighs the frequencies of an axis continued by its mirror image.

    Args:
        weights: (size + 1) float64, one for each of `line_shares`.
    """
    size = len(weights) - 1
    # What one voxel becomes; periodic with the length of the axis and its mirror image.
    kernel: Tensor = torch.fft.irfft(weights, n=2 * size)
    to, source = torch.arange(size)[:, None], torch.arange(size)
    # A voxel is seen at its own place and at its mirror image's, one before the first voxel; indices below 0 count from the end.
    return kernel[to - source] + kernel[to + source + 1]


def filtered(image: Tensor, matrix: Tensor, axis: int) -> Tensor:
    """Return an image (*space) whose lines along an axis were multiplied by a matrix, in full precision."""
    matrix = matrix.to(image.dtype).to(image.device, non_blocking=True)
    with torch.autocast(image.device.type, enabled=False):
        if axis == image.ndim - 1:
            return torch.matmul(image, matrix.mT)
        # Each block is a matrix whose columns are lines.
        blocks = image.reshape(math.prod(image.shape[:axis]), image.shape[axis], -1)
        return torch.bmm(matrix.expand(len(blocks), -1, -1), blocks).reshape(image.shape)


def draw_ghosting(transform: Ghosting, facts: PatchFacts, dice: Dice) -> GhostingDraw | None:
    """Decide the channels, and for each the axis, number, distance and intensity of its ghosts."""
    channels = draw_channels(transform, facts, dice)
    ghosts = draw_each(transform, channels, lambda: _draw_ghosts(transform, facts, dice))
    return GhostingDraw(channels, ghosts, transform.center_share) if channels else None


def _draw_ghosts(transform: Ghosting, facts: PatchFacts, dice: Dice) -> Ghosts:
    axis = dice.choice(transform.allowed_axes(facts))
    num_ghosts = dice.integer(transform.num_ghosts)
    spacing = round(dice.uniform(transform.spacing) * facts.patch_size[axis])
    # Ghosts at no distance would be no ghosts.
    return Ghosts(axis, num_ghosts, max(1, spacing), dice.uniform(transform.intensity))


def apply_ghosting(sample: Sample, draw: GhostingDraw, facts: PatchFacts) -> Sample:
    """Modulate the lines of each channel periodically, which is to add displaced copies; the mean along each line stays."""
    for channel, ghosts in zip(draw.channels, draw.ghosts, strict=True):
        values = sample.image[channel]
        lines = line_shares(values.shape[ghosts.axis])
        weights = torch.ones_like(lines)
        for number in range(1, ghosts.num_ghosts + 1):
            # A cosine over the lines has two copies, one on either side.
            weights += 2 * ghosts.intensity / number * torch.cos(math.pi * lines * number * ghosts.spacing)
        weights[lines <= draw.center_share] = 1
        change_signal(values, partial(filtered, matrix=line_filter(weights), axis=ghosts.axis))
    return sample


def draw_gibbs(transform: Gibbs, facts: PatchFacts, dice: Dice) -> GibbsDraw | None:
    """Decide the channels, and for each the axes and where their lines end."""
    channels = draw_channels(transform, facts, dice)
    cuts = draw_each(transform, channels, lambda: _draw_cuts(transform, facts, dice))
    return GibbsDraw(channels, cuts) if channels else None


def _draw_cuts(transform: Gibbs, facts: PatchFacts, dice: Dice) -> tuple[Cut, ...]:
    allowed = transform.allowed_axes(facts)
    axes = [axis for axis in allowed if dice.chance(transform.axis_probability)] or [dice.choice(allowed)]
    return tuple(Cut(axis, dice.uniform(transform.kept)) for axis in axes)


def apply_gibbs(sample: Sample, draw: GibbsDraw, facts: PatchFacts) -> Sample:
    """Remove high frequencies of each channel; the mean along each line stays, contours ring by 9 % of their height."""
    for channel, cuts in zip(draw.channels, draw.cuts, strict=True):
        change_signal(sample.image[channel], partial(_cut_off, cuts=cuts))
    return sample


def _cut_off(image: Tensor, cuts: tuple[Cut, ...]) -> Tensor:
    for axis, kept in cuts:
        is_kept = line_shares(image.shape[axis]) <= kept
        image = filtered(image, line_filter(is_kept.double()), axis)
    return image


def draw_spikes(transform: Spikes, facts: PatchFacts, dice: Dice) -> SpikesDraw | None:
    """Decide the channels and the waves of each."""
    channels = draw_channels(transform, facts, dice)
    spikes = draw_each(transform, channels, lambda: _draw_waves(transform, facts, dice))
    return SpikesDraw(channels, spikes) if channels else None


def _draw_waves(transform: Spikes, facts: PatchFacts, dice: Dice) -> tuple[Spike, ...]:
    return tuple(_draw_wave(transform, facts, dice) for _ in range(dice.integer(transform.num_spikes)))


def _draw_wave(transform: Spikes, facts: PatchFacts, dice: Dice) -> Spike:
    """Return a wave in a direction of the allowed axes, each direction as likely."""
    allowed = transform.allowed_axes(facts)
    direction = [dice.normal() if axis in allowed else 0.0 for axis in range(facts.num_axes)]
    frequency = dice.uniform(transform.frequency)
    factor = frequency / max(math.hypot(*direction), 1e-12)
    return Spike(tuple(factor * part for part in direction), dice.uniform(transform.amplitude), 360 * dice.share())


def apply_spikes(sample: Sample, draw: SpikesDraw, facts: PatchFacts) -> Sample:
    """Add the waves of each channel; the mean stays but for what a wave has left of a period."""
    for channel, spikes in zip(draw.channels, draw.spikes, strict=True):
        values = sample.image[channel]
        inside = air_of(values).inside
        for spike in spikes:
            _add_wave(values, spike)
        values.mul_(inside)
    return sample


def _add_wave(values: Tensor, spike: Spike) -> None:
    """Add a plane wave, in place."""
    # cos(a + b) = cos a cos b - sin a sin b: a along the first axis, b over the others, so that few cosines are computed.
    angles = torch.tensor(math.radians(spike.phase_deg), dtype=torch.float64)
    first, *others = (
        2 * math.pi * frequency * torch.arange(size, dtype=torch.float64)
        for frequency, size in zip(spike.frequencies, values.shape, strict=True)
    )
    for other in others:
        angles = angles.unsqueeze(-1) + other
    first = first.reshape(-1, *[1] * len(others))
    parts = (spike.amplitude * first.cos(), angles.cos(), spike.amplitude * first.sin(), angles.sin())
    near_cos, far_cos, near_sin, far_sin = (
        part.to(values.dtype).to(values.device, non_blocking=True) for part in parts
    )
    values.addcmul_(near_cos, far_cos).addcmul_(near_sin, far_sin, value=-1)
