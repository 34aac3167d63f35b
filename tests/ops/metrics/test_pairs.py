import gc
import weakref

import numpy as np
import pytest

from tests.ops.metrics.cases import ANISOTROPIC, SHAPE, pair
from tumorseg.ops.distances import border_distances, border_voxels
from tumorseg.ops.metrics.case import score_mask
from tumorseg.ops.metrics.pairs import MaskPair
from tumorseg.schema.metric_names import METRICS
from tumorseg.schema.score_rules import ScoreRules


def test_masks_are_cropped_to_the_box_around_both():
    prediction, reference = np.zeros((2, *SHAPE), dtype=bool)
    prediction[3, 5, 7], reference[9, 5, 30] = True, True
    found = MaskPair(prediction, reference, spacing_mm=ANISOTROPIC)
    assert found.box == ((2, 11), (4, 7), (6, 31))
    assert (found.prediction.shape, tuple(found.image_shape)) == ((9, 3, 25), SHAPE)
    assert (found.num_predicted, found.num_reference, found.num_shared, found.num_empty) == (1, 1, 0, 0)


def test_distances_are_those_between_the_borders_of_the_whole_image():
    masks = pair(2)
    found = MaskPair(*masks, spacing_mm=ANISOTROPIC)
    for ours, alone in zip(found.distances, border_distances(*masks, spacing_mm=ANISOTROPIC), strict=True):
        np.testing.assert_array_equal(ours, alone)
    assert [int(border.sum()) for border in found.borders] == [int(border_voxels(mask).sum()) for mask in masks]


def test_components_are_found_once_for_each_kind_of_neighbours():
    found = MaskPair(*pair(2), spacing_mm=ANISOTROPIC)
    assert found.predicted_components(26) is found.predicted_components(26)
    kinds = [found.predicted_components(26), found.predicted_components(6), found.reference_components(26)]
    assert len({id(parts) for parts in kinds}) == 3
    assert found.distances is found.distances


def test_what_was_measured_goes_with_the_pair():
    gc.disable()
    try:
        found = MaskPair(*pair(2), spacing_mm=ANISOTROPIC)
        found.predicted_components(26), found.distances
        gone = weakref.ref(found)
        del found
        assert gone() is None, "arrays of a case must not wait for the garbage collector"
    finally:
        gc.enable()


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 1, 9), (1, 9, 1), (3, 1, 4)])
def test_images_of_few_voxels_are_scored(shape):
    mask = np.ones(shape, dtype=bool)
    found = score_mask(mask, mask, spacing_mm=ANISOTROPIC, rules=ScoreRules(metrics=tuple(METRICS))).scores
    assert (found["nsd"], found["hd_mm"], found["boundary_iou"], found["panoptic_quality"]) == (1.0, 0.0, 1.0, 1.0)
