import nibabel
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from tumorseg.ops.geometry import orient
from tumorseg.ops.grids import Grid, covered_voxels, describe_mismatch, same_extent, same_voxels, shared_part

CODES = [a + b + c for a in "RL" for b in "AP" for c in "SI"]
CODES += ["".join(code[axis] for axis in order) for code in CODES for order in ((1, 0, 2), (2, 1, 0), (1, 2, 0))]


def affine_of(spacing=(1.1, 0.9, 3.0), angles=(0, 0, 0), origin=(-10.0, 4.0, 7.0)):
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", angles, degrees=True).as_matrix() * np.asarray(spacing)
    affine[:3, 3] = origin
    return affine


def stored_as(array, affine, code):
    """Return an array (Z, Y, X) and its affine with other axes, at the same world points."""
    image = nibabel.Nifti1Image(array.T, affine)
    start, end = nibabel.io_orientation(affine), nibabel.orientations.axcodes2ornt(code)
    turned = image.as_reoriented(nibabel.orientations.ornt_transform(start, end))
    return np.asarray(turned.dataobj).T, turned.affine


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("angles", [(0, 0, 0), (20, -15, 30)])
def test_what_is_stored_in_other_axes_comes_back_without_loss(code, angles):
    array = np.random.default_rng(0).integers(0, 99, (5, 7, 4)).astype(np.int16)
    affine = affine_of(angles=angles)
    stored, other = stored_as(array, affine, code)
    way = same_voxels(Grid(stored.shape, other), Grid(array.shape, affine))
    assert way is not None
    np.testing.assert_array_equal(orient(stored, way), array)


@given(shift=st.floats(0, 2), axis=st.integers(0, 2))
@settings(max_examples=40, deadline=None)
def test_half_of_the_finest_edge_is_the_limit(shift, axis):
    onto = affine_of()
    moved = onto.copy()
    moved[axis, 3] += shift
    found = same_voxels(Grid((5, 7, 4), moved), Grid((5, 7, 4), onto))
    assert (found is not None) == (shift <= 0.45)


def test_a_flat_image_may_be_stored_with_its_normal_the_other_way():
    onto = affine_of()
    other = onto @ np.diag([1, 1, -1, 1])
    assert same_voxels(Grid((1, 7, 4), other), Grid((1, 7, 4), onto)) is not None


def test_directions_that_are_not_one_to_one_are_no_reorientation():
    skewed = np.eye(4)
    skewed[:3, :3] = [[1, 0.9, 0], [0.1, 0.4, 0], [0, 0, 1]]
    assert same_voxels(Grid((3, 3, 3), skewed), Grid((3, 3, 3), np.eye(4))) is None


def test_a_grid_without_a_place_lies_on_one_of_as_many_voxels_of_the_same_size():
    onto, other = affine_of(), affine_of(origin=(500, 0, 0)) @ np.diag([-1, -1, 1, 1])
    way = same_extent(Grid((5, 7, 4), other), Grid((5, 7, 4), onto))
    assert way is not None
    assert way.flips == (False, True, True)
    assert same_extent(Grid((5, 7, 5), other), Grid((5, 7, 4), onto)) is None
    assert same_extent(Grid((5, 7, 4), affine_of((1.1, 0.9, 2.9))), Grid((5, 7, 4), onto)) is None


@pytest.mark.parametrize(
    ("grid", "said"),
    [
        (Grid((5, 7, 4), affine_of(origin=(2.0, 4.0, 7.0))), "shifted by 12, 0, 0 mm"),
        (Grid((5, 7, 4), affine_of((1, 1, 1))), "voxel size may have been lost"),
        (Grid((5, 7, 4), affine_of(angles=(0, 0, 25))), "turned by 25 degrees"),
        (Grid((5, 7, 3), affine_of()), "cropped or padded"),
        (Grid((10, 14, 8), affine_of((0.55, 0.45, 1.5))), "resampled"),
        (Grid((40, 14, 8), affine_of((2, 2, 2))), "of another image"),
        (Grid((5, 7, 4), affine_of() @ np.diag([-1, 1, 1, 1])), "runs against the other's along x"),
    ],
)
def test_a_difference_is_told_with_its_likely_cause(grid, said):
    assert said in describe_mismatch(grid, Grid((5, 7, 4), affine_of()))


def test_no_difference_is_answered_with_copying_a_header():
    for origin in ((0, 0, 0), (-10.0, 4.0, 99.0)):
        assert "copy" not in describe_mismatch(Grid((5, 7, 4), affine_of(origin=origin)), Grid((5, 7, 4), affine_of()))


@given(
    spacing=st.tuples(*[st.floats(0.5, 4)] * 3),
    angles=st.tuples(*[st.floats(-40, 40)] * 3),
    origin=st.tuples(*[st.floats(-6, 6)] * 3),
)
@settings(max_examples=30, deadline=None)
def test_covered_is_what_lies_within_the_outer_edges(spacing, angles, origin):
    grid, by = (
        Grid((6, 5, 4), affine_of(spacing, angles, origin)),
        Grid((3, 4, 5), affine_of((1.3, 0.8, 2.1), (10, 5, -8))),
    )
    z, y, x = np.indices(grid.shape)
    voxels = np.stack([x, y, z, np.ones(grid.shape)]).reshape(4, -1)
    places = (np.linalg.inv(by.affine) @ grid.affine @ voxels)[:3]
    last = np.array([[4.5], [3.5], [2.5]])
    distance = np.minimum(places + 0.5, last - places).min(axis=0)
    found = covered_voxels(grid, by).ravel()
    assert found[distance > 1e-4].all()
    assert not found[distance < -1e-4].any()


def test_the_shared_part_is_of_the_smaller_field_of_view():
    wide, narrow = Grid((4, 20, 20), np.diag([4.0, 4, 4, 1])), Grid((8, 20, 20), np.diag([1.0, 1, 2, 1]))
    assert shared_part(wide, narrow, covered_voxels(wide, narrow)) == pytest.approx(1, abs=0.3)
    far = np.diag([1.0, 1, 2, 1])
    far[0, 3] = 500
    apart = Grid((8, 20, 20), far)
    assert shared_part(wide, apart, covered_voxels(wide, apart)) == 0
