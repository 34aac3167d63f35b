import numpy as np
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from tumorseg.ops.distances import (
    border_distances,
    border_voxels,
    distance_to,
    distances_between,
    nearest_distances,
    shell,
    union_box,
)

shapes = hnp.array_shapes(min_dims=3, max_dims=3, min_side=1, max_side=7)
masks = hnp.arrays(np.bool_, shapes).filter(lambda mask: bool(mask.any()))
spacings = st.tuples(*[st.floats(0.3, 6.0)] * 3)


@given(masks, spacings)
@settings(max_examples=25, deadline=None)
def test_distances_are_those_of_scipy_on_anisotropic_voxels(mask: np.ndarray, spacing: tuple[float, ...]) -> None:
    expected = ndimage.distance_transform_edt(~mask, sampling=spacing)
    np.testing.assert_allclose(distance_to(mask, spacing_mm=spacing), expected, rtol=1e-5)


def test_distances_are_the_same_with_two_threads_and_for_arrays_in_another_memory_order() -> None:
    mask = np.random.default_rng(0).random((5, 7, 9)) > 0.97
    expected = distance_to(mask, spacing_mm=(3.0, 1.0, 0.5))
    for other in (np.asfortranarray(mask), mask[::-1]):
        found = distance_to(other, spacing_mm=(3.0, 1.0, 0.5), num_threads=2)
        np.testing.assert_array_equal(found, expected if other.flags.f_contiguous else expected[::-1])


@given(hnp.arrays(np.bool_, hnp.array_shapes(min_dims=3, max_dims=3, min_side=2, max_side=6)))
@settings(max_examples=25, deadline=None)
def test_border_voxels_are_what_erosion_takes_away(mask: np.ndarray) -> None:
    np.testing.assert_array_equal(border_voxels(mask), mask ^ ndimage.binary_erosion(mask))


def test_a_2d_image_has_its_border_in_the_plane() -> None:
    mask = np.zeros((1, 9, 11), dtype=bool)
    mask[0, 2:7, 3:9] = True
    expected = mask[0] ^ ndimage.binary_erosion(mask[0])
    np.testing.assert_array_equal(border_voxels(mask)[0], expected)
    assert not border_voxels(mask)[0, 4, 5]


def test_the_union_box_holds_both_masks_and_a_margin_inside_the_image() -> None:
    first, second = np.zeros((2, 9, 9, 9), dtype=bool)
    first[0, 4, 4] = second[3, 7, 8] = True
    assert union_box(first, second) == ((0, 5), (3, 9), (3, 9))


def test_distances_run_both_ways_and_do_not_depend_on_where_the_image_ends() -> None:
    prediction, reference = np.zeros((2, 6, 12, 13), dtype=bool)
    prediction[2:4, 3:6, 3:6] = True
    reference[2:5, 5:9, 3:7] = True
    there, back = border_distances(prediction, reference, spacing_mm=(4.0, 1.0, 1.5))
    assert (there.size, back.size) == (18, 3 * 4 * 4 - 2 * 2)
    padded = (np.pad(mask, 5) for mask in (prediction, reference))
    for found, expected in zip(border_distances(*padded, spacing_mm=(4.0, 1.0, 1.5)), (there, back), strict=True):
        np.testing.assert_array_equal(found, expected)


@given(
    hnp.array_shapes(min_dims=3, max_dims=3, min_side=1, max_side=9).flatmap(
        lambda s: st.tuples(*[hnp.arrays(np.bool_, s)] * 2)
    ),
    spacings,
)
@settings(max_examples=25, deadline=None)
def test_nearest_distances_are_those_of_scipys_transform(pair, spacing) -> None:
    voxels, others = pair
    assume(others.any())
    expected = ndimage.distance_transform_edt(~others, sampling=spacing)[voxels]
    np.testing.assert_allclose(nearest_distances(voxels, others, spacing_mm=spacing), expected, rtol=1e-6)


