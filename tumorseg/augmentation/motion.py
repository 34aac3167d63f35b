"""Movements of the patient while k-space is read.

The image that is moved is resampled plane by plane, in the plane of the phase-encoding axis and a second one, all planes alike.

References:
    Shaw et al., MRI k-space motion artefact augmentation, MIDL 2019, and A k-space model of movement artefacts, IEEE TMI 2020.
"""

import math
from functools import partial
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from tumorseg.augmentation.dice import Dice, draw_channels, draw_each
from tumorseg.augmentation.kspace import filtered, line_filter, line_shares
from tumorseg.augmentation.mr_signal import change_signal
from tumorseg.augmentation.samples import Sample
from tumorseg.schema.transforms.base import PatchFacts, Range
from tumorseg.schema.transforms.mr import Motion

Plane = tuple[int, int]
"""The phase-encoding axis, and the second one of the movement's plane."""


class Movement(NamedTuple):
    """A position that is taken and kept."""

    onset: float
    """Share of the lines, from the centre of k-space, that were acquired before."""
    angle_deg: float
    """In the plane, from its first axis to its second, about the patch's centre."""
    shift: tuple[float, float]
    """Voxels along the axes of the plane."""


class MotionDraw(NamedTuple):
    """Movements of each channel."""

    channels: tuple[int, ...]
    planes: tuple[Plane, ...]
    movements: tuple[tuple[Movement, ...], ...]
    """In the order of their onsets."""


def draw_motion(transform: Motion, facts: PatchFacts, dice: Dice) -> MotionDraw | None:
    """Decide the channels, and for each the plane and the movements."""
    channels = draw_channels(transform, facts, dice)
    planes = draw_each(transform, channels, lambda: _draw_plane(transform.allowed_axes(facts), dice))
    movements = draw_each(transform, channels, lambda: _draw_movements(transform, dice))
    return MotionDraw(channels, planes, movements) if channels else None


def _draw_plane(axes: tuple[int, ...], dice: Dice) -> Plane:
    phase = dice.choice(axes)
    return phase, dice.choice([axis for axis in axes if axis != phase])


def _draw_movements(transform: Motion, dice: Dice) -> tuple[Movement, ...]:
    first = dice.uniform(transform.rest)
    rest = Range(low=first, high=1)
    later = sorted(dice.uniform(rest) for _ in range(dice.integer(transform.num_movements) - 1))
    return tuple(_draw_movement(transform, onset, dice) for onset in (first, *later))


def _draw_movement(transform: Motion, onset: float, dice: Dice) -> Movement:
    angle = dice.uniform(transform.rotation_deg) * dice.choice((-1, 1))
    length, direction = dice.uniform(transform.shift), 2 * math.pi * dice.share()
    return Movement(onset, angle, (length * math.cos(direction), length * math.sin(direction)))


def apply_motion(sample: Sample, draw: MotionDraw, facts: PatchFacts) -> Sample:
    """Take the outer lines of each channel from moved copies; the mean along each line stays."""
    for channel, plane, movements in zip(draw.channels, draw.planes, draw.movements, strict=True):
        change_signal(sample.image[channel], partial(_acquired, plane=plane, movements=movements))
    return sample


def _acquired(still: Tensor, plane: Plane, movements: tuple[Movement, ...]) -> Tensor:
    """Return an image (*space) as it is acquired while it moves."""
    phase, _ = plane
    lines = line_shares(still.shape[phase])
    image = still.clone()
    # The last position is kept to the end: the fastest line's share is 1.
    onsets = [movement.onset for movement in movements] + [math.inf]
    for movement, (onset, end) in zip(movements, pairwise(onsets), strict=True):
        # The mean is of the first position whenever the first movement is.
        is_acquired = (lines > 0) & (lines >= onset) & (lines < end)
        change = _moved(still, plane, movement).sub_(still)
        image += filtered(change, line_filter(is_acquired.double()), phase)
    return image


def _moved(image: Tensor, plane: Plane, movement: Movement) -> Tensor:
    """Return a copy of an image (*space) in another position; beyond its faces it continues as there."""
    layers = image.movedim(plane, (-2, -1))
    sizes = layers.shape[-2:]
    grid = _grid(sizes, movement).to(image.dtype).to(image.device, non_blocking=True)
    # All planes are looked up at the same places, as channels of one image: in a third of the time of a sampler of volumes.
    planes = layers.reshape(1, -1, *sizes)
    moved = F.grid_sample(planes, grid[None], padding_mode="border", align_corners=False)
    return moved.reshape(layers.shape).movedim((-2, -1), plane)


def _grid(sizes: tuple[int, ...], movement: Movement) -> Tensor:
    """Return where in the still plane the voxels of the moved one are: (*sizes, 2) as torch's sampler takes it, the last axis first."""
    angle = math.radians(movement.angle_deg)
    rows, columns = (
        torch.arange(size, dtype=torch.float64) - (size - 1) / 2 - shift
        for size, shift in zip(sizes, movement.shift, strict=True)
    )
    # Turned back: what was moved is looked up where it was.
    along = math.cos(angle) * rows[:, None] + math.sin(angle) * columns
    across = math.cos(angle) * columns - math.sin(angle) * rows[:, None]
    # For the sampler -1 and 1 are the outer edges.
    return torch.stack((across * (2 / sizes[1]), along * (2 / sizes[0])), dim=-1)
