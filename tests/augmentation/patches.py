"""Patches that presets are built for."""

from tests.augmentation.seeded import CT
from tumorseg.augmentation.patches import AugmentedPatch
from tumorseg.schema.preprocessing import NoNormalization, RgbNormalization, ZScoreNormalization

USUAL = {
    "ct": CT,
    "mr": ZScoreNormalization(masked=False),
    "pet": ZScoreNormalization(masked=False),
    "rgb": RgbNormalization(),
    "other": NoNormalization(),
}
"""Normalisation of a channel by its kind."""


def patch_of(patch_size=(24, 32, 28), *kinds, axes=None, normalization=None):
    """Return a patch of channels of some kinds, one of MR unless said otherwise, that may be mirrored along all axes."""
    kinds = kinds or ("mr",)
    return AugmentedPatch(
        patch_size=patch_size,
        mirroring_axes=tuple(range(len(patch_size))) if axes is None else axes,
        kinds=kinds,
        normalization=normalization or tuple(USUAL[kind] for kind in kinds),
    )
