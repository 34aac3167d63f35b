import numpy as np
import SimpleITK
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from tumorseg.ops.grids import Grid, covered_voxels
from tumorseg.ops.regridding import regrid, regrid_labels

FLIP = np.diag([-1.0, -1.0, 1.0])


def affine_of(spacing, angles, origin):
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", angles, degrees=True).as_matrix() * np.asarray(spacing)
    affine[:3, 3] = origin
    return affine


def in_itk(array, affine):
    image = SimpleITK.GetImageFromArray(array)
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    image.SetSpacing(spacing.tolist())
    image.SetDirection((FLIP @ affine[:3, :3] / spacing).ravel().tolist())
    image.SetOrigin((FLIP @ affine[:3, 3]).tolist())
    return image


@given(
    spacing=st.tuples(*[st.floats(0.5, 4)] * 3),
    angles=st.tuples(*[st.floats(-40, 40)] * 3),
    origin=st.tuples(*[st.floats(-3, 3)] * 3),
    shape=st.tuples(*[st.integers(2, 9)] * 3),
)
@settings(max_examples=30, deadline=None)
def test_it_is_simpleitks_linear_resampling_inside(spacing, angles, origin, shape):
    channel = np.random.default_rng(0).normal(size=(9, 11, 13)).astype(np.float32)
    affine, onto = affine_of((1.1, 0.9, 2.0), (5, -8, 12), (-2, 1, 4)), affine_of(spacing, angles, origin)
    grid, other = Grid(channel.shape, affine), Grid(shape, onto)
    covered = covered_voxels(other, grid)
    found = regrid(channel, grid, other, covered=covered, outside=-77)
    target = in_itk(np.zeros(shape, np.float32), onto)
    expected = SimpleITK.Resample(in_itk(channel, affine), target, SimpleITK.Transform(), SimpleITK.sitkLinear, 1e9)
    inside = SimpleITK.GetArrayFromImage(expected) < 1e8
    z, y, x = np.indices(shape)
    voxels = np.einsum("ij,jzyx->izyx", np.linalg.inv(affine) @ onto, np.stack([x, y, z, np.ones(shape)]))[:3]
    last = np.array([12, 10, 8])[:, None, None, None]
    inside &= ((voxels >= 0) & (voxels <= last)).all(axis=0)
    np.testing.assert_allclose(found[inside], SimpleITK.GetArrayFromImage(expected)[inside], atol=2e-4)
    np.testing.assert_array_equal(found == -77, ~covered)


def test_what_lies_outside_does_not_bleed_into_the_outer_half_voxel():
    channel = np.full((2, 2, 2), 40, np.float32)
    fine = np.diag([0.25, 0.25, 0.25, 1])
    fine[:3, 3] = -0.375  # centres of quarter voxels, from the outer edge on
    grid, other = Grid((2, 2, 2), np.eye(4)), Grid((8, 8, 10), fine)
    covered = covered_voxels(other, grid)
    found = regrid(channel, grid, other, covered=covered, outside=-1024)
    assert covered.sum() == 8 * 8 * 8
    assert set(np.unique(found)) == {-1024, 40}


@given(
    spacing=st.tuples(*[st.floats(0.5, 4)] * 3),
    angles=st.tuples(*[st.floats(-40, 40)] * 3),
    shape=st.tuples(*[st.integers(2, 9)] * 3),
)
@settings(max_examples=20, deadline=None)
def test_labels_are_simpleitks_nearest_neighbours(spacing, angles, shape):
    labels = np.random.default_rng(0).choice([0, 1, 4, -3], size=(9, 11, 13)).astype(np.int16)
    affine, onto = affine_of((1.1, 0.9, 2.0), (5, -8, 12), (-2, 1, 4)), affine_of(spacing, angles, (0.3, 0.1, -0.2))
    grid, other = Grid(labels.shape, affine), Grid(shape, onto)
    covered = covered_voxels(other, grid)
    found = regrid_labels(labels, grid, other, covered=covered)
    target = in_itk(np.zeros(shape, np.int16), onto)
    expected = SimpleITK.Resample(
        in_itk(labels, affine), target, SimpleITK.Transform(), SimpleITK.sitkNearestNeighbor, 0
    )
    assert found.dtype == np.int16
    # Exactly between two voxels either is the nearest, and rounding decides.
    assert np.mean(found != SimpleITK.GetArrayFromImage(expected)) < 0.01
    assert not found[~covered].any()
