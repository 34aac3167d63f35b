import numpy as np
import pytest
import SimpleITK
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from tumorseg.ops.regridding import reach_outside_mm, regrid

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
    found = regrid(channel, affine, shape, onto)
    target = in_itk(np.zeros(shape, np.float32), onto)
    expected = SimpleITK.Resample(in_itk(channel, affine), target, SimpleITK.Transform(), SimpleITK.sitkLinear, 1e9)
    inside = SimpleITK.GetArrayFromImage(expected) < 1e8
    z, y, x = np.indices(shape)
    voxels = np.einsum("ij,jzyx->izyx", np.linalg.inv(affine) @ onto, np.stack([x, y, z, np.ones(shape)]))[:3]
    last = np.array([12, 10, 8])[:, None, None, None]
    inside &= ((voxels >= 0) & (voxels <= last)).all(axis=0)
    np.testing.assert_allclose(found[inside], SimpleITK.GetArrayFromImage(expected)[inside], atol=2e-4)
    outside = ((voxels < -1) | (voxels > last + 1)).any(axis=0)
    assert np.all(found[outside] == channel.min())


def test_the_reach_is_measured_to_the_outer_edges():
    affine, shifted = np.eye(4), np.eye(4)
    shifted[:3, 3] = [0, 0, 2.5]
    assert reach_outside_mm(affine, (5, 5, 5), affine, (5, 5, 5)) == 0
    assert reach_outside_mm(shifted, (5, 5, 5), affine, (5, 5, 5)) == pytest.approx(2.0)
    coarse = np.diag([4.0, 4.0, 4.0, 1.0])
    assert reach_outside_mm(np.diag([1.0, 1.0, 1.0, 1.0]), (7, 2, 2), coarse, (1, 1, 1)) == pytest.approx(4.0)
