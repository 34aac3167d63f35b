"""Live: SimpleITK, scikit-image; MONAI is in test_against_monai.py."""

import numpy as np
import pytest
import SimpleITK

from tests.ops.metrics.cases import ball, pair
from tumorseg.ops.metrics.case import score_mask
from tumorseg.ops.metrics.components import components_of
from tumorseg.schema.metric_names import METRICS
from tumorseg.schema.score_rules import ScoreRules

EVERY = ScoreRules(metrics=tuple(METRICS), tolerance_mm=1.5)


def test_overlap_and_volumes_are_those_of_simpleitk() -> None:
    prediction = ball((4, 8, 7), 4.0, (9, 17, 15))
    reference = ball((5, 7, 6), 3.5, (9, 17, 15))
    images = [SimpleITK.GetImageFromArray(mask.astype(np.uint8)) for mask in (prediction, reference)]
    oracle = SimpleITK.LabelOverlapMeasuresImageFilter()
    oracle.Execute(*images)
    result = score_mask(prediction, reference, spacing_mm=(3.0, 0.5, 0.7), rules=EVERY)
    found = result.scores
    assert found["dsc"] == pytest.approx(oracle.GetDiceCoefficient(1), abs=1e-12)
    assert found["iou"] == pytest.approx(oracle.GetJaccardCoefficient(1), abs=1e-12)
    assert found["precision"] == pytest.approx(1 - oracle.GetFalseDiscoveryRate(1), abs=1e-12)
    assert found["recall"] == pytest.approx(1 - oracle.GetFalseNegativeError(1), abs=1e-12)
    assert found["volume_error_ml"] == pytest.approx((prediction.sum() - reference.sum()) * 3.0 * 0.5 * 0.7 / 1000)
    assert result.prediction_volume_ml - result.reference_volume_ml == pytest.approx(found["volume_error_ml"])


def test_hausdorff_distances_of_simpleitk_are_measured_between_masks_not_borders() -> None:
    # A ball in a larger one: from inside its centre to the other mask there is no way, from border to border there is.
    prediction, reference = ball((7, 8, 8), 6.0, (15, 17, 17)), ball((7, 8, 8), 3.0, (15, 17, 17))
    oracle = SimpleITK.HausdorffDistanceImageFilter()
    oracle.Execute(*(SimpleITK.GetImageFromArray(mask.astype(np.uint8)) for mask in (prediction, reference)))
    found = score_mask(prediction, reference, spacing_mm=(1.0, 1.0, 1.0), rules=EVERY).scores
    assert found["hd_mm"] == pytest.approx(oracle.GetHausdorffDistance(), rel=1e-6)
    assert oracle.GetAverageHausdorffDistance() < found["masd_mm"]


@pytest.mark.parametrize("connectivity", [6, 18, 26])
def test_components_are_those_of_scikit_image(connectivity: int) -> None:
    from skimage.measure import label

    mask = np.random.default_rng(connectivity).random((13, 17, 11)) > 0.8
    expected = label(mask, connectivity={6: 1, 18: 2, 26: 3}[connectivity])
    found = components_of(mask, connectivity)
    np.testing.assert_array_equal(found.image(), expected)
    np.testing.assert_array_equal(found.sizes[1:], np.bincount(expected.ravel())[1:])


def test_hausdorff_distance_is_that_of_scikit_image_between_borders() -> None:
    from skimage.metrics import hausdorff_distance

    from tumorseg.ops.distances import border_voxels

    masks = pair(1)
    found = score_mask(*masks, spacing_mm=(1.0, 1.0, 1.0), rules=EVERY).scores
    assert found["hd_mm"] == pytest.approx(hausdorff_distance(*map(border_voxels, masks)), rel=1e-6)
