import numpy as np
import pytest

from tumorseg.ops.metrics.pairs import MaskPair
from tumorseg.ops.metrics.panoptic import panoptic_scores


def rows(prediction, reference):
    """Return what is scored of two masks with a bar in every second row, each from a place up to another."""
    masks = np.zeros((2, 3, 2 * len(prediction) + 1, 40), dtype=bool)
    for mask, bars in zip(masks, (prediction, reference), strict=True):
        for number, (lower, upper) in enumerate(bars):
            mask[1, 2 * number + 1, lower:upper] = True
    return panoptic_scores(MaskPair(*masks, spacing_mm=(2.0, 1.0, 1.0)))


def test_quality_is_that_of_pairs_times_how_many_have_one():
    # IoU 8 / 10 and 6 / 11 match, 3 / 13 does not, and the last rows have one bar each.
    found = rows([(0, 8), (3, 9), (0, 8), (1, 5), (0, 0)], [(0, 10), (0, 11), (5, 13), (0, 0), (7, 9)])
    segmentation, recognition = (8 / 10 + 6 / 11) / 2, 2 * 2 / (4 + 4)
    assert found["segmentation_quality"] == pytest.approx(segmentation)
    assert found["recognition_quality"] == recognition
    assert found["panoptic_quality"] == pytest.approx(segmentation * recognition)


@pytest.mark.parametrize(("upper", "matches"), [(5, 0.0), (6, 1.0)])
def test_an_iou_of_a_half_is_no_match(upper, matches):
    assert rows([(0, upper)], [(0, 10)])["recognition_quality"] == matches
