"""Metrics that count voxels."""

from tumorseg.ops.metrics.pairs import MaskPair

Scores = dict[str, float | None]
"""By name of the metric; None where it is undefined."""


def overlap_scores(pair: MaskPair) -> Scores:
    """Return DSC, IoU, precision and recall.

    Each is one division of voxel counts, so that it carries no other rounding. Both masks empty: undefined; one of them: 0.

    References:
        Dice, Ecology 1945; Jaccard, New Phytologist 1912; Maier-Hein et al., Metrics reloaded, Nature Methods 2024.
    """
    predicted, reference, shared = pair.num_predicted, pair.num_reference, pair.num_shared
    return {
        "dsc": ratio(2 * shared, predicted + reference),
        "iou": ratio(shared, predicted + reference - shared),
        "precision": share_of(shared, predicted, reference),
        "recall": share_of(shared, reference, predicted),
    }


def ratio(part: float, whole: float) -> float | None:
    """Return a ratio; None where the whole is 0."""
    return part / whole if whole else None


def share_of(part: int, whole: int, other: int) -> float | None:
    """Return which share of a whole is right; of an empty whole 0 if there is something else that it missed, None if not."""
    if whole:
        return part / whole
    return 0.0 if other else None
