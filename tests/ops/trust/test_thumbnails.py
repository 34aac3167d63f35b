import numpy as np
import pytest

from tumorseg.ops.trust.thumbnails import (
    LIMIT,
    SIZE,
    STEPS,
    body_box,
    decode_numbers,
    decode_thumbnail,
    encode_numbers,
    encode_thumbnail,
    make_thumbnail,
)

WHOLE = ((0, 20), (0, 30), (0, 40))


def thumbnail_of(array, box):
    return make_thumbnail(lambda position: array[position], box)


def axis_counts(mask):
    return [mask.sum(axis=tuple({0, 1, 2} - {axis})) for axis in range(3)]


def test_cells_are_means_over_equal_blocks_of_the_box():
    channel = np.random.default_rng(0).normal(size=(20, 30, 40)).astype(np.float32)
    means = channel.reshape(SIZE, 2, SIZE, 3, SIZE, 4).mean(axis=(1, 3, 5), dtype=np.float64)
    expected = np.clip((means - means.mean()) / means.std(), -LIMIT, LIMIT)
    np.testing.assert_allclose(thumbnail_of(channel, WHOLE), expected, atol=1e-5)


def test_the_thumbnail_of_a_mirrored_image_is_the_mirrored_thumbnail():
    channel = np.random.default_rng(5).normal(size=(3, 23, 37)).astype(np.float32)
    box = ((0, 3), (4, 21), (2, 36))
    for axis in range(3):
        mirrored = list(box)
        mirrored[axis] = (channel.shape[axis] - box[axis][1], channel.shape[axis] - box[axis][0])
        other = thumbnail_of(np.flip(channel, axis), tuple(mirrored))
        np.testing.assert_allclose(np.flip(other, axis), thumbnail_of(channel, box), atol=1e-5)


def test_cells_of_fractions_of_voxels_share_them():
    # Seven voxels make ten cells of .7 of a voxel: the second holds .3 of the first voxel and .4 of the second.
    channel = np.broadcast_to(np.arange(7, dtype=np.float32)[:, None, None] ** 2, (7, 4, 5))
    thumbnail = thumbnail_of(channel, ((0, 7), (0, 4), (0, 5)))[:, 0, 0].astype(np.float64)
    fine = np.repeat(channel[:, 0, 0], 1000).reshape(10, 700)
    expected = fine.mean(axis=1, dtype=np.float64)
    assert expected[1] == pytest.approx(0.4 / 0.7)
    np.testing.assert_allclose(thumbnail, (expected - expected.mean()) / expected.std(), atol=1e-4)


def test_unit_and_offset_of_intensities_change_nothing():
    channel = np.random.default_rng(1).normal(size=(20, 30, 40)).astype(np.float32)
    np.testing.assert_allclose(thumbnail_of(channel * 700 + 5000, WHOLE), thumbnail_of(channel, WHOLE), atol=1e-3)


def test_a_channel_of_one_value_has_no_thumbnail():
    assert thumbnail_of(np.full((20, 30, 40), 7.1, np.float32), WHOLE) is None


def test_stored_thumbnails_are_off_by_half_a_step_at_most():
    thumbnail = thumbnail_of(np.random.default_rng(2).normal(size=(20, 30, 40)).astype(np.float32), WHOLE)
    assert np.abs(decode_thumbnail(encode_thumbnail(thumbnail)) - thumbnail).max() <= 0.5 / STEPS + 1e-6


def test_stored_numbers_keep_five_digits():
    values = np.array([1.23456789, -4e-7, 12345678.0])
    np.testing.assert_allclose(decode_numbers(encode_numbers(values)), values, rtol=6e-5)


def test_single_voxels_of_noise_do_not_move_the_box():
    mask = np.zeros((12, 20, 30), np.bool_)
    mask[3:9, 5:15, 10:25] = True
    mask[0, 0, 0] = mask[11, 19, 29] = True
    assert body_box(axis_counts(mask), 0.01) == ((3, 9), (5, 15), (10, 25))


def test_a_mirrored_mask_has_the_mirrored_box():
    mask = np.random.default_rng(8).random((9, 14, 23)) < np.linspace(0, 1, 23) ** 4
    for axis, (low, high) in enumerate(body_box(axis_counts(mask), 0.01)):
        mirrored = body_box(axis_counts(np.flip(mask, axis)), 0.01)[axis]
        assert mirrored == (mask.shape[axis] - high, mask.shape[axis] - low)


@pytest.mark.parametrize("shape", [(3, 5, 7), (1, 4, 2)])
def test_the_box_of_an_empty_mask_is_the_whole_image(shape):
    assert body_box(axis_counts(np.zeros(shape, np.bool_)), 0.01) == tuple((0, size) for size in shape)
