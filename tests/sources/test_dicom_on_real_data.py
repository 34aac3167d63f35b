"""Real series: as other programs read them, and as the NIfTI copies that came with them."""

import numpy as np
import pytest
import SimpleITK

from tumorseg.errors import InputError
from tumorseg.ops.geometry import orient, orientation_of, oriented_affine
from tumorseg.schema.dataset import ImageFile
from tumorseg.sources.dicom import list_dicom, read_dicom
from tumorseg.sources.inputs import open_inputs
from tumorseg.storage.formats.stored import Geometry
from tumorseg.storage.images import read_image, read_images, read_reference, read_segmentation

pytestmark = pytest.mark.real


@pytest.fixture
def dicom(real_data):
    return real_data / "DICOM"


def canonical(volume):
    orientation = orientation_of(volume.affine)
    return orient(volume.array, orientation), oriented_affine(volume.affine, volume.array.shape, orientation)


def test_the_ct_equals_its_nifti_copy_and_its_contours_the_mask(dicom):
    dataset = read_dicom(dicom / "CT_lung_RTSTRUCT")
    (case,) = dataset.cases
    assert [(channel.name, channel.kind) for channel in dataset.channels] == [("CT", "ct")]
    assert dataset.labels == {"background": 0, "GTV-1": 1}
    (volume,) = read_images(case.images)
    copies = dicom / "CT_lung_RTSTRUCT" / "nifti"
    found, affine = canonical(volume)
    expected, expected_affine = canonical(read_image(ImageFile(path=str(copies / "image" / "phantom.nii.gz"))))
    assert np.array_equal(found, expected)
    assert np.abs(affine - expected_affine).max() < 1e-3
    drawn = read_reference(case.label_files, Geometry(volume.array.shape, volume.affine, 1), dataset.labels)
    mask, given = canonical(drawn)[0] > 0, canonical(read_segmentation(str(copies / "mask" / "mask.nii.gz")))[0] > 0
    assert 2 * (mask & given).sum() / (mask.sum() + given.sum()) > 0.9999


@pytest.mark.parametrize("name", ["CT_lung_RTSTRUCT/dicom/image", "MR_hippocampus_crop", "MR_T1post_6mm"])
def test_series_are_as_itk_reads_them(dicom, name):
    (case,) = list_dicom(dicom / name).cases
    (volume,) = read_images(case.images)
    reader = SimpleITK.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(dicom / name)))
    image = reader.Execute()
    assert np.array_equal(volume.array, SimpleITK.GetArrayFromImage(image))
    for z, y, x in ((0, 0, 0), (3, 11, 17), tuple(size - 1 for size in volume.array.shape)):
        expected = np.array([-1, -1, 1]) * image.TransformIndexToPhysicalPoint([x, y, z])
        assert np.allclose((volume.affine @ [x, y, z, 1])[:3], expected, atol=1e-3)


def test_a_series_is_an_input_of_a_model_of_its_kind_and_no_other(dicom):
    (case,) = open_inputs([dicom / "MR_hippocampus_crop"], ["MRI"], ["mr"]).cases
    assert case.case_id == "PGBM-003"
    with pytest.raises(InputError, match=r"found the channels MR \(mr\), expected CT \(ct\)"):
        open_inputs([dicom / "MR_hippocampus_crop"], ["CT"], ["ct"])


def test_studies_of_different_series_are_listed(dicom):
    with pytest.raises(InputError, match=r"found 1 [.\d]*: CT .*; PGBM-003 20200121: MR T1post, MR HippoCrop"):
        list_dicom(dicom)
