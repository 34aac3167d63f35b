import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from tumorseg.ops.cropping import (
    box_shape,
    box_slices,
    centred_box,
    clamped_box,
    inside,
    mask_box,
    nonzero_box,
    nonzero_mask,
    pad_to_box,
)

sizes = st.tuples(*[st.integers(1, 9)] * 3)
lowers = st.tuples(*[st.integers(-12, 12)] * 3)


def box_at(lower, edges):
    return tuple((low, low + edge) for low, edge in zip(lower, edges, strict=True))


def test_the_nonzero_box_holds_what_is_not_zero_in_some_channel():
    image = np.zeros((2, 5, 6, 7), np.float32)
    image[0, 1, 2, 3] = -4
    image[1, 3, 2, 5] = 1e-20
    assert nonzero_box(image) == ((1, 4), (2, 3), (3, 6))


def test_an_image_of_zeros_is_kept_whole():
    assert nonzero_box(np.zeros((1, 3, 4, 5), np.float32)) == ((0, 3), (0, 4), (0, 5))


def test_an_empty_mask_has_no_box_and_a_full_one_its_whole():
    assert mask_box(np.zeros((3, 4), bool)) is None
    assert mask_box(np.ones((3, 4), bool)) == ((0, 3), (0, 4))
    assert mask_box(np.array([False, True, False])) == ((1, 2),)


def test_the_nonzero_mask_has_its_holes_filled():
    image = np.zeros((2, 7, 7, 7), np.float32)
    image[1, 1:6, 1:6, 1:6] = 3
    image[1, 3, 3, 3] = 0
    mask = nonzero_mask(image)
    assert mask.dtype == bool
    assert mask.sum() == 125
    assert mask[3, 3, 3]


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9])
@pytest.mark.parametrize("shape", [(9, 14, 11), (1, 20, 17), (6, 1, 1)])
def test_holes_are_those_of_scipy(shape, share):
    occupied = np.random.default_rng(7).random(shape) < share
    assert np.array_equal(nonzero_mask(occupied[None].astype(np.float32)), ndimage.binary_fill_holes(occupied))


def test_box_slices_index_the_last_axes():
    array = np.arange(2 * 4 * 5 * 6).reshape(2, 4, 5, 6)
    box = ((1, 3), (0, 5), (2, 4))
    assert np.array_equal(array[box_slices(box)], array[:, 1:3, 0:5, 2:4])
    assert array[box_slices(box)].shape[1:] == box_shape(box)


@pytest.mark.parametrize(
    ("centre", "size", "expected"),
    [((5,), (3,), ((4, 7),)), ((5,), (4,), ((3, 7),)), ((0,), (4,), ((-2, 2),)), ((5,), (1,), ((5, 6),))],
)
def test_a_centred_box_has_its_voxel_in_the_middle(centre, size, expected):
    assert centred_box(centre, size) == expected


@given(lowers, sizes, sizes)
def test_a_clamped_box_never_leaves_an_image_that_it_fits_into(lower, edges, shape):
    for (low, high), edge, size in zip(clamped_box(box_at(lower, edges), shape), edges, shape, strict=True):
        assert high - low == edge
        if edge <= size:
            assert low >= 0
            assert high <= size
        else:
            assert low <= 0
            assert high >= size
            assert 0 <= (high - size) - (-low) <= 1  # centred


@given(sizes, sizes, sizes)
def test_a_box_inside_the_image_is_not_moved(before, edges, after):
    box = box_at(before, edges)
    shape = tuple(map(sum, zip(before, edges, after, strict=True)))
    assert clamped_box(box, shape) == box == inside(box, shape)


@given(st.data(), sizes, sizes)
def test_what_is_read_inside_a_box_and_padded_equals_a_window_of_the_padded_image(data, edges, shape):
    lower = [data.draw(st.integers(1 - edge, size - 1)) for edge, size in zip(edges, shape, strict=True)]
    box = box_at(lower, edges)
    found = inside(box, shape)
    image = np.random.default_rng(0).normal(size=(2, *shape))
    wide = np.pad(image, [(0, 0), *[(25, 25)] * 3], constant_values=-7)
    window = wide[box_slices(tuple((low + 25, high + 25) for low, high in box))]
    assert np.array_equal(pad_to_box(image[box_slices(found)], box, shape, fill=-7), window)


def test_the_part_of_a_box_outside_the_image_is_empty():
    assert box_shape(inside(((-5, -2), (9, 12)), (4, 4))) == (0, 0)


def test_nothing_is_copied_where_nothing_is_padded():
    image = np.ones((1, 2, 3, 4))
    assert pad_to_box(image, ((0, 2), (0, 3), (0, 4)), (2, 3, 4)) is image


def test_voxels_that_a_channel_does_not_cover_do_not_keep_the_box_large():
    image = np.zeros((2, 5, 6, 7), np.float32)
    image[0, 1:3, 2:4, 3:5] = 9
    image[1] = -1024
    covered = np.zeros((5, 6, 7), bool)
    covered[2:4, 2:4, 3:6] = True
    assert nonzero_box(image, (None, covered)) == ((1, 4), (2, 4), (3, 6))
    assert nonzero_mask(image, (None, covered)).sum() == 2 * 2 * 2 + 2 * 2 * 3 - 1 * 2 * 2


@pytest.mark.parametrize("shape", [(5, 6, 7), (1, 9, 8)])
@pytest.mark.parametrize("axes", list(itertools.permutations(range(3))))
def test_holes_are_filled_in_whatever_order_an_image_lies_in_memory(shape, axes):
    image = (np.random.default_rng(3).random((1, *shape)) < 0.75).astype(np.float32)
    stored = np.ascontiguousarray(image.transpose(0, *(axis + 1 for axis in axes)))
    turned = stored.transpose(0, *(axis + 1 for axis in np.argsort(axes)))
    filled = ndimage.binary_fill_holes(image[0] != 0)
    np.testing.assert_array_equal(nonzero_mask(turned), filled)
