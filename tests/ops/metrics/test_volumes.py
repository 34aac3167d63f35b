import numpy as np
import pytest

from tumorseg.ops.metrics.pairs import MaskPair
from tumorseg.ops.metrics.volumes import false_volumes, volume_error

SPACING = (3.0, 2.0, 0.5)
VOXEL_ML = 3 / 1000


def test_components_that_share_no_voxel_with_the_other_mask_are_false():
    prediction, reference = np.zeros((2, 5, 9, 30), dtype=bool)
    prediction[1, 1, 2:10] = reference[1, 1, 9:12] = True
    prediction[1, 5, 2:6] = True
    reference[3, 7, 20:27] = True
    # It touches the reference, yet shares nothing with it.
    prediction[3, 7, 18:20] = True
    pair = MaskPair(prediction, reference, spacing_mm=SPACING)
    found = false_volumes(pair) | volume_error(pair)
    assert found["false_positive_ml"] == pytest.approx((4 + 2) * VOXEL_ML)
    assert found["false_negative_ml"] == pytest.approx(7 * VOXEL_ML)
    assert found["volume_error_ml"] == pytest.approx((14 - 10) * VOXEL_ML)


def test_voxels_at_an_edge_are_one_component_and_at_a_corner_two():
    prediction, reference = np.zeros((2, 5, 9, 30), dtype=bool)
    reference[1, 1, 1] = prediction[1, 1, 1] = True
    prediction[1, 2, 2] = True
    prediction[2, 3, 3] = True
    found = false_volumes(MaskPair(prediction, reference, spacing_mm=SPACING))
    assert found["false_positive_ml"] == pytest.approx(VOXEL_ML)
