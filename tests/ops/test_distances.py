import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from tumorseg.ops.distances import border_distances, border_voxels, distance_to, union_box

shapes = hnp.array_shapes(min_dims=3, max_dims=3, min_side=1, max_side=7)
masks = hnp.arrays(np.bool_, shapes).filter(lambda mask: bool(mask.any()))
spacings = st.tuples(*[st.floats(0.3, 6.0)] * 3)


@given(masks, spacings)
@settings(max_examples=60, deadline=None)
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
@settings(max_examples=60, deadline=None)
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
