"""Transforms of what was acquired: channels that are missing, images that end early, tumours of other cases."""

from collections.abc import Iterator
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field

from tumorseg.schema.transforms.base import (
    Channels,
    PatchFacts,
    Probability,
    Range,
    ShareRange,
    SomeAxes,
    TransformRecord,
    UniqueAxes,
    axis_misfits,
    check_unique,
)


class MissingChannel(TransformRecord):
    """Set whole channels to 0, which stands for a channel that is not there; one of the image's always stays."""

    name: Literal["missing_channel"] = "missing_channel"
    probability: Probability = 0.1
    """Per sample."""
    channels: Channels | None = None
    """Channels that may be missing; null for all."""
    channel_probability: Probability = 0.3
    """Per channel of a sample that is changed."""

    def misfits(self, facts: PatchFacts) -> Iterator[str]:
        """Yield why it cannot be applied to such patches."""
        if facts.num_channels < 2:
            yield "missing_channel needs images of 2 channels or more, these have 1; leave it out"
        elif self.channels is not None and max(self.channels) >= facts.num_channels:
            yield f"missing_channel.channels are {self.channels}; images have channels 0 to {facts.num_channels - 1}"


class ReducedFov(TransformRecord):
    """Let the image end early: beyond a plane there is nothing to be seen, and no label but those that are ignored."""

    name: Literal["reduced_fov"] = "reduced_fov"
    changes_labels: ClassVar[bool] = True
    probability: Probability = 0.1
    """Per sample."""
    axes: SomeAxes | None = None
    """Spatial axes along which it may end, in the configuration's own numbering; null for all."""
    share: ShareRange = Range(low=0.05, high=0.3)
    """Of the patch's edge that is cut, at either end; a voxel at least."""

    def misfits(self, facts: PatchFacts) -> Iterator[str]:
        """Yield why it cannot be applied to such patches."""
        yield from axis_misfits("reduced_fov.axes", self.axes or (), facts)


Classes = Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1), AfterValidator(check_unique)]
"""Class indices, 0 for the background."""
Foreground = Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=1), AfterValidator(check_unique)]
"""Class indices but the background's."""


class CopyPaste(TransformRecord):
    """Paste the voxels of some classes, image and labels, from a patch of another case into the same place.

    Both patches are of one size: what the other cuts off at its edge ends at the edge of this one as well. Off in every preset.
    """

    name: Literal["copy_paste"] = "copy_paste"
    changes_labels: ClassVar[bool] = True
    probability: Probability = 0.1
    """Per sample; nothing is pasted where no other patch with such classes is found."""
    labels: Foreground
    """Class indices that are pasted, tumours rather than organs: positions of the label values in ascending order, from 1."""
    onto: Classes = (0,)
    """Class indices that are pasted over, 0 for the background; all others stay. That of an organ alone keeps tumours inside it."""
    largest_share: float = Field(default=0.25, gt=0, le=1)
    """Of the patch; where more would be pasted nothing is."""
    mirror_axes: UniqueAxes = ()
    """Spatial axes along which the other patch is flipped half of the time, in the configuration's own numbering."""

    def misfits(self, facts: PatchFacts) -> Iterator[str]:
        """Yield why it cannot be applied to such patches."""
        yield from axis_misfits("copy_paste.mirror_axes", self.mirror_axes, facts)
