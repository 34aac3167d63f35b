import math

import numpy as np
import pytest

from tests.ops.trust.phantoms import SPACING, phantom
from tumorseg.ops.trust.image_profile import MOST_VOXELS, ProfiledImage, image_profile, sampling_steps
from tumorseg.ops.trust.thumbnails import STEPS, decode_thumbnail


def test_levels_are_percentiles_within_the_body_in_the_images_own_unit():
    found = phantom(0)
    ct, _ = image_profile(found).channels
    least, greatest = found.image[0].min(), np.percentile(found.image[0], 99.5)
    inside = found.image[0][found.image[0] > least + 0.1 * (greatest - least)]
    np.testing.assert_allclose(ct.levels, np.percentile(inside, (5, 25, 50, 75, 95)), rtol=1e-4)


def test_an_offset_moves_levels_and_nothing_else():
    found = phantom(1)
    moved = found._replace(image=found.image + np.array([1000, 0], np.float32)[:, None, None, None])
    before, after = image_profile(found), image_profile(moved)
    np.testing.assert_allclose(np.subtract(after.channels[0].levels, before.channels[0].levels), 1000, atol=0.01)
    assert (after.body_mm, after.shape) == (before.body_mm, before.shape)
    one, other = (decode_thumbnail(found.channels[0].thumbnail) for found in (before, after))
    np.testing.assert_allclose(other, one, atol=1.5 / STEPS)  # float32 has fewer digits of larger numbers
    assert after.channels[1] == before.channels[1]


def test_the_extent_of_the_body_is_in_mm():
    image = np.zeros((1, 11, 19, 23), np.float32)
    image[0, 2:8, 5:15, 3:18] = np.random.default_rng(0).uniform(50, 60, (6, 10, 15))
    found = image_profile(ProfiledImage(image, SPACING, ("mr",)))
    assert found.body_mm == pytest.approx((6 * 2.5, 10 * 1.25, 15 * 0.8))
    assert found.channels[0].share_zero == pytest.approx(1 - 6 * 10 * 15 / (11 * 19 * 23), abs=1e-6)


def test_mirroring_an_image_mirrors_its_thumbnail():
    found = phantom(2, shape=(13, 29, 37))
    for axis in range(3):
        mirrored = image_profile(found._replace(image=np.flip(found.image, axis + 1)))
        one = decode_thumbnail(image_profile(found).channels[0].thumbnail)
        other = decode_thumbnail(mirrored.channels[0].thumbnail)
        np.testing.assert_allclose(np.flip(other, axis), one, atol=1.5 / STEPS)


def test_a_channel_of_zeros_is_empty_and_one_that_is_absent_is_not_said_to_be():
    found = phantom(3)
    found.image[1] = 0
    shown, empty = image_profile(found).channels
    assert (shown.is_empty, empty.is_empty, empty.thumbnail) == (False, True, None)
    assert image_profile(found).correlations == (None,)
    absent = image_profile(found._replace(absent=(1,))).channels[1]
    assert absent.is_absent
    assert not absent.is_empty


def test_what_a_channel_does_not_cover_says_nothing_of_its_intensities():
    found = phantom(4)
    covered = np.ones(found.image.shape[1:], np.bool_)
    covered[:, :9] = False
    found.image[0][~covered] = 5000
    levels = image_profile(found._replace(covered=(covered, None))).channels[0].levels
    assert max(levels) < 300


def test_padding_of_ct_is_no_body():
    found = phantom(5)
    before = image_profile(found).channels[0].levels
    found.image[0, :, :3] = -3024
    np.testing.assert_allclose(image_profile(found).channels[0].levels, before, atol=5)


def test_correlations_are_numpys_within_the_body():
    found = phantom(6)._replace(kinds=("mr", "mr"))
    found.image[:] = np.random.default_rng(0).normal(100, 3, found.image.shape)
    found.image[1] += found.image[0]
    (correlation,) = image_profile(found).correlations
    # Brightest voxels are cut off, and noise is body nearly everywhere.
    assert correlation == pytest.approx(np.corrcoef(found.image[0].ravel(), found.image[1].ravel())[0, 1], abs=0.03)


@pytest.mark.parametrize("shape", [(512, 512, 600), (7, 2000, 2001), (30, 40, 50)])
def test_few_voxels_are_looked_at_of_any_image(shape):
    steps = sampling_steps(shape)
    counts = [-(-size // step) for size, step in zip(shape, steps, strict=True)]
    assert math.prod(counts) <= MOST_VOXELS
    assert math.prod(counts) > MOST_VOXELS / 2 or steps == (1, 1, 1)
