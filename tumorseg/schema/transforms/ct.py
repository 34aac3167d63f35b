"""Transforms of CT channels, whose intensities are Hounsfield units."""

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from tumorseg.schema.preprocessing import CtNormalization
from tumorseg.schema.transforms.base import (
    CountRange,
    ImageTransform,
    NumberRange,
    PatchFacts,
    PositiveRange,
    Probability,
    Range,
    ShareRange,
)


class CtTransform(ImageTransform):
    """Base of transforms that know Hounsfield units; with `channels` null all CT channels may be changed, and no others."""

    def misfits(self, facts: PatchFacts) -> Iterator[str]:
        """Yield why it cannot be applied to such patches."""
        yield from super().misfits(facts)
        name = getattr(self, "name", "transform")
        known = ct_channels(facts)
        if not known:
            yield f"{name} needs a channel with the normalization ct, images have none; leave it out"
            return
        # Of channels that are not there the base has told.
        others = [channel for channel in self.channels or () if channel < facts.num_channels and channel not in known]
        if others:
            yield f"{name}.channels has {others}, which are not normalised as ct; those that are: {list(known)}"


def ct_channels(facts: PatchFacts) -> tuple[int, ...]:
    """Return the channels in Hounsfield units."""
    return tuple(number for number, spec in enumerate(facts.normalization) if isinstance(spec, CtNormalization))


class HuShift(CtTransform):
    """Shift Hounsfield units, and scale them about water, as another scanner, tube voltage or kernel does.

    Place it before transforms that stretch intensities: it clips to the bounds of the normalisation.
    """

    name: Literal["hu_shift"] = "hu_shift"
    probability: Probability = 0.15
    """Per sample."""
    shift_hu: Range = Range(low=-20.0, high=20.0)
    """Error of the calibration, in HU."""
    scale: PositiveRange = Range(low=0.95, high=1.05)
    """Factor of the distance from water (0 HU), which scanners are calibrated to; bone and contrast agents follow the tube voltage."""


MOST_IMPLANTS = 16
"""In a patch; also the voxels among which they take the densest: metal lies at bone and teeth more often than in air."""


def _check_implants(numbers: CountRange) -> CountRange:
    if numbers.high > MOST_IMPLANTS:
        raise ValueError(f"high is {numbers.high}; there are places for {MOST_IMPLANTS}")
    return numbers


class Streaks(CtTransform):
    """Put metal implants into the image, with the dark bands and the bright and dark streaks around them.

    The implants are the same for all channels; `per_channel` is about the strength.
    """

    name: Literal["streaks"] = "streaks"
    probability: Probability = 0.05
    """Per sample."""
    per_channel: bool = False
    """Whether each channel draws by itself; if not, all are changed alike."""
    axis: int = Field(default=0, ge=0, le=2)
    """Across which the scanner's slices lie, in the configuration's own numbering; 0 in 2D, where a patch is a slice."""
    implants: Annotated[NumberRange, AfterValidator(_check_implants)] = CountRange(low=1, high=3)
    """Pieces of metal."""
    radius: PositiveRange = Range(low=1.0, high=3.0)
    """Of a piece, in voxels; it is up to twice as long as wide."""
    length: ShareRange = Range(low=0.02, high=0.25)
    """Of the implants along the axis, as a share of the patch; in a slice there is none."""
    strength_hu: PositiveRange = Range(low=200.0, high=1000.0)
    """Greatest change beside the implants."""

    def misfits(self, facts: PatchFacts) -> Iterator[str]:
        """Yield why it cannot be applied to such patches."""
        yield from super().misfits(facts)
        if facts.num_axes == 2 and self.axis != 0:
            yield f"streaks.axis is {self.axis}; a patch of 2 axes is a slice itself, for which it is 0"
