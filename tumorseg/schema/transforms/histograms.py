"""Transforms that flatten histograms, as viewers and vendors' filters do."""

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import AfterValidator

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


class HistogramEqualization(ImageTransform):
    """Equalise a channel's histogram between its percentiles 0.5 and 99.5; values beyond stay, and so does the range.

    Voxels of 0 and of the channel's least value, which are background, stay as they are and do not count.
    """

    name: Literal["histogram_equalization"] = "histogram_equalization"
    probability: Probability = 0.1
    """Per sample."""
    strength: ShareRange = Range(low=0.2, high=0.7)
    """From 0, the image as it is, to 1, a flat histogram."""


def _check_limit(interval: Range) -> Range:
    if interval.low < 1:
        raise ValueError(f"low is {interval.low}; no histogram is below 1, its mean, everywhere")
    return interval


class Clahe(ImageTransform):
    """Equalise the histogram around each voxel, its peaks clipped (contrast limited adaptive histogram equalisation).

    What is background and which values stay is as in `histogram_equalization`.
    """

    name: Literal["clahe"] = "clahe"
    probability: Probability = 0.1
    """Per sample."""
    tiles: NumberRange = CountRange(low=2, high=6)
    """Along the longest axis; along others as many as make them cubes of voxels."""
    clip_limit: Annotated[PositiveRange, AfterValidator(_check_limit)] = Range(low=1.5, high=4.0)
    """Most that a bin holds, as a multiple of the mean; 1 changes nothing."""

    def misfits(self, facts: PatchFacts) -> Iterator[str]:
        """Yield why it cannot be applied to such patches."""
        yield from super().misfits(facts)
        longest = max(facts.patch_size)
        if self.tiles.high > max(1, longest // 2):
            yield f"clahe.tiles are up to {self.tiles.high}; tiles of a patch {longest} voxels long need 2 voxels each at least"
