"""Panoptic quality of the connected components of two masks."""

from tumorseg.ops.metrics.components import overlaps_of
from tumorseg.ops.metrics.overlap import Scores
from tumorseg.ops.metrics.pairs import MaskPair
from tumorseg.schema.score_rules import Connectivity

CONNECTIVITY: Connectivity = 26
MATCH_IOU = 0.5
"""Above it no component can have two partners, so that the matching is unique."""


def panoptic_scores(pair: MaskPair) -> Scores:
    """Return panoptic, segmentation and recognition quality.

    Components of prediction and reference with an IoU above 0.5 match. No components at all: undefined; none that match: 0.

    References:
        Kirillov et al., Panoptic segmentation, CVPR 2019.
    """
    predicted, reference = pair.predicted_components(CONNECTIVITY), pair.reference_components(CONNECTIVITY)
    if pair.num_empty == 2:
        return dict.fromkeys(("panoptic_quality", "segmentation_quality", "recognition_quality"))
    pairs = overlaps_of(predicted, reference)
    union = predicted.sizes[pairs.first] + reference.sizes[pairs.second] - pairs.shared
    iou = pairs.shared / union
    matched = iou[iou > MATCH_IOU]
    segmentation = float(matched.mean()) if matched.size else 0.0
    # TP + FP is the number of the one's components, TP + FN that of the other's.
    recognition = 2 * matched.size / (predicted.num + reference.num)
    return {
        "panoptic_quality": segmentation * recognition,
        "segmentation_quality": segmentation,
        "recognition_quality": recognition,
    }
