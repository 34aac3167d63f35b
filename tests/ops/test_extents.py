import tracemalloc

import numpy as np
import pytest
from scipy import ndimage

from tumorseg.ops.extents import Extent, extents_of


def segmentation(values, shape=(5, 9, 7), seed=3):
    return np.random.default_rng(seed).choice([0, 0, 0, *values], shape).astype(np.int32)


@pytest.mark.parametrize("values", [(1, 2, 5), (7, 2035, 300), (-3, 4, 254), (255, 256)])
def test_extents_are_those_of_each_mask(values):
    image = segmentation(values)
    for value, found in zip(
        values, extents_of(image, {str(value): (value,) for value in values}).values(), strict=True
    ):
        mask = image == value
        places = np.argwhere(mask)
        assert found.num_voxels == mask.sum()
        assert found.num_components == ndimage.label(mask, np.ones((3, 3, 3)))[1]
        assert np.array_equal(found.box, np.stack([places.min(0), places.max(0) + 1], axis=1))


def test_labels_that_are_looked_at_together_are_one_mask():
    image = np.zeros((4, 5, 6), np.uint8)
    image[0, 1, 2], image[1, 2, 3], image[3, 4, 5] = 1, 4, 4
    found = extents_of(image, {"whole": (1, 4), "core": (4,), "none": (2, 3)})
    assert found == {
        "whole": Extent(3, ((0, 4), (1, 5), (2, 6)), 2),  # the first two touch at a corner
        "core": Extent(2, ((1, 4), (2, 5), (3, 6)), 2),
        "none": Extent(0, None, 0),
    }


def test_a_plane_is_a_volume_of_one_slice_and_no_names_have_no_extents():
    image = np.ones((1, 3, 2), np.uint8)
    assert extents_of(image, {"all": (1,)})["all"] == Extent(6, ((0, 1), (0, 3), (0, 2)), 1)
    assert extents_of(image, {}) == {}


def test_memory_is_bounded_by_the_image_even_for_noise():
    image = np.random.default_rng(1).integers(0, 2, (20, 200, 150), dtype=np.uint8)
    tracemalloc.start()
    extents_of(image, {"noise": (1,)})
    assert tracemalloc.get_traced_memory()[1] < 5.2 * image.size
    tracemalloc.stop()
