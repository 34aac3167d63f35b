"""What records of transforms have in common."""

from collections.abc import Iterator, Sequence
from typing import Annotated, ClassVar, NamedTuple

from pydantic import AfterValidator, Field, model_validator

from tumorseg.schema.base import Record
from tumorseg.schema.preprocessing import NormalizationSpec

Probability = Annotated[float, Field(ge=0, le=1)]


class Range(Record):
    """A closed interval to draw from uniformly."""

    low: float
    """Least value."""
    high: float
    """Greatest value."""

    @model_validator(mode="after")
    def _check(self) -> "Range":
        if self.low > self.high:
            raise ValueError(f"low {self.low} is above high {self.high}")
        return self


class CountRange(Record):
    """Whole numbers from a least to a greatest one, each as likely."""

    low: int = Field(ge=0)
    """Least number."""
    high: int = Field(ge=0)
    """Greatest number."""

    @model_validator(mode="after")
    def _check(self) -> "CountRange":
        if self.low > self.high:
            raise ValueError(f"low {self.low} is above high {self.high}")
        return self


def check_unique(numbers: tuple[int, ...]) -> tuple[int, ...]:
    """Return numbers of which none stands twice.

    Raises:
        ValueError: one does.
    """
    if len(set(numbers)) != len(numbers):
        raise ValueError(f"names one twice: {list(numbers)}")
    return numbers


UniqueAxes = Annotated[tuple[int, ...], AfterValidator(check_unique)]
Channels = Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1), AfterValidator(check_unique)]
"""Numbers of image channels, from 0."""


def _check_positive(interval: Range) -> Range:
    if interval.low <= 0:
        raise ValueError(f"low is {interval.low}; a factor must be above 0")
    return interval


def _check_not_negative(interval: Range) -> Range:
    if interval.low < 0:
        raise ValueError(f"low is {interval.low}; it must not be negative")
    return interval


def _check_counted(numbers: CountRange) -> CountRange:
    if numbers.low < 1:
        raise ValueError(f"low is {numbers.low}; there must be 1 at least")
    return numbers


def _check_share(interval: Range) -> Range:
    if not 0 <= interval.low <= interval.high <= 1:
        raise ValueError(f"found {interval.low} to {interval.high}; shares are from 0 to 1")
    return interval


PositiveRange = Annotated[Range, AfterValidator(_check_positive)]
"""Of factors."""
SizeRange = Annotated[Range, AfterValidator(_check_not_negative)]
"""Of sizes, 0 included."""
ShareRange = Annotated[Range, AfterValidator(_check_share)]
"""Of shares of a whole."""
NumberRange = Annotated[CountRange, AfterValidator(_check_counted)]
"""Of things, one at least."""
SomeAxes = Annotated[UniqueAxes, Field(min_length=1)]
"""Spatial axes in the configuration's own numbering."""


class PatchFacts(NamedTuple):
    """What transforms may know of the patches that they are applied to."""

    patch_size: tuple[int, ...]
    """Voxels that the network sees."""
    normalization: tuple[NormalizationSpec, ...]
    """One for each channel of the images."""

    @property
    def num_axes(self) -> int:
        """Return 2 or 3."""
        return len(self.patch_size)

    @property
    def num_channels(self) -> int:
        """Return the channels of the images."""
        return len(self.normalization)


class TransformRecord(Record):
    """Base of all transforms."""

    moves_voxels: ClassVar[bool] = False
    """Whether voxels change their places, so that segmentations and maps such as distances have to move along."""
    changes_labels: ClassVar[bool] = False
    """Whether labels change where they are, so that distances measured before are wrong."""

    def misfits(self, facts: PatchFacts) -> Iterator[str]:
        """Yield why it cannot be applied to such patches."""
        yield from ()


class ImageTransform(TransformRecord):
    """Base of transforms that change intensities and nothing else."""

    probability: Probability
    """Per sample."""
    channels: Channels | None = None
    """Channels that may be changed; null for all."""
    channel_probability: Probability = 1.0
    """Per channel of a sample that is changed."""
    per_channel: bool = True
    """Whether each channel draws by itself; if not, all are changed alike."""

    def misfits(self, facts: PatchFacts) -> Iterator[str]:
        """Yield why it cannot be applied to such patches."""
        if self.channels is not None and max(self.channels) >= facts.num_channels:
            name = getattr(self, "name", "transform")
            yield f"{name}.channels are {self.channels}; images have channels 0 to {facts.num_channels - 1}"


def axis_misfits(field: str, axes: Sequence[int], facts: PatchFacts) -> Iterator[str]:
    """Yield that axes, which stand in a field, are not those of a patch."""
    if not set(axes) <= set(range(facts.num_axes)):
        yield f"{field} are {tuple(axes)}; a patch of {facts.num_axes} axes has 0 to {facts.num_axes - 1}"


class AxialTransform(ImageTransform):
    """Base of changes that lie along an axis of the image."""

    axes: SomeAxes | None = None
    """Axes among which each draw chooses, in the configuration's own numbering; null for all."""

    def allowed_axes(self, facts: PatchFacts) -> tuple[int, ...]:
        """Return the axes to choose among."""
        return tuple(range(facts.num_axes)) if self.axes is None else self.axes

    def misfits(self, facts: PatchFacts) -> Iterator[str]:
        """Yield why it cannot be applied to such patches."""
        yield from super().misfits(facts)
        yield from axis_misfits(f"{getattr(self, 'name', 'transform')}.axes", self.allowed_axes(facts), facts)
