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
from tumorseg.schema.plan import Reason

THICK_PATCH = 3.0
"""A patch over this many times longer in some axis than in its first is augmented in its planes only."""
LONG_PATCH_2D = 1.5
"""A 2D patch longer than this against its other edge is turned little, so that little leaves it."""
CORRUPTION_REASON = Reason(
    rule="the previous segmentation is corrupted now and then, so that its mistakes are not believed",
    alternative="none: the network would copy the previous segmentation, mistakes included",
)
"""Why a cascade has transforms of its own."""
Likely = AffineTransform | GaussianNoise | Brightness | Contrast
"""Transforms that are applied with a probability that may be changed."""
HALF_TURN_DEG, SMALL_DEG_3D, SMALL_DEG_2D = 180.0, 30.0, 15.0


def choose_augmentation(
    patch_size: Sequence[int], mirroring_axes: Sequence[int], *, strength: float = 1.0
) -> AugmentationSpec:
    """Return the transforms for a patch.

    Args:
        patch_size: voxels.
        mirroring_axes: axes along which it may be mirrored.
        strength: factor of nnU-Net's probabilities, 1 at most; mirrored is half of the patches in any case.
    """
    mirror = [MirrorTransform(axes=tuple(mirroring_axes))] if mirroring_axes else []
    # Some axes but not all means that the lateral one was left out. Where none is mirrored, a half turn alone does not
    # swap the sides.
    has_lateral_axis = 0 < len(mirroring_axes) < len(patch_size)
    affine = _choose_affine(patch_size, has_lateral_axis=has_lateral_axis)
    transforms = (_strengthened(one, strength) for one in (affine, GaussianNoise(), Brightness(), Contrast()))
    return AugmentationSpec(transforms=(*transforms, *mirror))


def cascade_augmentation(augmentation: AugmentationSpec) -> AugmentationSpec:
    """Return the transforms of a cascade: its images', then those of the previous segmentation, as in nnU-Net."""
    return AugmentationSpec(transforms=(*augmentation.transforms, PreviousMorphology(), PreviousRemoval()))


def cascade_reasons(augmentation: AugmentationSpec) -> dict[str, Reason]:
    """Return the reasons of the transforms that only a cascade has, by field of its configuration."""
    reasons = {}
    for number, transform in enumerate(augmentation.transforms):
        if isinstance(transform, PreviousMorphology | PreviousRemoval):
            reasons[f"augmentation.transforms.{number}"] = CORRUPTION_REASON
    return reasons


def rotation_reasons(augmentation: AugmentationSpec, patch_size: Sequence[int]) -> dict[str, Reason]:
    """Return the reason of the rotation's axes, by field of the configuration."""
    reasons = {}
    for number, transform in enumerate(augmentation.transforms):
        if isinstance(transform, AffineTransform):
            reasons[f"augmentation.transforms.{number}.rotation_deg"] = _rotation_reason(patch_size)
    return reasons


def _rotation_reason(patch_size: Sequence[int]) -> Reason:
    if is_thick(patch_size):
        elongation = f"over {THICK_PATCH:g} times longer than thick ({max(patch_size)} to {patch_size[0]})"
        return Reason(
            rule=f"in-plane rotation alone, the patch being {elongation}: slices are not mixed",
            alternative="about all axes: mixes slices that lie far apart",
        )
    if len(patch_size) == 2:
        return Reason(
            rule="in-plane rotation: a patch has one plane", alternative="none: images turned in use look new"
        )
    return Reason(
        rule="about all axes: the patch is about as thick as long",
        alternative="in-plane rotation alone: tilted images look new",
    )


def is_thick(patch_size: Sequence[int]) -> bool:
    """Return whether a 3D patch is to be augmented plane by plane (nnU-Net's dummy 2D augmentation)."""
    # Against the first axis alone: in a plan's order that is the coarse one, of which a patch holds the fewest voxels.
    return len(patch_size) == 3 and max(patch_size) / patch_size[0] > THICK_PATCH


def _strengthened(transform: Likely, strength: float) -> Likely:
    """Return a transform whose probabilities are multiplied."""
    probabilities = {}
    for name, value in transform:
        if name.endswith("probability"):
            # Rounded, so that a plan says 0.3 and not 0.30000000000000004.
            probabilities[name] = min(1.0, round(value * strength, 4))
    return transform.changed(**probabilities)


def _choose_affine(patch_size: Sequence[int], *, has_lateral_axis: bool) -> AffineTransform:
    """Return the rotation; a half turn and a flip would mirror left and right, so one of them is left out."""
    if len(patch_size) == 2:
        is_long = max(patch_size) / min(patch_size) > LONG_PATCH_2D
        return AffineTransform(rotation_deg=(SMALL_DEG_2D if is_long or has_lateral_axis else HALF_TURN_DEG,))
    if is_thick(patch_size):
        largest = SMALL_DEG_3D if has_lateral_axis else HALF_TURN_DEG
        return AffineTransform(rotation_deg=(largest, 0.0, 0.0), in_plane=True)
    return AffineTransform(rotation_deg=(SMALL_DEG_3D,) * 3)