def test_the_memory_order_of_masks_does_not_matter() -> None:
    # Sparse, so that they are searched; with voxels within reach, and some further away.
    spacing, rng = (3.0, 0.7, 1.1), np.random.default_rng(4)
    voxels, others = rng.random((2, 13, 19, 17)) > 0.98
    expected = ndimage.distance_transform_edt(~others, sampling=spacing)[voxels]
    assert expected.min() < 2.8 < expected.max()
    for turn in (np.asfortranarray, np.ascontiguousarray, lambda mask: mask.copy().transpose(2, 1, 0).copy().T):
        for first, second in ((turn(voxels), others), (voxels, turn(others)), (turn(voxels), turn(others))):
            found = distances_between(first, second, spacing_mm=spacing)[0]
            np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_border_distances_and_shells_are_the_same_in_any_memory_order() -> None:
    masks = np.zeros((2, 14, 25, 23), dtype=bool)
    masks[0, 3:9, 4:17, 5:15] = masks[1, 5:11, 6:21, 4:13] = True
    spacing = (2.5, 0.8, 1.0)
    expected = border_distances(*masks, spacing_mm=spacing)
    turned = [np.asfortranarray(mask) for mask in masks]
    for found, one in zip(border_distances(*turned, spacing_mm=spacing), expected, strict=True):
        np.testing.assert_array_equal(found, one)
    shells = []
    for mask in (masks[0], turned[0]):
        shells.append(shell(mask, border_voxels(mask), 1.5, spacing_mm=spacing))
    np.testing.assert_array_equal(*shells)


def test_few_voxels_are_searched_and_crowds_transformed_with_the_same_result() -> None:
    spacing = (3.0, 0.7, 1.1)
    for every, rounding in ((3, 1e-12), (1, 1e-6)):
        voxels, others = np.zeros((2, 40, 31, 33), dtype=bool)
        others[10, ::3, ::3] = True
        voxels[8:13:every, ::every, ::every] = True
        expected = ndimage.distance_transform_edt(~others, sampling=spacing)[voxels]
        found = nearest_distances(voxels, others, spacing_mm=spacing)
        # What is searched is exact; the transform works in float32.
        np.testing.assert_allclose(found, expected, rtol=rounding)


def test_masks_that_hardly_meet_are_transformed_with_the_same_result() -> None:
    voxels, others = np.zeros((2, 25, 60, 70), dtype=bool)
    others[3:9, 5:12, 5:12] = True
    spacing = (3.0, 0.7, 1.1)
    voxels[4:14, 4:14, 10] = True
    for far in (slice(50, 51), slice(40, 60)):
        voxels[20, far, 20:60] = True
        expected = ndimage.distance_transform_edt(~others, sampling=spacing)[voxels]
        np.testing.assert_allclose(nearest_distances(voxels, others, spacing_mm=spacing), expected, rtol=1e-6)


@given(masks, spacings, st.floats(0.0, 12.0))
@settings(max_examples=25, deadline=None)
def test_a_shell_is_what_lies_within_a_depth_of_the_border(mask: np.ndarray, spacing, depth: float) -> None:
    border = border_voxels(mask)
    assume(border.any())
    distances = ndimage.distance_transform_edt(~border, sampling=spacing)
    # Away from ties, which float32 may decide otherwise.
    assume(np.abs(distances - depth).min() > 1e-4)
    np.testing.assert_array_equal(shell(mask, border, depth, spacing_mm=spacing), mask & (distances <= depth))


def test_a_shell_of_few_steps_is_marked_and_does_not_leak_across_edges() -> None:
    mask = np.zeros((30, 40, 50), dtype=bool)
    mask[:, 10:30, 20:] = True
    border = border_voxels(mask)
    for depth in (1.0, 2.9, 30.0):
        distances = ndimage.distance_transform_edt(~border, sampling=(2.0, 1.0, 0.9))
        expected = mask & (distances <= depth)
        np.testing.assert_array_equal(shell(mask, border, depth, spacing_mm=(2.0, 1.0, 0.9)), expected)


def test_an_image_of_one_voxel_is_its_own_border() -> None:
    assert border_voxels(np.ones((1, 1, 1), dtype=bool)).all()


def test_the_box_of_two_empty_masks_holds_something() -> None:
    nothing = np.zeros((3, 4, 5), dtype=bool)
    assert nothing[tuple(slice(*ends) for ends in union_box(nothing, nothing))].size > 0
