from itertools import permutations, product

import nibabel
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from tumorseg.errors import InputError
from tumorseg.ops.geometry import (
    AS_STORED,
    Orientation,
    between,
    grid_mismatch_mm,
    is_edge,
    orient,
    orientation_of,
    oriented_affine,
    oriented_box,
    restore_orientation,
    spacing_of,
)

SHAPE = (3, 4, 5)
SPACING_XYZ = (0.7, 1.3, 4.9)
AXIS_ORDERS = [(order, signs) for order in permutations(range(3)) for signs in product((1, -1), repeat=3)]
TRANSPOSES = list(permutations(range(3)))

axis_orders = st.sampled_from(AXIS_ORDERS)
transposes = st.sampled_from(TRANSPOSES)
angles = st.tuples(*[st.floats(-25, 25)] * 3)


def affine_of(axis_order, angles_deg=(0, 0, 0), spacing=SPACING_XYZ):
    """Return an affine whose voxel axis i runs along world axis order[i], turned by angles."""
    order, signs = axis_order
    affine = np.eye(4)
    directions = np.zeros((3, 3))
    for voxel_axis, (world_axis, sign) in enumerate(zip(order, signs, strict=True)):
        directions[world_axis, voxel_axis] = sign
    affine[:3, :3] = Rotation.from_euler("xyz", angles_deg, degrees=True).as_matrix() @ directions * spacing
    affine[:3, 3] = (-12.5, 7.25, 101)
    return affine


def numbered(shape=SHAPE):
    return np.arange(np.prod(shape)).reshape(shape)


def world(affine, index_zyx):
    return (affine @ [*index_zyx[::-1], 1])[:3]


@given(axis_orders, angles)
def test_orientation_is_that_of_nibabel(axis_order, angles_deg):
    affine = affine_of(axis_order, angles_deg)
    expected = nibabel.io_orientation(affine)
    found = orientation_of(affine)
    for world_axis in range(3):
        (voxel_axis,) = np.flatnonzero(expected[:, 0] == world_axis)
        assert found.axes[2 - world_axis] == 2 - voxel_axis
        assert found.flips[2 - world_axis] == (expected[voxel_axis, 1] < 0)


@pytest.mark.parametrize("axis_order", AXIS_ORDERS)
def test_canonical_arrays_and_affines_are_those_of_as_closest_canonical(axis_order):
    affine = affine_of(axis_order, (11, -8, 20))
    stored = numbered()
    expected = nibabel.as_closest_canonical(nibabel.Nifti1Image(stored.T.astype(np.int16), affine))
    orientation = orientation_of(affine)
    assert np.array_equal(orient(stored, orientation), np.asarray(expected.dataobj).T)
    assert np.allclose(oriented_affine(affine, stored.shape, orientation), expected.affine)
    assert nibabel.aff2axcodes(oriented_affine(affine, stored.shape, orientation)) == ("R", "A", "S")


@given(axis_orders, angles, transposes, st.integers(0, 2))
def test_orient_and_restore_are_inverse_with_and_without_a_transpose(axis_order, angles_deg, transpose, lead):
    orientation = orientation_of(affine_of(axis_order, angles_deg), transpose)
    array = numbered((2,) * lead + SHAPE)
    there = orient(array, orientation)
    assert there.shape == (2,) * lead + tuple(SHAPE[axis] for axis in orientation.axes)
    assert np.array_equal(restore_orientation(there, orientation), array)
    assert there.base is not None


@given(axis_orders, angles, transposes)
def test_an_oriented_affine_puts_every_voxel_at_its_old_world_point(axis_order, angles_deg, transpose):
    affine = affine_of(axis_order, angles_deg)
    orientation = orientation_of(affine, transpose)
    stored = numbered()
    moved = orient(stored, orientation)
    moved_affine = oriented_affine(affine, stored.shape, orientation)
    for index in np.ndindex(moved.shape):
        before = np.unravel_index(moved[index], SHAPE)
        assert np.allclose(world(moved_affine, index), world(affine, before), atol=1e-9)


