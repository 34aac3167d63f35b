import numpy as np
import pytest

from tumorseg.ops.metrics.centrelines import centreline_dice, skeleton
from tumorseg.ops.metrics.pairs import MaskPair

CUBE = (1.0, 1.0, 1.0)


def tube(lower, upper, radius=2, shape=(13, 15, 60)):
    """Return a tube along X of a round cross-section."""
    grid = np.indices(shape[:2]) - np.reshape([6, 7], (2, 1, 1))
    mask = np.zeros(shape, dtype=bool)
    mask[(grid**2).sum(axis=0) <= radius**2, lower:upper] = True
    return mask


def test_a_tube_that_is_too_wide_and_long_enough_has_all_branches():
    assert centreline_dice(MaskPair(tube(5, 55, radius=3), tube(5, 55), spacing_mm=CUBE))["cl_dice"] > 0.97


def test_half_a_tube_has_half_its_line():
    found = centreline_dice(MaskPair(tube(5, 30), tube(5, 55), spacing_mm=CUBE))["cl_dice"]
    line = skeleton(tube(5, 55))
    sensitivity = line[:, :, 5:30].sum() / line.sum()
    assert found == pytest.approx(2 * sensitivity / (1 + sensitivity), abs=0.02)


def test_a_skeleton_is_a_line_inside_its_mask():
    mask = tube(5, 55)
    line = skeleton(mask)
    assert not (line & ~mask).any()
    assert 40 <= line.sum() <= 60


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_2d_image_is_thinned_in_its_plane(axis):
    plane = np.zeros((11, 30), dtype=bool)
    plane[3:8, 2:28] = True
    mask = np.expand_dims(plane, axis)
    line = skeleton(mask)
    assert line.shape == mask.shape
    assert line.sum() < 35
    # The plane is thinned as one, wherever its axis of one voxel stands.
    np.testing.assert_array_equal(line.squeeze(axis), skeleton(plane[None])[0])


def test_lines_of_masks_beside_each_other_share_nothing():
    prediction, reference = tube(5, 55, radius=1), np.roll(tube(5, 55, radius=1), 4, axis=1)
    assert centreline_dice(MaskPair(prediction, reference, spacing_mm=CUBE)) == {"cl_dice": 0.0}


def test_a_mask_of_one_voxel_is_its_own_skeleton():
    mask = np.zeros((5, 6, 7), dtype=bool)
    mask[2, 3, 4] = True
    np.testing.assert_array_equal(skeleton(mask), mask)
