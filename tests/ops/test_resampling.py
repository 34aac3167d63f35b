import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from tumorseg.ops.resampling import (
    AxisOrders,
    apply_matrices,
    axis_matrix,
    axis_orders,
    resample_image,
    resampled_shape,
    separate_axis,
)

CUBIC, LINEAR = axis_orders(3, None, 0), axis_orders(1, None, 0)

shapes = st.tuples(*[st.integers(1, 14)] * 3)
seeds = st.integers(0, 2**32 - 1)


def image_of(shape, seed=0):
    return (np.random.default_rng(seed).normal(size=shape) * 40 + 100).astype(np.float32)


def zoomed(channel, new_shape, order):
    """Resample by scipy, kept within the range as skimage does."""
    factors = [new / old for new, old in zip(new_shape, channel.shape, strict=True)]
    result = ndimage.zoom(channel.astype(np.float64), factors, order=order, mode="nearest", grid_mode=True)
    return np.clip(result, channel.min(), channel.max())


def nearest_slices(planes, new_size, axis):
    """Take the nearest slice along one axis, as nnU-Net does."""
    where = planes.shape[axis] / new_size * (np.arange(new_size) + 0.5) - 0.5
    coordinates = np.meshgrid(
        *[where if other == axis else np.arange(size) for other, size in enumerate(planes.shape)], indexing="ij"
    )
    return ndimage.map_coordinates(planes, coordinates, order=0, mode="nearest")


def zoomed_separately(channel, new_shape, order, axis):
    plane = [size for other, size in enumerate(new_shape) if other != axis]
    planes = np.stack([zoomed(part, plane, order) for part in np.moveaxis(channel, axis, 0)], axis=axis)
    return nearest_slices(planes, new_shape[axis], axis)


@given(shapes, shapes, st.sampled_from([1, 3]), seeds)
@settings(max_examples=60, deadline=None)
def test_images_equal_scipys_zoom_up_and_down(shape, new_shape, order, seed):
    image = image_of((2, *shape), seed)
    found = resample_image(image, new_shape, axis_orders(order, None, 0))
    for channel, result in zip(image, found, strict=True):
        assert result.shape == new_shape
        assert np.abs(result - zoomed(channel, new_shape, order)).max() <= 1e-3 * channel.std() + 1e-4


@given(shapes, shapes, st.sampled_from([1, 3]), st.integers(0, 2), seeds)
@settings(max_examples=40, deadline=None)
def test_a_separate_axis_is_resampled_in_planes_then_to_the_nearest(shape, new_shape, order, axis, seed):
    image = image_of((1, *shape), seed)
    found = resample_image(image, new_shape, axis_orders(order, axis, 0))[0]
    if shape == new_shape:
        assert np.array_equal(found, image[0])
        return
    expected = zoomed_separately(image[0], new_shape, order, axis)
    assert np.abs(found - expected).max() <= 1e-3 * image.std() + 1e-4


@pytest.mark.parametrize("orders", [CUBIC, LINEAR, axis_orders(3, 0, 0), axis_orders(3, 2, 1)])
def test_the_range_is_kept_and_a_constant_stays_constant(orders):
    image = image_of((1, 5, 9, 7))
    found = resample_image(image, (11, 4, 13), orders)
    assert found.min() >= image.min() - 1e-4
    assert found.max() <= image.max() + 1e-4
    assert np.allclose(resample_image(np.full_like(image, 3.7), (11, 4, 13), orders), 3.7, atol=1e-5)


def test_separate_slices_keep_their_own_range():
    image = np.stack([np.zeros((6, 5), np.float32), image_of((6, 5))])[None]
    found = resample_image(image, (4, 13, 11), axis_orders(3, 0, 0))
    assert (found[0, :2] == 0).all()


def test_the_same_shape_is_not_touched():
    image = image_of((1, 3, 4, 5))
    assert resample_image(image, (3, 4, 5), CUBIC) is image