@given(axis_orders, angles, transposes)
def test_spacing_follows_the_axes(axis_order, angles_deg, transpose):
    affine = affine_of(axis_order, angles_deg)
    orientation = orientation_of(affine, transpose)
    assert spacing_of(affine) == pytest.approx(SPACING_XYZ[::-1])
    moved = oriented_affine(affine, SHAPE, orientation)
    assert spacing_of(affine, orientation) == pytest.approx(spacing_of(moved))


def test_a_transpose_permutes_canonical_axes():
    affine = affine_of(((0, 1, 2), (1, 1, 1)))
    assert orientation_of(affine) == AS_STORED
    assert orientation_of(affine, (1, 2, 0)) == Orientation((1, 2, 0), (False, False, False))
    assert spacing_of(affine, orientation_of(affine, (1, 2, 0))) == (1.3, 0.7, 4.9)


def test_spacings_that_differ_by_float_noise_are_equal():
    affine = np.diag([0.1 + 0.2, 1.0, 1.0, 1.0])
    assert spacing_of(affine) == (1.0, 1.0, 0.3)


def test_sheared_affines_have_an_orientation_too():
    affine = np.diag([1.0, 1, 3, 1])
    affine[1, 2] = 1.1  # a tilted CT gantry
    assert orientation_of(affine) == AS_STORED


def singular(**changes):
    affine = np.eye(4)
    for name, value in changes.items():
        affine[tuple(int(digit) for digit in name[1:])] = value
    return affine


@pytest.mark.parametrize(
    "affine",
    [
        np.zeros((4, 4)),
        singular(_22=0),
        singular(_02=1, _22=0),
        singular(_00=np.nan),
        singular(_03=np.inf),
        singular(_11=1e-9, _01=1),
    ],
    ids=["zeros", "flat axis", "parallel axes", "nan", "infinite origin", "nearly parallel axes"],
)
def test_a_singular_affine_is_an_input_error(affine):
    with pytest.raises(InputError, match=r"is singular; expected three independent axes; mend the header"):
        orientation_of(affine)


def test_grid_mismatch_is_the_farthest_corner():
    affine = affine_of(AXIS_ORDERS[0])
    moved = affine.copy()
    moved[:3, 3] += (3, 4, 0)
    assert grid_mismatch_mm(affine, affine, SHAPE) == 0
    assert grid_mismatch_mm(affine, moved, SHAPE) == pytest.approx(5)
    stretched = affine.copy()
    stretched[0, 0] += 0.1
    assert grid_mismatch_mm(affine, stretched, SHAPE) == pytest.approx(0.1 * (SHAPE[2] - 1))
    assert grid_mismatch_mm(affine, stretched, (3, 4, 1)) == 0


orientations = st.builds(
    Orientation, st.permutations(range(3)).map(tuple), st.tuples(st.booleans(), st.booleans(), st.booleans())
)


@given(orientations, orientations)
def test_what_lies_between_two_orientations_leads_from_one_to_the_other(old, new):
    stored = np.arange(np.prod(SHAPE)).reshape(SHAPE)
    assert np.array_equal(orient(orient(stored, old), between(old, new)), orient(stored, new))
    assert between(old, old) == AS_STORED


@given(orientations)
def test_a_box_turns_with_the_array_that_it_is_in(orientation):
    box = ((0, 2), (1, 4), (3, 4))
    stored = np.zeros(SHAPE, bool)
    stored[tuple(slice(*sides) for sides in box)] = True
    turned = orient(stored, orientation)
    expected = np.zeros(turned.shape, bool)
    expected[tuple(slice(*sides) for sides in oriented_box(box, SHAPE, orientation))] = True
    assert np.array_equal(turned, expected)


@pytest.mark.parametrize("length_mm", [0.0, 1e-9, 4.9e-7, 5.1e-7, 1e-6, 0.5, np.nan])
def test_an_edge_is_what_rounding_leaves_something_of(length_mm):
    spacing = spacing_of(np.diag([1, 1, length_mm, 1]))
    assert is_edge(length_mm) == (spacing[0] > 0)
