import numpy as np
import pytest
from scipy import ndimage

from tumorseg.ops.metrics.components import components_of, dilated, inside, joined, overlaps_of, pairs_of


def corners():
    """Return two voxels that touch at a corner, two at an edge, two at a face."""
    mask = np.zeros((3, 5, 9), dtype=bool)
    mask[0, 0, 0] = mask[1, 1, 1] = True
    mask[0, 3, 0] = mask[1, 4, 0] = True
    mask[1, 1, 5] = mask[1, 1, 6] = True
    return mask


@pytest.mark.parametrize(("connectivity", "num"), [(6, 5), (18, 4), (26, 3)])
def test_neighbours_lie_over_faces_edges_or_corners(connectivity, num):
    found = components_of(corners(), connectivity)
    assert (found.num, int(found.sizes.sum())) == (num, 6)


@pytest.mark.parametrize("steps", [0, 1, 2, 5])
@pytest.mark.parametrize("shape", [(9, 14, 11), (1, 14, 11), (9, 1, 1)])
def test_dilation_is_that_of_scipy_over_faces_and_edges(shape, steps):
    mask = np.random.default_rng(steps).random(shape) > 0.97
    # As a copy: scipy dilates until nothing changes where it is asked for no step.
    expected = (
        ndimage.binary_dilation(mask, ndimage.generate_binary_structure(3, 2), iterations=steps) if steps else mask
    )
    np.testing.assert_array_equal(dilated(mask, steps), expected)


def test_overlaps_are_counted_by_pair():
    first, second = np.zeros((2, 2, 4, 8), dtype=bool)
    first[0, 0, :3] = first[0, 2, 3:6] = True
    second[0, 0, 1:] = second[0, 2, 5:] = True
    found = overlaps_of(components_of(first, 26), components_of(second, 26))
    assert list(zip(*(column.tolist() for column in found), strict=True)) == [(1, 1, 2), (2, 2, 1)]
    # Of a part that overlaps several, each pair counts.
    first[0, 1, 2] = True
    found = overlaps_of(components_of(first, 26), components_of(second, 26))
    assert list(zip(*(column.tolist() for column in found), strict=True)) == [(1, 1, 2), (1, 2, 1)]


@pytest.mark.parametrize("largest", [3, 70_000])
def test_pairs_are_sorted_whatever_their_numbers(largest):
    ours, theirs = np.array([largest, 1, 1, largest, 1]), np.array([2, 5, largest, 2, 5])
    found = pairs_of(ours, theirs)
    expected = sorted([(1, 5, 2), (1, largest, 1), (largest, 2, 2)])
    assert list(zip(*(column.tolist() for column in found), strict=True)) == expected


def test_nothing_overlaps_nothing():
    nothing = components_of(np.zeros((2, 3, 4), dtype=bool), 26)
    assert [column.size for column in overlaps_of(nothing, nothing)] == [0, 0, 0]
    assert nothing.num == 0


def test_what_lies_inside_a_mask_keeps_its_numbers():
    mask = corners()
    found = inside(components_of(dilated(mask, 1), 26), mask)
    np.testing.assert_array_equal(found.image() > 0, mask)
    assert found.gathered().of([1]).tolist() == np.flatnonzero(found.image() == 1).tolist()


def test_voxels_are_gathered_by_part():
    # Many parts between each other, one of them given up.
    mask = np.random.default_rng(2).random((4, 7, 9)) > 0.6
    parts = components_of(mask, 6)
    found = joined(parts, np.where(np.arange(parts.sizes.size) == 2, 0, np.arange(parts.sizes.size)))
    gathered = found.gathered()
    for number in range(1, found.sizes.size):
        assert gathered.of([number]).tolist() == np.flatnonzero(found.image() == number).tolist()
    both = np.flatnonzero(np.isin(found.image(), (1, 3)))
    assert sorted(gathered.of([3, 1]).tolist()) == both.tolist()


def test_parts_that_are_joined_or_given_up_are_no_parts():
    parts = components_of(corners(), 6)
    found = joined(parts, np.array([0, 1, 1, 0, 4, 4]))
    assert found.num == 2
    assert found.sizes.tolist() == [0, 2, 0, 0, 3]
    np.testing.assert_array_equal(found.mask, found.image() > 0)
