import numpy as np
import pytest
from scipy import ndimage

from tumorseg.ops.places import label_places


def test_centre_and_extent_are_scipys():
    indices = np.random.default_rng(1).integers(-1, 4, (7, 9, 5)).astype(np.int8)
    indices[indices == 2] = 0
    spacing = (3.0, 0.7, 1.1)
    found = label_places(indices, 4, spacing)
    assert set(found) == {1, 3}
    for index, place in found.items():
        centre = np.array(ndimage.center_of_mass(indices == index)) * spacing
        (box,) = ndimage.find_objects((indices == index).astype(int))
        assert place.centroid_mm == pytest.approx(tuple(centre))
        assert place.low_mm == pytest.approx([one.start * edge for one, edge in zip(box, spacing, strict=True)])
        assert place.high_mm == pytest.approx([(one.stop - 1) * edge for one, edge in zip(box, spacing, strict=True)])


def test_without_foreground_there_is_no_place():
    assert label_places(np.full((3, 4, 5), -1, np.int8), 3, (1.0, 1.0, 1.0)) == {}
