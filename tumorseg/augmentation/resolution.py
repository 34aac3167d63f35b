"""Less detail: blur, coarser grids and thicker slices, each a change along one axis after the other.

References:
    batchgeneratorsv2's GaussianBlurTransform and SimulateLowResolutionTransform, whose results the first two are.
    Partial volume in thick slices: Ballester, Zisserman, Brady, Medical Image Analysis 2002.
"""

import math
from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from tumorseg.augmentation.axes import Between, between, interpolate_axis
from tumorseg.augmentation.dice import Dice, draw_channels, draw_each
from tumorseg.augmentation.parts import parts
from tumorseg.augmentation.samples import Sample
from tumorseg.schema.transforms.base import CountRange, PatchFacts
from tumorseg.schema.transforms.resolution import GaussianBlur, LowResolution, ThickSlices


class BlurDraw(NamedTuple):
    """A blur of each channel."""

    channels: tuple[int, ...]
    sigmas: tuple[tuple[float, ...], ...]
    """Of each channel, standard deviations in voxels along each axis."""


class ZoomDraw(NamedTuple):
    """A coarser grid for each channel."""

    channels: tuple[int, ...]
    zooms: tuple[float, ...]
    """Its voxels for each of the patch along an axis."""
    in_plane: bool


class ThickDraw(NamedTuple):
    """Thicker slices of each channel."""

    channels: tuple[int, ...]
    slabs: tuple[tuple[int, int, int], ...]
    """Of each channel, the axis across the slices, how many become one, and where the second one begins."""


def draw_blur(transform: GaussianBlur, facts: PatchFacts, dice: Dice) -> BlurDraw | None:
    """Decide the channels and their standard deviations along each axis."""
    channels = draw_channels(transform, facts, dice)

    def sigmas() -> tuple[float, ...]:
        return tuple(dice.uniform(transform.sigma) for _ in range(facts.num_axes))

    return BlurDraw(channels, draw_each(transform, channels, sigmas)) if channels else None


def apply_blur(sample: Sample, draw: BlurDraw, facts: PatchFacts) -> Sample:
    """Blur each channel along one axis after the other."""
    for channel, sigmas in zip(draw.channels, draw.sigmas, strict=True):
        values = sample.image[channel]
        for axis, sigma in enumerate(sigmas):
            weights = gaussian_weights(sigma, values.shape[axis])
            # What is blurred together lies within a part: along the first axis parts are cut across the second.
            for part in parts(values, axis=0 if axis else 1):
                part.copy_(_blurred(part, axis, weights))
    return sample


def gaussian_weights(sigma: float, size: int) -> list[float]:
    """Return the weights of a voxel and of those 1, 2, … away along an axis of some size; with both sides their sum is 1."""
    # batchgeneratorsv2's width: 6 standard deviations, rounded to a whole voxel in the middle and as many on both sides.
    radius = min(math.floor(3 * sigma + 0.25), size - 1)
    weights = [math.exp(-0.5 * (distance / sigma) ** 2) for distance in range(radius + 1)]
    total = 2 * sum(weights) - weights[0]
    return [weight / total for weight in weights]


def _blurred(values: Tensor, axis: int, weights: Sequence[float]) -> Tensor:
    """Return values averaged along an axis; beyond the ends they go on mirrored about the outer voxels."""
    radius, size = len(weights) - 1, values.shape[axis]
    before = values.narrow(axis, 1, radius).flip(axis)
    after = values.narrow(axis, size - 1 - radius, radius).flip(axis)
    wide = torch.cat((before, values, after), axis)
    blurred = values * weights[0]
    for distance, weight in enumerate(weights[1:], start=1):
        for start in (radius - distance, radius + distance):
            blurred.add_(wide.narrow(axis, start, size), alpha=weight)
    return blurred


def draw_zoom(transform: LowResolution, facts: PatchFacts, dice: Dice) -> ZoomDraw | None:
    """Decide the channels and the coarser grid of each."""
    channels = draw_channels(transform, facts, dice)
    zooms = draw_each(transform, channels, lambda: dice.uniform(transform.zoom))
    return ZoomDraw(channels, zooms, transform.in_plane) if channels else None


