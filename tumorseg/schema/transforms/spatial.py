"""Transforms that move voxels."""

from collections.abc import Iterator
from typing import ClassVar, Literal

from tumorseg.schema.transforms.base import (
    PatchFacts,
    PositiveRange,
    Probability,
    Range,
    ShareRange,
    SizeRange,
    TransformRecord,
    UniqueAxes,
    axis_misfits,
)


class SpatialTransform(TransformRecord):
    """Rotate about the patch's centre, scale and deform, in one resampling: images linearly, each voxel the label of the largest share.

    Angles are those of the voxel grid, isotropic in voxels as in nnU-Net.
    """

    name: Literal["spatial"] = "spatial"
    moves_voxels: ClassVar[bool] = True
    rotation_probability: Probability = 0.2
    """Per sample."""
    rotation_deg: tuple[float, ...]
    """Largest angle about each axis, in the plan's axis order; one number for 2D."""
    scaling_probability: Probability = 0.2
    """Per sample."""
    scaling: PositiveRange = Range(low=0.7, high=1.4)
    """Factor of the distance between the voxels that are looked at, uniform; above 1 shows more of the image, smaller."""
    elastic_probability: Probability = 0.0
    """Per sample."""
    elastic_width: ShareRange = Range(low=0.0, high=0.2)
    """Standard deviation that displacements are smoothed with, as a share of the patch, drawn per axis."""
    elastic_magnitude: SizeRange = Range(low=0.0, high=0.2)
    """Largest displacement in voxels, drawn per axis; nnU-Net's 0.2 can hardly be seen, 3 can."""
    in_plane: bool = False
    """Leave the first axis alone (nnU-Net's dummy 2D augmentation for thick slices)."""

    def misfits(self, facts: PatchFacts) -> Iterator[str]:
        """Yield why it cannot be applied to such patches."""
        num_angles, num_axes = len(self.rotation_deg), facts.num_axes
        # In a plane there is one rotation, in space one about each axis.
        expected = 1 if num_axes == 2 else 3
        if num_angles != expected:
            yield f"spatial.rotation_deg has {num_angles} angles for {num_axes} axes; 2 axes need 1 angle, 3 axes 3"
        if self.in_plane and num_axes == 2:
            yield "spatial.in_plane leaves the first of 3 axes alone; a patch of 2 axes is a plane already"


class MirrorTransform(TransformRecord):
    """Flip each axis, or not, per sample."""

    name: Literal["mirror"] = "mirror"
    moves_voxels: ClassVar[bool] = True
    axes: UniqueAxes
    """Spatial axes that may be flipped, in the configuration's own numbering."""
    probability: Probability = 0.5
    """Per axis and sample."""

    def misfits(self, facts: PatchFacts) -> Iterator[str]:
        """Yield why it cannot be applied to such patches."""
        yield from axis_misfits("mirror.axes", self.axes, facts)
