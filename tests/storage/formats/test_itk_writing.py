"""NRRD and MetaImage as they are written: voxels and world, for our own reader and for ITK's."""

import itertools

import numpy as np
import pytest
import SimpleITK
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from tumorseg.errors import InputError
from tumorseg.storage.formats.itk_writing import check_right_angles, write_metaimage, write_nrrd
from tumorseg.storage.images import read_geometry, read_segmentation

WRITERS = {".nrrd": write_nrrd, ".mha": write_metaimage}
SHEARED = np.array([[0.7, 0, 0.3, -12.5], [0, 0.9, 0.2, 40.25], [0, 0, 3.1, 7], [0, 0, 0, 1]])
"""As of a CT whose gantry was tilted."""

ending = pytest.mark.parametrize("ending", WRITERS)


@st.composite
def affines(draw):
    """Any turn of any of the 48 ways in which voxel axes can run, anisotropic."""
    order = draw(st.permutations(range(3)))
    signs = draw(st.sampled_from(list(itertools.product((1.0, -1.0), repeat=3))))
    angles = draw(st.tuples(*[st.floats(-180, 180)] * 3))
    spacing = draw(st.tuples(*[st.floats(0.25, 7.5)] * 3))
    affine = np.eye(4)
    turned = Rotation.from_euler("xyz", angles, degrees=True).as_matrix()
    affine[:3, :3] = turned @ (np.eye(3)[order] * signs) @ np.diag(spacing)
    affine[:3, 3] = draw(st.tuples(*[st.floats(-250, 250)] * 3))
    return affine


def affine_in_itk(image):
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
    affine[:3, 3] = image.GetOrigin()
    return np.diag([-1, -1, 1, 1]) @ affine


def labels(shape=(3, 5, 4), values=(0, 1, 2, 9), dtype=np.uint8):
    return np.random.default_rng(1).choice(np.array(values, dtype), shape)


@ending
@given(affine=affines(), shape=st.tuples(*[st.integers(1, 6)] * 3))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_voxels_and_affine_are_what_was_written_for_our_reader_and_for_itk(tmp_path, ending, affine, shape):
    array, path = labels(shape), tmp_path / f"a{ending}"
    WRITERS[ending](path, array, affine)
    found = read_segmentation(str(path))
    np.testing.assert_array_equal(found.array, array)
    np.testing.assert_allclose(found.affine, affine, rtol=0, atol=1e-6)
    assert found.is_placed
    image = SimpleITK.ReadImage(str(path))
    np.testing.assert_array_equal(SimpleITK.GetArrayFromImage(image), array)
    np.testing.assert_allclose(affine_in_itk(image), affine, rtol=0, atol=1e-6)


@ending
@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i2", "u4", "i4", "i8", ">i2", ">u4"])
def test_each_integer_type_is_kept_whatever_its_byte_order(tmp_path, ending, dtype):
    kind = np.dtype(dtype)
    most = min(np.iinfo(kind).max, 2**31 - 1)
    array, path = labels(values=(0, 3, most, max(np.iinfo(kind).min, -(2**31))), dtype=kind), tmp_path / f"a{ending}"
    WRITERS[ending](path, array, np.diag([0.7, 0.9, 3.1, 1]))
    np.testing.assert_array_equal(read_segmentation(str(path)).array, array)
    found = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(path)))
    assert found.dtype == kind.newbyteorder("=")
    np.testing.assert_array_equal(found, array)


def test_a_sheared_grid_survives_in_nrrd(tmp_path):
    write_nrrd(tmp_path / "a.nrrd", labels(), SHEARED)
    np.testing.assert_allclose(read_geometry(str(tmp_path / "a.nrrd")).affine, SHEARED, rtol=0, atol=1e-12)


def test_metaimage_refuses_a_sheared_grid_and_leaves_nothing(tmp_path):
    with pytest.raises(InputError, match=r"a\.mha: found an image whose axes are up to 5\.52 degrees off") as refused:
        write_metaimage(tmp_path / "a.mha", labels(), SHEARED)
    assert "\n" not in str(refused.value)
    assert list(tmp_path.iterdir()) == []


def test_what_rounding_leaves_of_right_angles_is_no_shear(tmp_path):
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", (11, 23, -37), degrees=True).as_matrix() @ np.diag([0.31, 0.31, 5])
    check_right_angles(tmp_path / "a.mha", affine.astype(np.float32).astype(np.float64))
    check_right_angles(tmp_path / "a.mha", affine.round(4))
    with pytest.raises(InputError, match="right angle"):
        check_right_angles(tmp_path / "a.mha", affine.round(2))


@ending
def test_a_view_is_written_as_it_is_seen(tmp_path, ending):
    view = labels().transpose(2, 0, 1)[::-1, :, ::-1]
    WRITERS[ending](tmp_path / f"a{ending}", view, np.eye(4))
    np.testing.assert_array_equal(read_segmentation(str(tmp_path / f"a{ending}")).array, view)


@ending
def test_label_maps_are_packed_and_their_bytes_depend_on_nothing_else(tmp_path, ending):
    array = np.zeros((40, 50, 60), np.uint8)
    array[10:20, 5:30, 7:40] = 2
    for name in ("a", "b"):
        WRITERS[ending](tmp_path / f"{name}{ending}", array, SHEARED * [1, 1, 0, 1] + np.diag([0, 0, 3.1, 0]))
    first = (tmp_path / f"a{ending}").read_bytes()
    assert first == (tmp_path / f"b{ending}").read_bytes()
    assert len(first) < array.nbytes / 50
