import numpy as np
import pytest

from tumorseg.ops.integrity import (
    TinyComponents,
    axis_code,
    centroid_x,
    component_sizes,
    find_tiny_components,
    is_left_handed,
    measure_channel,
    obliqueness,
)


def test_figures_leave_out_zeros_and_what_is_not_finite():
    channel = np.zeros((5, 6, 7), np.float32)
    channel[1:4] = np.linspace(10, 110, 3 * 42).reshape(3, 6, 7)
    channel[0, 0, :2] = np.nan, -np.inf
    facts = measure_channel(channel)
    assert facts.num_bad == 2
    assert (facts.minimum, facts.maximum) == (0, 110)
    assert (facts.low, facts.middle, facts.high) == pytest.approx((11, 60, 109), abs=0.1)
    assert not facts.is_constant


def test_a_channel_of_one_value_or_of_none_is_constant():
    assert measure_channel(np.full((2, 3, 4), -7, np.float32)).is_constant
    assert measure_channel(np.zeros((2, 3, 4), np.float32)).middle == 0
    nothing = measure_channel(np.full((2, 3, 4), np.nan, np.float32))
    assert (nothing.num_bad, nothing.is_constant) == (24, True)


def test_values_whose_sum_overflows_are_finite_all_the_same():
    assert measure_channel(np.full((2, 3, 4), 3e38, np.float32)).num_bad == 0


def test_voxels_that_touch_at_a_corner_are_one_component():
    mask = np.zeros((4, 5, 6), bool)
    mask[0, 0, 0] = mask[1, 1, 1] = mask[3, 4, 5] = True
    assert component_sizes(mask) == [1, 2]


def labelled(*blocks):
    segmentation = np.zeros((9, 11, 13), np.int32)
    for value, corner, size in blocks:
        z, y, x = corner
        segmentation[z : z + size[0], y : y + size[1], x : x + size[2]] = value
    return segmentation


def test_small_pieces_beside_a_large_one_are_tiny():
    segmentation = labelled((3, (0, 0, 0), (5, 5, 5)), (3, (7, 8, 9), (1, 1, 2)), (3, (8, 0, 11), (1, 1, 1)))
    assert find_tiny_components(segmentation) == [TinyComponents(3, (1, 2), 3)]


def test_pieces_of_like_size_are_no_slips_unless_all_are_tiny():
    like = labelled((1, (0, 0, 0), (2, 3, 5)), (1, (6, 6, 6), (1, 2, 3)))
    assert find_tiny_components(like) == []
    all_tiny = labelled((1, (0, 0, 0), (1, 1, 3)), (1, (6, 6, 6), (1, 1, 2)))
    assert find_tiny_components(all_tiny) == [TinyComponents(1, (2, 3), 2)]


@pytest.mark.parametrize("large", [4, 70_000, 2**31 - 1])
def test_every_label_value_is_looked_at(large):
    segmentation = labelled((large, (0, 0, 0), (1, 1, 2)), (2, (4, 4, 4), (4, 4, 4)), (-1, (8, 8, 8), (1, 1, 1)))
    assert find_tiny_components(segmentation) == [TinyComponents(large, (2,), 1)]


def test_the_centroid_is_the_mean_position():
    mask = np.zeros((3, 4, 7), bool)
    mask[1, 2, 1] = mask[0, 0, 6] = mask[2, 3, 6] = True
    assert centroid_x(mask) == pytest.approx(13 / 3)


@pytest.mark.parametrize(
    ("columns", "code", "left"),
    [
        (((1, 0, 0), (0, 1, 0), (0, 0, 1)), "RAS", False),
        (((-1, 0, 0), (0, -1, 0), (0, 0, 1)), "LPS", False),
        (((-1, 0, 0), (0, 1, 0), (0, 0, 1)), "LAS", True),
        (((0, -2, 0), (0, 0, 3), (1, 0, 0)), "PSR", True),
        (((0, 0, -1), (1, 0, 0), (0, -1, 0)), "IRP", False),
    ],
)
def test_axis_codes_say_where_voxel_axes_point_to(columns, code, left):
    affine = np.eye(4)
    affine[:3, :3] = np.array(columns).T
    assert axis_code(affine) == code
    assert is_left_handed(affine) == left
    assert obliqueness(affine) == 0


def test_obliqueness_is_the_greatest_angle():
    angle = np.radians(17)
    affine = np.diag([2.0, 3.0, 4.0, 1.0])
    turn = np.eye(4)
    turn[1:3, 1:3] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    assert obliqueness(turn @ affine) == pytest.approx(17)
