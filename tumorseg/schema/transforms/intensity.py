"""Transforms of nnU-Net's table that change intensities."""

from collections.abc import Iterator
from typing import Literal

from tumorseg.schema.preprocessing import ZScoreNormalization
from tumorseg.schema.transforms.base import (
    Channels,
    ImageTransform,
    PatchFacts,
    PositiveRange,
    Probability,
    Range,
    SizeRange,
    TransformRecord,
)


class GaussianNoise(ImageTransform):
    """Add white noise."""

    name: Literal["gaussian_noise"] = "gaussian_noise"
    probability: Probability = 0.1
    """Per sample."""
    per_channel: bool = False
    """Whether each channel draws by itself; if not, all are changed alike."""
    std: SizeRange = Range(low=0.0, high=0.1)
    """In units of the normalised intensities."""


class Brightness(ImageTransform):
    """Multiply intensities."""

    name: Literal["brightness"] = "brightness"
    probability: Probability = 0.15
    """Per sample."""
    factor: PositiveRange = Range(low=0.75, high=1.25)
    """As often below 1 as above."""


class Contrast(ImageTransform):
    """Stretch about the channel's mean; the range of the intensities is kept."""

    name: Literal["contrast"] = "contrast"
    probability: Probability = 0.15
    """Per sample."""
    factor: PositiveRange = Range(low=0.75, high=1.25)
    """As often below 1 as above."""


class Gamma(ImageTransform):
    """Bend the channel's range by a power; its mean and standard deviation are kept."""

    name: Literal["gamma"] = "gamma"
    probability: Probability = 0.3
    """Per sample."""
    gamma: PositiveRange = Range(low=0.7, high=1.5)
    """Exponent of the range, brought to 0 to 1; as often below 1 as above."""
    inverted: bool = False
    """Bend it from the bright end: the power is that of the negative image, which is turned back after."""


class ZeroOutside(TransformRecord):
    """Set what lies outside the body to 0, as it was before other transforms changed it.

    For channels normalised within their non-zero mask, outside which images are 0.
    """

    name: Literal["zero_outside"] = "zero_outside"
    channels: Channels | None = None
    """Channels that are set to 0; null for all whose normalisation is masked."""

    def misfits(self, facts: PatchFacts) -> Iterator[str]:
        """Yield why it cannot be applied to such patches."""
        masked = masked_channels(facts)
        if self.channels is None and not masked:
            yield "zero_outside is for channels normalised within their non-zero mask, and no channel is"
        elif not set(self.channels or ()) <= set(masked):
            yield f"zero_outside.channels are {self.channels}; normalised within their non-zero mask are {masked}"


def masked_channels(facts: PatchFacts) -> tuple[int, ...]:
    """Return the channels that are normalised within their non-zero mask."""
    specs = enumerate(facts.normalization)
    return tuple(channel for channel, spec in specs if isinstance(spec, ZScoreNormalization) and spec.masked)
