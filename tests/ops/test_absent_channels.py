import numpy as np
import pytest

from tumorseg.ops.absent_channels import (
    AbsentChannels,
    cover_with_room,
    fill_absent,
    present_positions,
    with_room,
)

SHAPE = (3, 5, 4)


@pytest.fixture
def channels():
    return np.random.default_rng(0).normal(size=(2, *SHAPE)).astype(np.float32)


def test_channels_keep_their_order_around_those_that_are_absent(channels):
    whole = with_room(channels, AbsentChannels((0, 2), "zero"))
    assert whole.shape == (4, *SHAPE)
    assert whole.dtype == np.float32
    np.testing.assert_array_equal(whole[[1, 3]], channels)
    assert not whole[[0, 2]].any()
    assert present_positions(AbsentChannels((0, 2), "zero"), 4) == (1, 3)


def test_zero_stands_in_whatever_normalisation_left_there(channels):
    absent = AbsentChannels((1,), "zero")
    whole = with_room(channels, absent)
    whole[1] = -3.5
    fill_absent(whole, absent)
    assert not whole[1].any()
    np.testing.assert_array_equal(whole[[0, 2]], channels)


def test_the_mean_is_that_of_the_channels_that_are_there_alone(channels):
    absent = AbsentChannels((0, 2), "mean")
    whole = with_room(channels, absent)
    whole[[0, 2]] = 100
    fill_absent(whole, absent)
    for number in (0, 2):
        np.testing.assert_allclose(whole[number], channels.mean(axis=0), rtol=1e-6, atol=1e-6)
    np.testing.assert_array_equal(whole[[1, 3]], channels)


def test_an_absent_channel_leaves_no_voxel_uncovered():
    mask = np.zeros(SHAPE, np.bool_)
    covered = cover_with_room((mask, None), AbsentChannels((1,), "mean"))
    assert covered[0] is mask
    assert covered[1:] == (None, None)
    assert cover_with_room((), AbsentChannels((1,), "mean")) == ()
