"""Choices that no dataset changes."""

from tumorseg.schema.plan import Reason

ORIENTATION_REASON = Reason(
    rule="one orientation for all images, so that none is learnt or predicted turned",
    alternative="as_stored, of plans imported from nnU-Net: images stored another way round are segmented turned",
)
FIXED_REASONS = {
    "resampling": Reason(
        rule="cubic images, linear labels and logits; an axis over 3 times coarser than the finest is not mixed with "
        "the others",
        alternative="linear images (resampling.image_order=1): quicker to preprocess, blurred",
    ),
    "inference": Reason(
        rule="nnU-Net's half-tile overlap and Gaussian weights of an eighth of the tile",
        alternative="an overlap of 0.25: a third fewer tiles along each axis, whose edges may show",
    ),
}
"""By field of every configuration."""
