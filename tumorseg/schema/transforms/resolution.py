"""Transforms that take detail away: blur, coarser grids, thicker slices."""

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import AfterValidator

from tumorseg.schema.transforms.base import (
    AxialTransform,
    CountRange,
    ImageTransform,
    PatchFacts,
    PositiveRange,
    Probability,
    Range,
    SomeAxes,
)


def _check_zoom(interval: Range) -> Range:
    if not 0 < interval.low <= interval.high <= 1:
        raise ValueError(f"found {interval.low} to {interval.high}; zooms are above 0 and 1 at most")
    return interval


def _check_thickness(slices: CountRange) -> CountRange:
    if slices.low < 2:
        raise ValueError(f"low is {slices.low}; a thick slice is made of 2 or more")
    return slices


class GaussianBlur(ImageTransform):
    """Blur by a Gaussian, cut off at 3 standard deviations; images go on mirrored beyond the patch."""

    name: Literal["gaussian_blur"] = "gaussian_blur"
    probability: Probability = 0.2
    """Per sample."""
    channel_probability: Probability = 0.5
    """Per channel of a sample that is changed."""
    sigma: PositiveRange = Range(low=0.5, high=1.0)
    """Standard deviation in voxels, drawn for each axis."""


class LowResolution(ImageTransform):
    """Bring to a coarser grid, by its nearest voxels, and back linearly."""

    name: Literal["low_resolution"] = "low_resolution"
    probability: Probability = 0.25
    """Per sample."""
    channel_probability: Probability = 0.5
    """Per channel of a sample that is changed."""
    zoom: Annotated[Range, AfterValidator(_check_zoom)] = Range(low=0.5, high=1.0)
    """Voxels of the coarser grid for each of the patch along an axis, the same for all axes."""
    in_plane: bool = False
    """Leave the first axis alone, as for thick slices."""

    def misfits(self, facts: PatchFacts) -> Iterator[str]:
        """Yield why it cannot be applied to such patches."""
        yield from super().misfits(facts)
        if self.in_plane and facts.num_axes == 2:
            yield "low_resolution.in_plane leaves the first of 3 axes alone; a patch of 2 axes is a plane already"


class ThickSlices(AxialTransform):
    """Average neighbouring slices, as a scan of thicker slices does, and interpolate them linearly to where they were."""

    name: Literal["thick_slices"] = "thick_slices"
    probability: Probability = 0.1
    """Per sample."""
    per_channel: bool = False
    """Whether each channel draws by itself; if not, all are changed alike."""
    axes: SomeAxes | None = None
    """Spatial axes across which slices may be, one of which is drawn; null for any."""
    slices: Annotated[CountRange, AfterValidator(_check_thickness)] = CountRange(low=2, high=4)
    """Slices that become a thick one."""

    def misfits(self, facts: PatchFacts) -> Iterator[str]:
        """Yield why it cannot be applied to such patches."""
        yield from super().misfits(facts)
        axes = [axis for axis in self.allowed_axes(facts) if axis < facts.num_axes]
        if not axes:
            return
        thinnest = min(axes, key=lambda axis: facts.patch_size[axis])
        if self.slices.high > facts.patch_size[thinnest]:
            found = f"thick_slices.slices are up to {self.slices.high}"
            yield f"{found}; a patch has {facts.patch_size[thinnest]} voxels along axis {thinnest}"