def apply_zoom(sample: Sample, draw: ZoomDraw, facts: PatchFacts) -> Sample:
    """Take each channel's nearest voxels of the coarser grid, and interpolate between them."""
    for channel, zoom in zip(draw.channels, draw.zooms, strict=True):
        values = sample.image[channel]
        *others, last = range(1 if draw.in_plane else 0, values.ndim)
        sizes = [(size, max(1, round(size * zoom))) for size in values.shape]
        coarse = values
        for axis in others:
            coarse = coarse.index_select(axis, _nearest(*sizes[axis], values.device))
        # Along the last axis, which takes the most time, both in one, while there are the fewest rows.
        coarse = interpolate_axis(coarse, last, _lowered(*sizes[last], values.device))
        for axis in reversed(others):
            coarse = interpolate_axis(coarse, axis, _raised(*sizes[axis], values.device))
        values.copy_(coarse)
    return sample


# A patch has few sizes, between which and those of all zooms places are computed once.
@lru_cache(maxsize=4096)
def _nearest(size: int, num_coarse: int, device: torch.device) -> Tensor:
    """Return the voxels of an axis that lie at the middles of those of a coarser one, int32."""
    # (number + 0.5) * size / num_coarse, rounded down, without rounding errors.
    nearest = (2 * torch.arange(num_coarse) + 1) * size // (2 * num_coarse)
    return nearest.int().to(device)


@lru_cache(maxsize=4096)
def _raised(size: int, num_coarse: int, device: torch.device) -> Between:
    """Return where the voxels of an axis lie between those of a coarser one; beyond its ends on the outer ones."""
    places = (torch.arange(size, dtype=torch.float64) + 0.5) * (num_coarse / size) - 0.5
    return between(places.clamp(0, num_coarse - 1).float().to(device), num_coarse)


@lru_cache(maxsize=4096)
def _lowered(size: int, num_coarse: int, device: torch.device) -> Between:
    """Return the nearest voxels of an axis between which, after it was brought to a coarser grid, its voxels lie."""
    nearest = _nearest(size, num_coarse, device)
    low, high, share = _raised(size, num_coarse, device)
    return Between(nearest.index_select(0, low), nearest.index_select(0, high), share)


def draw_thick(transform: ThickSlices, facts: PatchFacts, dice: Dice) -> ThickDraw | None:
    """Decide the channels, the axis across their slices, and how thick they are."""
    channels = draw_channels(transform, facts, dice)
    axes = tuple(range(facts.num_axes)) if transform.axes is None else transform.axes

    def slabs() -> tuple[int, int, int]:
        axis, thickness = dice.choice(axes), dice.integer(transform.slices)
        return axis, thickness, dice.integer(CountRange(low=1, high=thickness))

    return ThickDraw(channels, draw_each(transform, channels, slabs)) if channels else None


def apply_thick(sample: Sample, draw: ThickDraw, facts: PatchFacts) -> Sample:
    """Average slices of each channel, and interpolate between the middles of the thicker ones."""
    for channel, (axis, thickness, start) in zip(draw.channels, draw.slabs, strict=True):
        values = sample.image[channel]
        size = values.shape[axis]
        edges = [0, *range(start, size, thickness), size]
        slabs = [values.narrow(axis, first, end - first).mean(axis, keepdim=True) for first, end in pairwise(edges)]
        places = between(_thick_places(edges).to(values.device), len(slabs))
        values.copy_(interpolate_axis(torch.cat(slabs, axis), axis, places))
    return sample


def _thick_places(edges: Sequence[int]) -> Tensor:
    """Return where the voxels of an axis lie between the middles of the slabs from edge to edge."""
    middles = [(first + end - 1) / 2 for first, end in pairwise(edges)]
    return torch.from_numpy(np.interp(range(edges[-1]), middles, range(len(middles)))).float()
