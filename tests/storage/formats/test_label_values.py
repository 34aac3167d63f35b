"""Which numbers of a label file are labels."""

import nibabel
import numpy as np
import pytest
import SimpleITK
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tumorseg.errors import InputError
from tumorseg.storage.formats.label_values import is_coarse, round_labels
from tumorseg.storage.images import read_segmentation


def save(path, values, dtype=None, *, slope=None, intercept=0.0):
    """Write values (to be stored as they are, with a slope beside them if one is given) in a small odd grid."""
    array = np.resize(np.asarray(values, dtype), (3, 4, 5))
    image = nibabel.Nifti1Image(array, np.diag([0.7, 0.9, 3.1, 1]))
    if slope is not None:
        image.header.set_slope_inter(slope, intercept)
    nibabel.save(image, path)
    return str(path)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16])
@pytest.mark.parametrize("labels", [(0, 1, 2, 3, 4), (0, 1, 2, 4, 255), (-3, 0, 7)])
def test_what_nibabel_scales_to_integers_of_few_bits_is_what_it_was(tmp_path, dtype, labels):
    array = np.resize(np.array(labels, np.float64), (3, 4, 5))
    image = nibabel.Nifti1Image(array, np.eye(4))
    image.set_data_dtype(dtype)
    nibabel.save(image, tmp_path / "a.nii.gz")
    assert 0 < nibabel.load(tmp_path / "a.nii.gz").dataobj.slope <= 1.02
    if nibabel.load(tmp_path / "a.nii.gz").dataobj.slope <= 1:
        np.testing.assert_array_equal(read_segmentation(str(tmp_path / "a.nii.gz")).array, array.T)


@given(
    slope=st.floats(1e-4, 0.999),
    intercept=st.floats(-40, 40),
    labels=st.lists(st.integers(-30, 30), min_size=1, max_size=9),
)
@settings(max_examples=200, deadline=None)
def test_any_label_stored_with_a_slope_below_one_is_found_again(slope, intercept, labels):
    slope, intercept = float(np.float32(slope)), float(np.float32(intercept))
    stored = np.rint((np.array(labels) - intercept) / slope).astype(np.int32)
    found = round_labels(stored, (slope, intercept))
    assert not found.is_off.any()
    assert found.labels.tolist() == labels


@pytest.mark.parametrize("slope", [1.5, 3.9215686, -2.5, 1.001])
def test_a_larger_slope_that_is_no_integer_is_refused(tmp_path, slope):
    path = save(tmp_path / "a.nii", [0, 2, 4], np.uint8, slope=slope)
    with pytest.raises(InputError, match=r"a\.nii: found labels stored with a slope of .*; store them anew") as refused:
        read_segmentation(path)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(("slope", "intercept"), [(1.0, 2.0), (2.0, 0.0), (3.0, 1.0), (-1.0, 5.0)])
def test_integer_slopes_and_intercepts_keep_labels_apart(tmp_path, slope, intercept):
    path = save(tmp_path / "a.nii", [0, 1, 2], np.uint8, slope=slope, intercept=intercept)
    np.testing.assert_array_equal(np.unique(read_segmentation(path).array), np.sort(np.arange(3) * slope + intercept))


def test_an_intercept_between_integers_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"found the value 0\.5, expected integer labels"):
        read_segmentation(save(tmp_path / "a.nii", [0, 1], np.uint8, slope=1.0, intercept=0.5))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("value", [0.99999994, 1.0000001, -0.99999994, 3.0000002, 1e-7, 2047.9999])
def test_floats_one_rounding_away_are_the_integer(tmp_path, dtype, value):
    found = read_segmentation(save(tmp_path / "a.nii.gz", [0, np.float32(value)], dtype)).array
    assert np.unique(found).tolist() == sorted({0, round(value)})


@pytest.mark.parametrize(
    ("value", "shown"),
    [(1.0039216, "1.0039216"), (0.3, "0.3"), (1.00001, "1.00001"), (0.9999, "0.9999"), (np.nan, "nan")],
)
def test_any_other_float_is_refused_and_shown_in_full(tmp_path, value, shown):
    path = save(tmp_path / "a.nii", [0, value], np.float32)
    with pytest.raises(InputError) as refused:
        read_segmentation(path)
    assert f"{path}: found the value {shown}, expected integer labels; is this an intensity" in str(refused.value)
    assert "store labels as integers" in str(refused.value)


def test_the_rule_is_that_of_every_format(tmp_path):
    values = np.resize(np.array([0, 0.99999994, 4], np.float32), (6, 7))
    Image.fromarray(values).save(tmp_path / "a.tif")
    for ending in (".nrrd", ".mha"):
        SimpleITK.WriteImage(SimpleITK.GetImageFromArray(values), str(tmp_path / f"a{ending}"))
    for ending in (".tif", ".nrrd", ".mha"):
        assert np.unique(read_segmentation(str(tmp_path / f"a{ending}")).array).tolist() == [0, 1, 4]
    Image.fromarray(values + np.float32(0.25)).save(tmp_path / "b.tif")
    with pytest.raises(InputError, match=r"found the value 0\.25"):
        read_segmentation(str(tmp_path / "b.tif"))


def test_a_slope_is_coarse_above_one_unless_it_is_an_integer():
    stored = np.zeros(3, np.uint8)
    assert [is_coarse(stored, (slope, 0.0)) for slope in (1.0, 0.5, 2.0, -3.0, 1.0000001)] == [False] * 5
    assert [is_coarse(stored, (slope, 0.0)) for slope in (1.01, -1.5, 2.5)] == [True] * 3


def test_floats_with_a_larger_slope_are_judged_by_rounding(tmp_path):
    path = save(tmp_path / "a.nii", [0, 0.8, 1.6], np.float32, slope=2.5)
    assert np.unique(read_segmentation(path).array).tolist() == [0, 2, 4]
    with pytest.raises(InputError, match=r"found the value 2\.5, expected integer labels"):
        read_segmentation(save(tmp_path / "b.nii", [0, 1.0], np.float32, slope=2.5))
