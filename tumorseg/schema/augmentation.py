"""Augmentation in a plan: a list of transforms, applied in order."""

from collections.abc import Iterator
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field, model_validator

from tumorseg.schema.base import Record
from tumorseg.schema.extensions import ByName, External

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


def _check_unique_axes(axes: tuple[int, ...]) -> tuple[int, ...]:
    if len(set(axes)) != len(axes):
        raise ValueError(f"names an axis twice: {list(axes)}")
    return axes


UniqueAxes = Annotated[tuple[int, ...], AfterValidator(_check_unique_axes)]


def _check_positive(interval: Range) -> Range:
    if interval.low <= 0:
        raise ValueError(f"low is {interval.low}; a factor must be above 0")
    return interval


def _check_not_negative(interval: Range) -> Range:
    if interval.low < 0:
        raise ValueError(f"low is {interval.low}; it must not be negative")
    return interval


PositiveRange = Annotated[Range, AfterValidator(_check_positive)]
"""Of factors."""
SizeRange = Annotated[Range, AfterValidator(_check_not_negative)]
"""Of sizes, 0 included."""


class AffineTransform(Record):
    """Rotate about the patch's centre and scale, in one resampling: images linearly, labels to the nearest.

    Angles are those of the voxel grid, isotropic in voxels as in nnU-Net.
    """

    name: Literal["affine"] = "affine"
    moves_voxels: ClassVar[bool] = True
    """Whether voxels change their places, so that maps such as distances have to move along."""
    rotation_probability: Probability = 0.2
    """Per sample."""
    rotation_deg: tuple[float, ...]
    """Largest angle about each axis, in the plan's axis order; one number for 2D."""
    scaling_probability: Probability = 0.2
    """Per sample."""
    scaling: PositiveRange = Range(low=0.7, high=1.4)
    """Zoom; below 1 shows more of the image, smaller."""
    in_plane: bool = False
    """Leave the first axis alone (nnU-Net's dummy 2D augmentation for thick slices)."""

    def misfits(self, num_axes: int) -> Iterator[str]:
        """Yield why it cannot be applied to patches of a number of axes."""
        num_angles = len(self.rotation_deg)
        # In a plane there is one rotation, in space one about each axis.
        expected = 1 if num_axes == 2 else 3
        if num_angles != expected:
            yield f"affine.rotation_deg has {num_angles} angles for {num_axes} axes; 2 axes need 1 angle, 3 axes 3"
        if self.in_plane and num_axes == 2:
            yield "affine.in_plane leaves the first of 3 axes alone; a patch of 2 axes is a plane already"


class MirrorTransform(Record):
    """Flip each axis, or not, per sample."""

    name: Literal["mirror"] = "mirror"
    moves_voxels: ClassVar[bool] = True
    axes: UniqueAxes
    """Spatial axes that may be flipped, in the configuration's own numbering."""
    probability: Probability = 0.5
    """Per axis and sample."""

    def misfits(self, num_axes: int) -> Iterator[str]:
        """Yield why it cannot be applied to patches of a number of axes."""
        if not set(self.axes) <= set(range(num_axes)):
            yield f"mirror.axes are {self.axes}; a patch of {num_axes} axes has 0 to {num_axes - 1}"


class GaussianNoise(Record):
    """Add white noise to all channels."""

    name: Literal["gaussian_noise"] = "gaussian_noise"
    moves_voxels: ClassVar[bool] = False
    probability: Probability = 0.1
    """Per sample."""
    std: SizeRange = Range(low=0.0, high=0.1)
    """In units of the normalised intensities."""


class Brightness(Record):
    """Multiply intensities."""

    name: Literal["brightness"] = "brightness"
    moves_voxels: ClassVar[bool] = False
    probability: Probability = 0.15
    """Per sample."""
    factor: PositiveRange = Range(low=0.75, high=1.25)
    """Drawn per channel."""


class Contrast(Record):
    """Stretch about the channel's mean; the range of the intensities is kept."""

    name: Literal["contrast"] = "contrast"
    moves_voxels: ClassVar[bool] = False
    probability: Probability = 0.15
    """Per sample."""
    factor: PositiveRange = Range(low=0.75, high=1.25)
    """Drawn per channel."""


class PreviousMorphology(Record):
    """Erode, dilate, open or close labels of a cascade's previous segmentation, by a ball of voxels."""

    name: Literal["previous_morphology"] = "previous_morphology"
    moves_voxels: ClassVar[bool] = False
    probability: Probability = 0.4
    """Per sample."""
    label_probability: Probability = 0.5
    """Per label that the sample's previous segmentation has."""
    least_radius: int = Field(default=1, ge=1)
    """Least radius of the ball in voxels."""
    largest_radius: int = Field(default=8, ge=1)
    """Largest radius of the ball in voxels."""

    @model_validator(mode="after")
    def _check(self) -> "PreviousMorphology":
        if self.least_radius > self.largest_radius:
            raise ValueError(f"least_radius {self.least_radius} is above largest_radius {self.largest_radius}")
        return self


class PreviousRemoval(Record):
    """Remove a component of labels of a cascade's previous segmentation, as if it had been missed."""

    name: Literal["previous_removal"] = "previous_removal"
    moves_voxels: ClassVar[bool] = False
    probability: Probability = 0.2
    """Per sample."""
    label_probability: Probability = 0.5
    """Per label that the sample's previous segmentation has."""
    largest_share: float = Field(default=0.15, gt=0, le=1)
    """Components of this share of the patch or more stay."""


TransformSpec = Annotated[
    AffineTransform
    | MirrorTransform
    | GaussianNoise
    | Brightness
    | Contrast
    | PreviousMorphology
    | PreviousRemoval
    | External,
    ByName("transform"),
]


class AugmentationSpec(Record):
    """Transforms that are applied to every training patch."""

    transforms: tuple[TransformSpec, ...] = ()
    """Applied in this order."""

    def misfits(self, num_axes: int) -> Iterator[str]:
        """Yield which transforms cannot be applied to patches of a number of axes, and why."""
        for transform in self.transforms:
            # The others take any number of axes; of another package's nothing is known.
            if isinstance(transform, AffineTransform | MirrorTransform):
                yield from transform.misfits(num_axes)
