"""Transforms that imitate artefacts of magnetic resonance images.

Each takes voxels of exactly 0 as lying outside the image, and leaves them 0: they belong before all transforms that add noise.
"""

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from tumorseg.schema.transforms.base import (
    AxialTransform,
    CountRange,
    ImageTransform,
    NumberRange,
    PatchFacts,
    PositiveRange,
    Probability,
    Range,
    ShareRange,
    SizeRange,
)


def _check_at_least_one(interval: Range) -> Range:
    if interval.low < 1:
        raise ValueError(f"low is {interval.low}; the greatest over the least is at least 1")
    return interval


def _check_frequencies(interval: Range) -> Range:
    # Half a cycle per voxel is the fastest that a grid holds.
    if not 0 < interval.low <= interval.high <= 0.5:
        raise ValueError(f"found {interval.low} to {interval.high}; cycles per voxel are above 0 and at most 0.5")
    return interval


RatioRange = Annotated[Range, AfterValidator(_check_at_least_one)]
"""Of the greatest value over the least."""
FrequencyRange = Annotated[Range, AfterValidator(_check_frequencies)]
"""Cycles per voxel."""


class BiasField(ImageTransform):
    """Shade as an uneven coil does: multiply the signal, counted from the channel's air, by a smooth field."""

    name: Literal["bias_field"] = "bias_field"
    probability: Probability = 0.1
    """Per sample."""
    ratio: RatioRange = Range(low=1.3, high=2.5)
    """Of the field's greatest value in the patch to its least; the mean of the signal stays."""
    degree: int = Field(default=3, ge=1, le=6)
    """Of the polynomial that is the field's logarithm; the higher an order, the less it weighs."""


class RicianNoise(ImageTransform):
    """Add noise as magnitude images have it: white in both parts of the complex signal, which raises the mean of the air."""

    name: Literal["rician_noise"] = "rician_noise"
    probability: Probability = 0.1
    """Per sample."""
    std: SizeRange = Range(low=0.03, high=0.2)
    """Of each part, in units of the normalised intensities."""


class Motion(AxialTransform):
    """Move the patient during the acquisition: outer lines of k-space are taken from turned and shifted copies.

    Lines are acquired from the centre of k-space outwards, the central ones at rest, so that structures stay where their labels are.
    Each movement lies in the plane of the phase-encoding axis, which is drawn, and of a second one: a nod or a shake. Angles are
    those of the voxel grid.
    """

    name: Literal["motion"] = "motion"
    probability: Probability = 0.1
    """Per sample."""
    num_movements: NumberRange = CountRange(low=1, high=3)
    """New positions; each is kept until the next."""
    rest: ShareRange = Range(low=0.2, high=0.5)
    """Share of the lines, from the centre, that are acquired before the first movement."""
    rotation_deg: SizeRange = Range(low=0.5, high=3.0)
    """Angle from the first position, either way."""
    shift: SizeRange = Range(low=0.5, high=2.5)
    """Way from the first position in voxels, in any direction of the plane."""

    def misfits(self, facts: PatchFacts) -> Iterator[str]:
        """Yield why it cannot be applied to such patches."""
        yield from super().misfits(facts)
        if len(self.allowed_axes(facts)) < 2:
            yield f"motion.axes are {self.axes}; a movement lies in a plane, name two axes or more"


class Ghosting(AxialTransform):
    """Add weaker copies, evenly spaced along the phase-encoding axis, as breathing and pulsation do."""

    name: Literal["ghosting"] = "ghosting"
    probability: Probability = 0.1
    """Per sample."""
    num_ghosts: NumberRange = CountRange(low=1, high=3)
    """On either side."""
    spacing: ShareRange = Range(low=0.1, high=0.4)
    """Distance between one and the next as a share of the patch's length, to the nearest voxel."""
    intensity: SizeRange = Range(low=0.05, high=0.2)
    """Of the nearest ghost against what it is a copy of; the second has half, the third a third of it."""
    center_share: float = Field(default=0.04, ge=0, le=1)
    """Share of the lines, from the centre of k-space, that stay as they are; the mean always does."""


class Gibbs(AxialTransform):
    """Cut high frequencies off with a sharp edge, so that contours ring, as in images of few phase-encoding steps."""

    name: Literal["gibbs"] = "gibbs"
    probability: Probability = 0.1
    """Per sample."""
    axis_probability: Probability = 0.5
    """Per axis; where none is drawn, one of them is."""
    kept: ShareRange = Range(low=0.5, high=0.8)
    """Share of the lines, from the centre of k-space, that stay."""


class Spikes(AxialTransform):
    """Add plane waves: points of k-space that a discharge made far too great, seen as stripes or a herringbone pattern."""

    name: Literal["spikes"] = "spikes"
    probability: Probability = 0.1
    """Per sample."""
    num_spikes: NumberRange = CountRange(low=1, high=2)
    """Waves that are added."""
    amplitude: SizeRange = Range(low=0.1, high=0.35)
    """Of each wave, in units of the normalised intensities."""
    frequency: FrequencyRange = Range(low=0.08, high=0.35)
    """Cycles per voxel in the wave's direction, which lies in the space of the axes."""


class SliceJumps(AxialTransform):
    """Change slices by factors of their own along one axis, as cross-talk and steady states of interleaved acquisitions do."""

    name: Literal["slice_jumps"] = "slice_jumps"
    probability: Probability = 0.1
    """Per sample."""
    num_interleaves: NumberRange = CountRange(low=2, high=4)
    """Passes; each takes every so many-th slice, and has its own factor."""
    factor: PositiveRange = Range(low=0.93, high=1.07)
    """Of a pass's signal, counted from the channel's air, before all are divided by their mean."""
    single_probability: Probability = 0.05
    """Per slice, of a jump of its own."""
    single_factor: PositiveRange = Range(low=0.7, high=1.15)
    """Of such a slice's signal, beside its pass's."""
