import tracemalloc

import numpy as np
import pytest
from scipy import ndimage

from tumorseg.ops.resampling import axis_orders, resample_segmentation
from tumorseg.ops.shares import OUTSIDE
from tumorseg.schema.targets import IGNORE

LINEAR = axis_orders(1, None, 0)


def blobs(shape, num_labels, seed=0):
    """Return smooth labels 0 to num_labels, as organs are."""
    rng = np.random.default_rng(seed)
    fields = [ndimage.gaussian_filter(rng.normal(size=shape), 2) for _ in range(num_labels + 1)]
    return np.argmax(fields, axis=0).astype(np.int16)


def row(*labels):
    return np.array(labels, np.int8).reshape(1, 1, -1)


def resampled(segmentation, *shape):
    return resample_segmentation(segmentation, shape, LINEAR).ravel().tolist()


def test_the_same_shape_is_not_touched():
    segmentation = blobs((3, 4, 5), 2)
    assert resample_segmentation(segmentation, (3, 4, 5), LINEAR) is segmentation


def test_where_three_labels_meet_no_background_is_invented():
    _, y, x = np.indices((12, 50, 50))
    angle = np.arctan2(y - 24.7, x - 25.2) + np.pi
    tissue = ((angle / (2 * np.pi) * 3).astype(int) % 3 + 1).astype(np.int8)
    for shape in ((12, 61, 56), (12, 34, 44), (9, 55, 59)):
        assert resample_segmentation(tissue, shape, LINEAR).min() == 1


def test_a_ball_keeps_its_volume():
    grid = np.indices((40, 40, 40)) - np.array([19.5, 19.7, 19.2])[:, None, None, None]
    for radius in (6, 12):
        ball = ((grid**2).sum(0) < radius**2).astype(np.int8)
        coarse = resample_segmentation(ball, (20, 20, 20), LINEAR)
        assert 8 * coarse.sum() == pytest.approx(ball.sum(), rel=0.01)


def test_of_equal_shares_the_nearest_label_wins_whatever_the_values():
    half = row(0, 0, 0, 0, 0, 1, 1, 1)
    assert resampled(half, 1, 1, 4) == [0, 0, 1, 1]
    assert resampled(1 - half, 1, 1, 4) == [1, 1, 0, 0]
    assert resampled(row(7, 2), 1, 1, 1) == [2]


@pytest.mark.parametrize(("third", "expected"), [(5, 1), (IGNORE, 1), (OUTSIDE, 0)])
def test_of_equal_shares_without_the_nearest_label_the_lowest_value_wins_the_ignore_label_being_the_highest(
    third, expected
):
    block = np.array([[[9, 1], [1, third]], [[third, 1], [third, 7]]], np.int8)  # 3 of 8 each, the nearest has 1 of 8
    assert resampled(block, 1, 1, 1) == [expected]


def test_background_outside_the_body_is_not_added_to_that_inside():
    block = np.array([[[3, 3, OUTSIDE, 0], [0, OUTSIDE, 0, 3]]], np.int8).reshape(2, 2, 2)
    assert resampled(block, 1, 1, 1) == [3]
    assert resampled(np.where(block == OUTSIDE, 0, block), 1, 1, 1) == [0]


@pytest.mark.parametrize("new_shape", [(6, 15, 11), (13, 31, 25)])
def test_no_label_is_invented_whatever_the_values(new_shape):
    values = np.array([0, -1, 7, 300, 2035], np.int16)
    found = resample_segmentation(values[blobs((9, 22, 17), 4)], new_shape, LINEAR)
    assert found.dtype == np.int16
    assert set(np.unique(found)) == set(values.tolist())


@pytest.mark.parametrize("shape", [(1, 7, 6), (5, 1, 6), (1, 1, 1), (5, 7, 1)])
@pytest.mark.parametrize("new_shape", [(4, 1, 1), (1, 9, 1), (3, 2, 5)])
def test_axes_of_one_voxel_are_extended_and_reached(shape, new_shape):
    assert (
        resample_segmentation(np.full(shape, 3, np.int8), new_shape, LINEAR).tolist() == np.full(new_shape, 3).tolist()
    )


def test_a_label_map_of_background_stays_so_and_a_small_label_may_fall_between_the_voxels():
    segmentation = np.zeros((9, 11, 10), np.uint8)
    assert not resample_segmentation(segmentation, (6, 3, 7), LINEAR).any()
    segmentation[4, 5, 4] = 1
    assert resample_segmentation(segmentation, (27, 33, 30), LINEAR).sum() > 0
    assert not resample_segmentation(segmentation, (4, 4, 2), LINEAR).any()


def test_linear_along_a_separate_axis_leaves_halves_to_the_background():
    slices = np.array([1, 1, 2, 2], np.int8).reshape(4, 1, 1)
    linear, nearest = axis_orders(1, 0, 1), axis_orders(1, 0, 0)
    assert resample_segmentation(slices, (6, 1, 1), linear).ravel().tolist() == [1, 1, 1, 2, 2, 2]
    assert resample_segmentation(slices[1:3], (1, 1, 1), linear).item() == 0
    assert resample_segmentation(slices[1:3], (1, 1, 1), nearest).item() == 2


def test_many_labels_never_become_a_one_hot_volume():
    edge, new_edge = 48, 56
    segmentation = np.zeros((edge,) * 3, np.int16)
    for label, corner in enumerate(np.ndindex(6, 6, 6), start=1):
        segmentation[tuple(slice(8 * c + 1, 8 * c + 7) for c in corner)] = label
    tracemalloc.start()
    found = resample_segmentation(segmentation, (new_edge,) * 3, LINEAR)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert set(np.unique(found)) == set(range(217))
    assert peak < 45 * 2**20


def test_slabs_and_parts_of_borders_make_no_difference(monkeypatch):
    segmentation = blobs((15, 22, 17), 4)
    whole = resample_segmentation(segmentation, (21, 31, 13), LINEAR)
    monkeypatch.setattr("tumorseg.ops.shares.SLAB", 1500)
    monkeypatch.setattr("tumorseg.ops.shares.MOST_PLACES", 100)
    assert np.array_equal(resample_segmentation(segmentation, (21, 31, 13), LINEAR), whole)
