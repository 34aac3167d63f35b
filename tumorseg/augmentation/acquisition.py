"""Channels that are missing, and images that end early.

References:
    Neverova et al., ModDrop: adaptive multi-modal gesture recognition, IEEE Trans Pattern Anal 2016 (missing channels).
"""

from typing import NamedTuple

from tumorseg.augmentation.dice import Dice
from tumorseg.augmentation.samples import Sample
from tumorseg.schema.targets import IGNORE
from tumorseg.schema.transforms.acquisition import MissingChannel, ReducedFov
from tumorseg.schema.transforms.base import PatchFacts


class MissingDraw(NamedTuple):
    """Channels that are missing."""

    channels: tuple[int, ...]


class FovDraw(NamedTuple):
    """Where an image ends."""

    axis: int
    at_end: bool
    """Whether its last planes are cut, not its first."""
    share: float
    """Of the axis that is cut."""


def draw_missing(transform: MissingChannel, facts: PatchFacts, dice: Dice) -> MissingDraw | None:
    """Decide which channels are missing; None if all are there."""
    if not dice.chance(transform.probability):
        return None
    allowed = range(facts.num_channels) if transform.channels is None else transform.channels
    missing = [channel for channel in allowed if dice.chance(transform.channel_probability)]
    if len(missing) == facts.num_channels:
        # A network that sees nothing learns nothing.
        missing.remove(dice.choice(missing))
    return MissingDraw(tuple(missing)) if missing else None


def apply_missing(sample: Sample, draw: MissingDraw, facts: PatchFacts) -> Sample:
    """Set the channels that are missing to 0."""
    for channel in draw.channels:
        sample.image[channel].zero_()
    return sample


def draw_fov(transform: ReducedFov, facts: PatchFacts, dice: Dice) -> FovDraw | None:
    """Decide the axis, the end and the share that is cut."""
    if not dice.chance(transform.probability):
        return None
    axes = range(facts.num_axes) if transform.axes is None else transform.axes
    return FovDraw(dice.choice(axes), dice.chance(0.5), dice.uniform(transform.share))


def apply_fov(sample: Sample, draw: FovDraw, facts: PatchFacts) -> Sample:
    """Let image and labels end.

    Beyond it is what a patch holds that reaches over an image's edge: intensities of 0, and background. What is ignored stays so, as
    nobody has said that there is nothing.
    """
    size = sample.image.shape[1 + draw.axis]
    # A plane at least is cut, and one is left.
    cut = min(max(round(draw.share * size), 1), size - 1)
    start = size - cut if draw.at_end else 0
    sample.image.narrow(1 + draw.axis, start, cut).zero_()
    segmentation = sample.segmentation.narrow(1 + draw.axis, start, cut)
    segmentation.masked_fill_(segmentation != IGNORE, 0)
    return sample
