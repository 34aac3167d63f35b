import numpy as np
import pytest
import SimpleITK

from tests.stages.members import AFFINE, NESTED, base_model, image_of, member, whole_probabilities
from tumorseg.errors import InputError
from tumorseg.ops.labels import to_indices
from tumorseg.schema.ensembles import Combination
from tumorseg.stages.inference.ensembles import together
from tumorseg.stages.inference.predict_array import predict_array, predict_array_probabilities
from tumorseg.stages.inference.staple import staple_labels, staple_region

STAPLE = Combination(method="staple")


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return base_model(tmp_path_factory.mktemp("base") / "model")


def blob(shift=0, label=1):
    mask = np.zeros((7, 13, 11), np.uint8)
    mask[2:5, 3 + shift : 9 + shift, 4:8] = label
    return mask


def images_of(masks):
    return [SimpleITK.GetImageFromArray(mask) for mask in masks]


def test_labels_are_simpleitks_on_whole_masks_of_models_that_differ(base):
    members = (
        member(base, "fine", seed=1),
        member(base, "coarse", seed=2, spacing_mm=(1.5, 2.0, 3.1)),
        member(base, "turned", seed=3, plan={"transpose": (2, 0, 1)}),
        member(base, "planes", seed=4, num_axes=2),
    )
    image = image_of()
    masks = [whole_probabilities(one, image).argmax(axis=0).astype(np.uint8) for one in members]
    expected = SimpleITK.GetArrayFromImage(SimpleITK.MultiLabelSTAPLE(images_of(masks), 3))
    expected = np.where(expected == 3, masks[0], expected)
    ensemble = together(members, STAPLE)
    found = to_indices(predict_array(ensemble, image, AFFINE), ensemble.targets)
    np.testing.assert_array_equal(found, expected)
    assert len(np.unique(found)) == 3
    # No mere copy of the first one's.
    assert (found != masks[0]).any()


def test_regions_are_simpleitks_one_by_one_painted_over_each_other(base):
    members = (
        member(base, "nested", seed=6, dataset={"regions": NESTED}),
        member(base, "labels", seed=7, plan={"transpose": (1, 0, 2)}),
        member(base, "nested too", seed=8, dataset={"regions": NESTED}),
    )
    image, ensemble = image_of(1), together(members, STAPLE)
    inside = [whole_probabilities(one, image, ensemble.targets) > 0.5 for one in members]
    expected = np.zeros(image.shape[1:], np.uint8)
    for number, region in enumerate(NESTED):
        masks = images_of([one[number].astype(np.uint8) for one in inside])
        expected[SimpleITK.GetArrayFromImage(SimpleITK.STAPLE(masks, 1.0)) > 0.5] = region.value
    np.testing.assert_array_equal(predict_array(ensemble, image, AFFINE), expected)
    assert set(np.unique(expected)) == {0, 1, 2}


def test_two_masks_outvote_a_third():
    masks = [blob(), blob(), blob(shift=2)]
    assert np.array_equal(staple_labels(masks, 3), masks[0])
    assert np.array_equal(staple_region([mask > 0 for mask in masks]), masks[0] > 0)


def test_where_it_is_left_undecided_the_first_mask_decides():
    first, second = blob(label=1), blob(label=2)
    masks = [first, second]
    undecided = SimpleITK.GetArrayFromImage(SimpleITK.MultiLabelSTAPLE(images_of(masks), 3)) == 3
    assert undecided.any()
    assert np.array_equal(staple_labels(masks, 3)[undecided], first[undecided])


@pytest.mark.parametrize("count", [1, 3])
def test_of_nothing_comes_nothing_and_of_equal_masks_the_same(count):
    nothing = np.zeros((3, 5, 4), np.uint8)
    assert not staple_labels([nothing] * count, 3).any()
    assert not staple_region([nothing > 0] * count).any()
    assert np.array_equal(staple_labels([blob()] * count, 3), blob())
    assert np.array_equal(staple_region([blob() > 0] * count), blob() > 0)


def test_one_empty_mask_beside_two_others_makes_no_voxel_undefined():
    masks = [blob(), blob(), np.zeros_like(blob())]
    assert np.array_equal(staple_labels(masks, 3), blob())
    assert np.array_equal(staple_region([mask > 0 for mask in masks]), blob() > 0)


def test_there_is_nothing_to_be_observed(base):
    ensemble = together((member(base, "a", seed=1), member(base, "b", seed=2)), STAPLE)
    assert not ensemble.has_slices
    with pytest.raises(InputError, match="no probabilities to be shown"):
        predict_array_probabilities(ensemble, image_of(), AFFINE)


def test_a_region_that_fills_the_image_is_found():
    everything = np.ones((3, 5, 4), bool)
    hole = everything.copy()
    hole[1, 2, 3] = False
    assert staple_region([everything, everything]).all()
    assert np.array_equal(staple_region([hole, hole, everything]), hole)
    assert (staple_labels([everything.astype(np.uint8)] * 2, 3) == 1).all()
