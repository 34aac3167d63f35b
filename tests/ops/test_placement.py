"""Parts of a grid, stored in any order of axes, on the whole of it."""

from itertools import permutations, product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from tumorseg.errors import InputError
from tumorseg.ops.geometry import Orientation, orient, oriented_affine
from tumorseg.ops.grids import Grid
from tumorseg.ops.placement import find_placement, place

SHAPE = (5, 7, 9)
MASK = np.random.default_rng(4).random(SHAPE) < 0.5


def affine_of(angles=(10, -25, 40), spacing=(0.7, 0.9, 3.1)):
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", angles, degrees=True).as_matrix() * spacing
    affine[:3, 3] = (-12.5, 40.25, 7)
    return affine


WHOLE = Grid(SHAPE, affine_of())


def moved(affine, start):
    """Return the affine of voxels counted from another one (z, y, x)."""
    step = np.eye(4)
    step[:3, 3] = start[::-1]
    return affine @ step


@given(
    orientation=st.builds(
        Orientation,
        st.sampled_from(list(permutations(range(3)))),
        st.sampled_from(list(product((False, True), repeat=3))),
    ),
    start=st.tuples(*[st.integers(-3, 4)] * 3),
    shape=st.tuples(*[st.integers(1, 12)] * 3),
    noise=st.floats(-0.2, 0.2),
)
def test_any_part_in_any_order_of_axes_lies_where_the_world_says(orientation, start, shape, noise):
    padded = np.pad(MASK, 16)
    part = padded[tuple(slice(16 + first, 16 + first + size) for first, size in zip(start, shape, strict=True))]
    affine = moved(WHOLE.affine, start)
    affine[:3, 3] += noise
    stored = np.ascontiguousarray(orient(part, orientation))
    grid = Grid(stored.shape, oriented_affine(affine, shape, orientation))
    expected = np.zeros(SHAPE, bool)
    inner = tuple(slice(max(0, first), max(0, first + size)) for first, size in zip(start, shape, strict=True))
    expected[inner] = MASK[inner]
    found = np.zeros(SHAPE, bool)
    assert place(stored, find_placement(grid, WHOLE), found) == 0  # what was added around it is empty
    assert np.array_equal(found, expected)


def test_voxels_outside_are_counted_and_those_of_earlier_blocks_stay():
    mask = np.zeros(SHAPE, bool)
    mask[4, 6, 8] = True
    block = np.ones((2, 2, 3), bool)
    assert place(block, find_placement(Grid(block.shape, moved(WHOLE.affine, (-1, 5, 7))), WHOLE), mask) == 8
    assert mask[4, 6, 8]
    assert mask.sum() == 5
    assert place(block, find_placement(Grid(block.shape, moved(WHOLE.affine, (40, 0, 0))), WHOLE), mask) == 12
    assert mask.sum() == 5


def test_voxels_off_the_others_by_over_half_an_edge_are_refused():
    shifted = WHOLE.affine.copy()
    shifted[:3, 3] += 0.4 * WHOLE.affine[:3, 2]
    with pytest.raises(
        InputError, match=r"found a plane 1.24 mm off the image's voxels \(at most 0.35 mm, half a voxel\)$"
    ):
        find_placement(Grid(SHAPE, shifted), WHOLE, what="a plane")
    finer = Grid((5, 14, 18), WHOLE.affine @ np.diag([0.5, 0.5, 1, 1]))
    with pytest.raises(
        InputError, match=r"with edges of 3.1 x 0.45 x 0.35 mm on its of 3.1 x 0.9 x 0.7 mm \(z, y, x\)"
    ):
        find_placement(finer, WHOLE)
    turned = Grid(SHAPE, affine_of((10, -25, 85)))
    with pytest.raises(InputError, match="off the image's voxels"):
        find_placement(turned, WHOLE)
    isotropic = Grid(SHAPE, np.eye(4))
    skewed = np.eye(4)
    skewed[:3, :3] = [[1, 0, 0.2], [1.1, 1, 0.2], [0, 1, -1]]
    with pytest.raises(InputError, match="found voxels aslant to the image's axes"):
        find_placement(Grid(SHAPE, skewed), isotropic)
