"""What presets of augmentation go by: size and mirroring of a patch, kinds and normalisation of its channels."""

from collections.abc import Sequence
from typing import Annotated

from pydantic import Field, model_validator

from tumorseg.schema.base import Record
from tumorseg.schema.dataset import ChannelKind
from tumorseg.schema.preprocessing import NormalizationSpec
from tumorseg.schema.transforms.base import PatchFacts, UniqueAxes
from tumorseg.schema.transforms.spatial import SpatialTransform

THICK_PATCH = 3.0
"""A patch over this many times longer in some axis than in its first is augmented in its planes only."""
LONG_PATCH_2D = 1.5
"""A 2D patch longer than this against its other edge is turned little, so that little leaves it."""
HALF_TURN_DEG, SMALL_DEG_3D, SMALL_DEG_2D = 180.0, 30.0, 15.0


class AugmentedPatch(Record):
    """Patch that a preset is built for."""

    patch_size: tuple[Annotated[int, Field(ge=1)], ...] = Field(min_length=2, max_length=3)
    """Voxels."""
    mirroring_axes: UniqueAxes
    """Axes along which it may be mirrored, in the configuration's own numbering."""
    kinds: tuple[ChannelKind, ...]
    """One for each channel of the images."""
    normalization: tuple[NormalizationSpec, ...]
    """One for each channel."""

    @model_validator(mode="after")
    def _check(self) -> "AugmentedPatch":
        if len(self.kinds) != len(self.normalization):
            raise ValueError(f"images have {len(self.kinds)} channels, but normalization {len(self.normalization)}")
        return self

    @property
    def num_axes(self) -> int:
        """Return 2 or 3."""
        return len(self.patch_size)

    @property
    def facts(self) -> PatchFacts:
        """Return what transforms may know of it."""
        return PatchFacts(self.patch_size, self.normalization)

    @property
    def is_thick(self) -> bool:
        """Return whether it is to be augmented plane by plane."""
        return is_thick(self.patch_size)

    @property
    def has_lateral_axis(self) -> bool:
        """Return whether left and right must not be swapped."""
        # Some axes but not all means that the lateral one was left out. Where none is mirrored, a half turn alone does
        # not swap the sides.
        return 0 < len(self.mirroring_axes) < self.num_axes


def is_thick(patch_size: Sequence[int]) -> bool:
    """Return whether a 3D patch is to be augmented plane by plane (nnU-Net's dummy 2D augmentation)."""
    # Against the first axis alone: in a plan's order that is the coarse one, of which a patch holds the fewest voxels.
    return len(patch_size) == 3 and max(patch_size) / patch_size[0] > THICK_PATCH


def suited_spatial(patch: AugmentedPatch) -> SpatialTransform:
    """Return nnU-Net's rotation and scaling for a patch.

    A half turn and a flip would swap left and right, so that one of them is left out.
    """
    if patch.num_axes == 2:
        is_long = max(patch.patch_size) / min(patch.patch_size) > LONG_PATCH_2D
        is_little = is_long or patch.has_lateral_axis
        return SpatialTransform(rotation_deg=(SMALL_DEG_2D if is_little else HALF_TURN_DEG,))
    if patch.is_thick:
        largest = SMALL_DEG_3D if patch.has_lateral_axis else HALF_TURN_DEG
        return SpatialTransform(rotation_deg=(largest, 0.0, 0.0), in_plane=True)
    return SpatialTransform(rotation_deg=(SMALL_DEG_3D,) * 3)
