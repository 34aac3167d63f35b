"""The augmentation that suits a patch: first transforms of nnU-Net's recipe, with its probabilities and ranges."""

from collections.abc import Sequence

from tumorseg.schema.augmentation import (
    AffineTransform,
    AugmentationSpec,
    Brightness,
    Contrast,
    GaussianNoise,
    MirrorTransform,
    PreviousMorphology,
    PreviousRemoval,
)

THICK_PATCH = 3.0
"""A patch over this many times longer in some axis than in its first is augmented in its planes only."""
LONG_PATCH_2D = 1.5
"""A 2D patch longer than this against its other edge is turned little, so that little leaves it."""
HALF_TURN_DEG, SMALL_DEG_3D, SMALL_DEG_2D = 180.0, 30.0, 15.0


def choose_augmentation(patch_size: Sequence[int], mirroring_axes: Sequence[int]) -> AugmentationSpec:
    """Return the transforms for a patch; mirroring only along the axes given."""
    mirror = [MirrorTransform(axes=tuple(mirroring_axes))] if mirroring_axes else []
    has_lateral_axis = 0 < len(mirroring_axes) < len(patch_size)
    return AugmentationSpec(
        transforms=(
            _choose_affine(patch_size, has_lateral_axis=has_lateral_axis),
            GaussianNoise(),
            Brightness(),
            Contrast(),
            *mirror,
        )
    )


def cascade_augmentation(augmentation: AugmentationSpec) -> AugmentationSpec:
    """Return the transforms of a cascade: those of its images, then those of the previous segmentation, as in nnU-Net."""
    return AugmentationSpec(transforms=(*augmentation.transforms, PreviousMorphology(), PreviousRemoval()))


def is_thick(patch_size: Sequence[int]) -> bool:
    """Return whether a 3D patch is to be augmented plane by plane (nnU-Net's dummy 2D augmentation)."""
    return len(patch_size) == 3 and max(patch_size) / patch_size[0] > THICK_PATCH


def _choose_affine(patch_size: Sequence[int], *, has_lateral_axis: bool) -> AffineTransform:
    """Return the rotation; a half turn and a flip would mirror left and right, so one of them is left out."""
    if len(patch_size) == 2:
        is_long = max(patch_size) / min(patch_size) > LONG_PATCH_2D
        return AffineTransform(rotation_deg=(SMALL_DEG_2D if is_long or has_lateral_axis else HALF_TURN_DEG,))
    if is_thick(patch_size):
        largest = SMALL_DEG_3D if has_lateral_axis else HALF_TURN_DEG
        return AffineTransform(rotation_deg=(largest, 0.0, 0.0), in_plane=True)
    return AffineTransform(rotation_deg=(SMALL_DEG_3D,) * 3)
