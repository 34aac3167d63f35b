"""What CT scanners do to Hounsfield units: other calibrations, and streaks around metal.

References:
    Cropp et al., Scanner and kVp dependence of measured CT numbers in the ACR CT phantom, J Appl Clin Med Phys 2013.
    De Man et al., Metal streak artifacts in X-ray computed tomography: a simulation study, IEEE Trans Nucl Sci 1999.
    Park et al., Computed tomographic beam-hardening artefacts: mathematical characterization and analysis, Phil Trans R Soc A 2015.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from tumorseg.augmentation.dice import Dice, draw_channels, draw_each
from tumorseg.augmentation.parts import parts
from tumorseg.augmentation.samples import Sample
from tumorseg.augmentation.streaks import Implant, reconstructed, sinogram
from tumorseg.ops.normalization import STD_FLOOR
from tumorseg.schema.preprocessing import CtNormalization
from tumorseg.schema.transforms.base import PatchFacts
from tumorseg.schema.transforms.ct import MOST_IMPLANTS, CtTransform, HuShift, Streaks, ct_channels

MARGIN_HU = 0.5
"""Values this close to a bound count as clipped: interpolation rounds, and HU are whole numbers."""
BLUR = 1.0
"""Slices over which streaks fade beyond the implants, a standard deviation."""


class HuShiftDraw(NamedTuple):
    """A calibration for each channel."""

    channels: tuple[int, ...]
    shifts_hu: tuple[float, ...]
    scales: tuple[float, ...]


class StreaksDraw(NamedTuple):
    """Implants and their streaks."""

    channels: tuple[int, ...]
    strengths_hu: tuple[float, ...]
    """Of each channel."""
    axis: int
    """Across which the slices lie."""
    place: float
    """Middle of the implants along the axis, from 0 to 1."""
    length: float
    """Of the implants along the axis, as a share of it."""
    radii: tuple[float, ...]
    """Of each implant, in voxels."""
    seed: int
    """Of places, shapes and noise."""


def draw_hu_shift(transform: HuShift, facts: PatchFacts, dice: Dice) -> HuShiftDraw | None:
    """Decide the channels, their shifts and scales."""
    channels = _draw_ct_channels(transform, facts, dice)
    pairs = draw_each(transform, channels, lambda: (dice.uniform(transform.shift_hu), dice.uniform(transform.scale)))
    shifts, scales = tuple(shift for shift, _ in pairs), tuple(scale for _, scale in pairs)
    return HuShiftDraw(channels, shifts, scales) if channels else None


def apply_hu_shift(sample: Sample, draw: HuShiftDraw, facts: PatchFacts) -> Sample:
    """Shift and scale each channel in HU within the bounds of its normalisation.

    Voxels at a bound stay there: they were clipped, and what they had been is not known.
    """
    for channel, shift, scale in zip(draw.channels, draw.shifts_hu, draw.scales, strict=True):
        spec = _ct(facts, channel)
        std = max(spec.std_hu, STD_FLOOR)
        low, high = _bounds(spec)
        margin = MARGIN_HU / std
        # hu = value * std + mean; this is (hu * scale + shift - mean) / std.
        offset = (spec.mean_hu * (scale - 1) + shift) / std
        for values in parts(sample.image[channel]):
            # -1 between the bounds, 0 at them and beyond; faster than a mask.
            inside = values.sub(low + margin).mul_(values.sub(high - margin)).sign_().clamp_(max=0)
            change = values.mul(scale).add_(offset).clamp_(low, high).sub_(values)
            values.addcmul_(change, inside, value=-1)
    return sample


def draw_streaks(transform: Streaks, facts: PatchFacts, dice: Dice) -> StreaksDraw | None:
    """Decide the channels, their strengths, and the implants."""
    channels = _draw_ct_channels(transform, facts, dice)
    if not channels:
        return None
    return StreaksDraw(
        channels=channels,
        strengths_hu=draw_each(transform, channels, lambda: dice.uniform(transform.strength_hu)),
        axis=transform.axis,
        place=dice.share(),
        length=dice.uniform(transform.length),
        radii=tuple(dice.uniform(transform.radius) for _ in range(dice.integer(transform.implants))),
        seed=dice.seed(),
    )


def apply_streaks(sample: Sample, draw: StreaksDraw, facts: PatchFacts) -> Sample:
    """Add the reconstruction of what implants do to the projections of each slice, and the implants, bright as can be."""
    image = sample.image
    # A view in which slices come first, in 2D the one that there is.
    slices = image.movedim(1 + draw.axis, 1) if facts.num_axes == 3 else image.unsqueeze(1)
    depth, *plane = slices.shape[1:]
    middle = min(int(draw.place * depth), depth - 1)
    implants = _placed(draw, slices[draw.channels[0], middle], _ct(facts, draw.channels[0]))
    streaks = reconstructed(sinogram(implants, plane, draw.seed), plane, image.device)
    metal = _metal(implants, plane).to(image.device)
    streaks.masked_fill_(metal, 0)
    streaks /= streaks.abs().max().clamp(min=STD_FLOOR)
    beyond = (torch.arange(depth) - middle).abs() - draw.length * depth / 2
    weights = torch.exp(-0.5 * (beyond.clamp(min=0) / BLUR) ** 2)
    for number in range(depth):
        weight = float(weights[number])
        if weight > 0.01:
            for channel, strength in zip(draw.channels, draw.strengths_hu, strict=True):
                _add(slices[channel, number], streaks, weight * strength, spec=_ct(facts, channel))
                if beyond[number] <= 0:
                    slices[channel, number].masked_fill_(metal, _bounds(_ct(facts, channel))[1])
    return sample


def _draw_ct_channels(transform: CtTransform, facts: PatchFacts, dice: Dice) -> tuple[int, ...]:
    if transform.channels is None:
        transform = transform.model_copy(update={"channels": ct_channels(facts)})
    return draw_channels(transform, facts, dice)


def _ct(facts: PatchFacts, channel: int) -> CtNormalization:
    spec = facts.normalization[channel]
    assert isinstance(spec, CtNormalization)  # `misfits` has refused others
    return spec


def _bounds(spec: CtNormalization) -> tuple[float, float]:
    """Return the least and greatest normalised value."""
    std = max(spec.std_hu, STD_FLOOR)
    return (spec.lower_hu - spec.mean_hu) / std, (spec.upper_hu - spec.mean_hu) / std


def _placed(draw: StreaksDraw, values: Tensor, spec: CtNormalization) -> list[Implant]:
    """Return the implants at the densest of some places in the slice (H, W) of their middle."""
    dice = Dice(draw.seed)
    height, width = values.shape
    places = [(int(dice.share() * height), int(dice.share() * width)) for _ in range(MOST_IMPLANTS)]
    rows, columns = torch.tensor(places, device=values.device).T
    # Whole HU, so that devices that round differently choose alike.
    found = []
    for value in values[rows, columns].tolist():
        # Exactly 0 lies beyond the image, where nobody has an implant.
        found.append(-math.inf if value == 0 else round(value * spec.std_hu))
    densest = sorted(range(MOST_IMPLANTS), key=lambda number: -found[number])
    implants = []
    for number, radius in zip(densest, draw.radii, strict=False):
        stretch = math.sqrt(1 + dice.share())
        row, column = places[number]
        implants.append(Implant(row, column, (radius * stretch, radius / stretch), math.pi * dice.share()))
    return implants


def _metal(implants: Sequence[Implant], plane: Sequence[int]) -> Tensor:
    """Return the voxels (H, W) of the plane that implants take."""
    rows, columns = (torch.arange(size) for size in plane)
    metal = torch.zeros(*plane, dtype=torch.bool)
    for implant in implants:
        metal |= implant.covers(rows[:, None], columns[None])
    return metal


def _add(values: Tensor, streaks: Tensor, strength_hu: float, *, spec: CtNormalization) -> None:
    """Add streaks (H, W) of a strength to a slice, within the bounds of the normalisation, in place."""
    values.add_(streaks, alpha=strength_hu / max(spec.std_hu, STD_FLOOR)).clamp_(*_bounds(spec))