@pytest.mark.parametrize("new_shape", [(4, 1, 1), (1, 9, 1), (1, 1, 1), (3, 2, 5)])
@pytest.mark.parametrize("shape", [(1, 7, 6), (5, 1, 6), (1, 1, 1), (5, 7, 1)])
@pytest.mark.parametrize("order", [0, 1, 3])
def test_axes_of_one_voxel_are_extended_and_reached(shape, new_shape, order):
    image = image_of((1, *shape))
    found = resample_image(image, new_shape, axis_orders(order, None, 0))
    assert found.shape == (1, *new_shape)
    expected = zoomed(image[0], new_shape, order)
    assert np.abs(found[0] - expected).max() <= 1e-3 * max(image.std(), 1)


@given(st.integers(1, 20), st.integers(1, 20), st.sampled_from([0, 1, 3]))
@settings(deadline=None)
def test_rows_of_a_matrix_sum_to_1_and_a_matrix_to_its_own_size_is_the_identity(size, new_size, order):
    matrix = axis_matrix(size, new_size, order)
    assert matrix.shape == (new_size, size)
    assert np.allclose(matrix.sum(axis=1), 1, atol=1e-5)
    assert np.allclose(axis_matrix(size, size, order), np.eye(size), atol=1e-6)


def test_matrices_act_on_their_own_axis():
    rng = np.random.default_rng(0)
    array = rng.normal(size=(2, 3, 4, 5)).astype(np.float32)
    matrices = [rng.normal(size=(7, size)).astype(np.float32) for size in (3, 4, 5)]
    expected = np.einsum("ai,bj,ck,nijk->nabc", *matrices, array)
    assert np.allclose(apply_matrices(array, matrices), expected, atol=1e-4)
    assert np.array_equal(apply_matrices(array, [None, None, None]), array)


@pytest.mark.parametrize(
    ("spacing", "new_spacing", "expected"),
    [
        ((1, 1, 1), (1, 1, 1), None),
        ((3, 1, 1), (1, 1, 1), None),  # exactly 3 times is not over 3
        ((3.1, 1, 1), (1, 1, 1), 0),
        ((1, 1, 5), (1, 1, 1), 2),
        ((1, 1, 1), (1, 5, 1), 1),  # decided by the new spacing
        ((1, 6, 2), (9, 1, 1), 1),  # the present one comes first
        ((5, 5, 1), (1, 1, 1), None),  # two tie
        ((5, 5, 1), (9, 1, 1), None),  # and the new spacing is not asked any more
        ((5, 5.0000001, 1), (1, 1, 1), None),
        ((1, 1, 1), (4, 4, 1), None),
    ],
)
def test_which_axis_is_separate(spacing, new_spacing, expected):
    assert separate_axis(spacing, new_spacing) == expected


def test_the_ratio_can_be_set():
    assert separate_axis((2.5, 1, 1), (1, 1, 1), ratio=2) == 0


def test_orders_differ_along_the_separate_axis_only():
    assert axis_orders(3, None, 0) == AxisOrders((3, 3, 3), None)
    assert axis_orders(3, 1, 0) == AxisOrders((3, 0, 3), 1)


@pytest.mark.parametrize(
    ("shape", "spacing", "new_spacing", "expected"),
    [
        ((10, 20, 30), (1, 1, 1), (1, 1, 1), (10, 20, 30)),
        ((10, 21, 33), (2, 1, 1), (1, 2, 3), (20, 10, 11)),
        ((1, 5, 5), (1, 1, 1), (9, 1, 1), (1, 5, 5)),
        ((155, 240, 240), (1, 0.97, 0.97), (1, 1, 1), (155, 233, 233)),
        ((31, 9, 9), (0.3, 1.4, 2.1), (0.6, 3.6, 1.8), (16, 3, 10)),  # halves, and just under or over one
    ],
)
def test_the_resampled_shape_covers_the_same_extent(shape, spacing, new_spacing, expected):
    assert resampled_shape(shape, spacing, new_spacing) == expected
