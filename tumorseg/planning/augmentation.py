"""The augmentation that suits a patch: first transforms of nnU-Net's recipe, with its probabilities and ranges."""

from collections.abc import Sequence

from tumorseg.schema.augmentation import (
    AffineTransform,
    AugmentationSpec,
    Brightness,
    Contrast,
    GaussianNoise,
    MirrorTransform,
)

THICK_PATCH = 3.0
"""A patch over this many times longer in some axis than in its first is augmented in its planes only."""
LONG_PATCH_2D = 1.5
"""A 2D patch longer than this against its other edge is turned little, so that little leaves it."""
HALF_TURN_DEG, SMALL_DEG_3D, SMALL_DEG_2D = 180.0, 30.0, 15.0


def choose_augmentation(patch_size: Sequence[int], mirroring_axes: Sequence[int]) -> AugmentationSpec:
    """Return the transforms for a patch; mirroring only along the axes given."""
    mirror = [MirrorTransform(axes=tuple(mirroring_axes))] if mirroring_axes else []
    return AugmentationSpec(transforms=(_choose_affine(patch_size), GaussianNoise(), Brightness(), Contrast(), *mirror))


def is_thick(patch_size: Sequence[int]) -> bool:
    """Return whether a 3D patch is to be augmented plane by plane (nnU-Net's dummy 2D augmentation)."""
    return len(patch_size) == 3 and max(patch_size) / patch_size[0] > THICK_PATCH


def _choose_affine(patch_size: Sequence[int]) -> AffineTransform:
    if len(patch_size) == 2:
        is_long = max(patch_size) / min(patch_size) > LONG_PATCH_2D
        return AffineTransform(rotation_deg=(SMALL_DEG_2D if is_long else HALF_TURN_DEG,))
    if is_thick(patch_size):
        return AffineTransform(rotation_deg=(HALF_TURN_DEG, 0.0, 0.0), in_plane=True)
    return AffineTransform(rotation_deg=(SMALL_DEG_3D,) * 3)
