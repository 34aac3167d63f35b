"""Facts about a loss, for people: `losses list` and docs/losses.md show them."""

from typing import NamedTuple

SUMS = "nothing: sums of the shared pass"
VOXELS = "one number a voxel"


class Facts(NamedTuple):
    """A loss in a few words."""

    formula: str
    """Of one class or region; p probability, g reference (0 or 1), sums over voxels, c over classes."""
    range: str
    """Of its values."""
    source: str
    """Where it comes from."""
    cost: str
    """What it adds to the one pass over the logits that all share."""
