"""Label maps and volumes on the grid of an image, from every format to every format."""

import gzip
import json
import os
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK
from scipy.spatial.transform import Rotation

from tumorseg.errors import InputError
from tumorseg.schema.dataset import ImageFile
from tumorseg.storage.formats.nifti_writing import Voxels, voxels_of, write_like, write_new
from tumorseg.storage.formats.zipping import slabs
from tumorseg.storage.image_writing import check_label_map, write_segmentation, write_volumes
from tumorseg.storage.images import read_geometry, read_image, read_segmentation

OBLIQUE = np.eye(4)
OBLIQUE[:3, :3] = Rotation.from_euler("xyz", (12, -7, 17), degrees=True).as_matrix() @ np.diag([0.7, -0.9, 3.1])
OBLIQUE[:3, 3] = [-12.5, 40.25, 7]
SHEARED = OBLIQUE @ np.array([[1, 0, 0.2, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])


def image_like(path, shape=(4, 5, 6), affine=OBLIQUE, header=None):
    """Write an image of a file's shape (x, y, z, …)."""
    image = nibabel.Nifti1Image(np.zeros(shape, np.int16), affine, header)
    image.set_sform(affine, 1)
    image.to_filename(path)
    return ImageFile(path=str(path))


def labels(shape=(6, 5, 4), values=(0, 1, 2)):
    return np.random.default_rng(1).choice(np.array(values), shape)


@pytest.mark.parametrize("ending", [".nii", ".nii.gz", ".nrrd", ".mha"])
@pytest.mark.parametrize("shape", [(4, 5, 6), (4, 5), (4, 5, 6, 3)])
def test_a_label_map_of_every_format_lies_on_the_grid_of_a_nifti_image(tmp_path, ending, shape):
    like = image_like(tmp_path / "like.nii.gz", shape)
    geometry = read_geometry(like.path)
    array, path = labels(geometry.shape), tmp_path / f"a{ending}"
    write_segmentation(path, array, like=like)
    written = read_segmentation(str(path))
    np.testing.assert_array_equal(written.array, array)
    np.testing.assert_allclose(written.affine, geometry.affine, rtol=0, atol=1e-6)
    found = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(path)))
    np.testing.assert_array_equal(found.reshape(array.shape), array)


@pytest.mark.parametrize("ending", [".nii.gz", ".nrrd", ".mha"])
@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        ((0, 255), np.uint8),
        ((-3, 0, 7), np.int8),
        ((0, 2035), np.uint16),
        ((-3, 2035), np.int16),
        ((-3, 70_000), np.int32),
    ],
)
def test_labels_are_stored_in_the_smallest_type_that_holds_them(tmp_path, ending, values, dtype):
    path = tmp_path / f"a{ending}"
    write_segmentation(path, labels(values=values), like=image_like(tmp_path / "like.nii"))
    found = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(path)))
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, labels(values=values))


@pytest.mark.parametrize("ending", [".nii.gz", ".nrrd", ".mha"])
def test_where_the_image_was_taken_to_lie_counts_if_its_format_knows_less(tmp_path, ending):
    write_segmentation(tmp_path / "like.nrrd", labels(), like=image_like(tmp_path / "like.nii"))
    write_segmentation(
        tmp_path / f"a{ending}",
        labels(),
        like=ImageFile(path=str(tmp_path / "like.nrrd")),
        affine=np.diag([1, 2, 3, 1.0]),
    )
    np.testing.assert_allclose(read_geometry(str(tmp_path / f"a{ending}")).affine, np.diag([1, 2, 3, 1]))


def test_what_cannot_be_written_is_refused_before_there_is_a_segmentation(tmp_path):
    check_label_map(tmp_path / "a.nrrd", SHEARED)
    check_label_map(tmp_path / "a.MHA", OBLIQUE)
    with pytest.raises(InputError, match=r"a\.mha: found an image whose axes"):
        check_label_map(tmp_path / "a.mha", SHEARED)
    with pytest.raises(InputError, match=r"expected a name that ends in .*\.nrrd, \.mha"):
        check_label_map(tmp_path / "a.dcm")


@pytest.mark.parametrize("ending", [".nrrd", ".mha"])
def test_another_grid_is_refused_in_every_format(tmp_path, ending):
    like = image_like(tmp_path / "like.nii")
    with pytest.raises(InputError, match=r"found a grid of \(6, 5, 4\)"):
        write_segmentation(tmp_path / f"a{ending}", labels((6, 5, 3)), like=like)
    assert os.listdir(tmp_path) == ["like.nii"]


def test_volumes_become_4d_with_their_names_and_slope(tmp_path):
    volumes = np.random.default_rng(0).integers(0, 65536, (3, 6, 5, 4)).astype(np.uint16)
    like = image_like(tmp_path / "like.nii.gz", header=nibabel.Nifti1Header(endianness=">"))
    voxels = Voxels(
        volumes.shape, volumes.dtype, slabs(volumes), (1 / 65535, 0), ("background", "Größe", "c"), is_quick=True
    )
    write_volumes(tmp_path / "a.nii.gz", voxels, like=like, affine=np.eye(4))
    image = nibabel.load(tmp_path / "a.nii.gz")
    assert image.shape == (4, 5, 6, 3)
    np.testing.assert_allclose(image.affine, OBLIQUE, atol=1e-6)
    np.testing.assert_allclose(image.get_fdata().T, volumes / 65535, atol=1e-7)
    content = image.header.extensions[0].get_content()
    assert json.loads(content) == {"volumes": ["background", "Größe", "c"]}
    for index in range(3):
        found = read_image(ImageFile(path=str(tmp_path / "a.nii.gz"), index=index))
        np.testing.assert_allclose(found.array, volumes[index] / 65535, atol=1e-7)


def test_volumes_of_another_grid_or_name_are_refused(tmp_path):
    like = image_like(tmp_path / "like.nii")
    with pytest.raises(InputError, match="found a grid"):
        write_volumes(tmp_path / "a.nii", voxels_of(labels((3, 6, 5, 3))), like=like, affine=OBLIQUE)
    with pytest.raises(InputError, match=r"ends in \.nii\.gz or \.nii"):
        write_volumes(tmp_path / "a.nrrd", voxels_of(labels()), like=like, affine=OBLIQUE)


@pytest.mark.parametrize("kind", [nibabel.Nifti1Image, nibabel.Nifti2Image])
@pytest.mark.parametrize("endianness", ["<", ">"])
def test_a_file_written_in_slabs_is_nibabels_byte_for_byte(tmp_path, kind, endianness):
    array = np.random.default_rng(0).integers(-9, 9, (6, 5, 4)).astype(np.int16)
    expected = kind(array.T, OBLIQUE, kind.header_class(endianness=endianness))
    expected.set_data_dtype(np.int16)
    expected.header.set_slope_inter(0.5, -3)
    (tmp_path / "like.nii").write_bytes(expected.to_bytes())
    write_like(tmp_path / "a.nii.gz", voxels_of(array, (0.5, -3)), str(tmp_path / "like.nii"))
    found = gzip.decompress((tmp_path / "a.nii.gz").read_bytes())
    # nibabel scales what it stores, which we hand on as stored
    size = kind.header_class.sizeof_hdr + 4
    assert found[:size] == expected.to_bytes()[:size]
    assert found[size:] == array.astype(f"{endianness}i2").tobytes()


def test_a_new_file_is_nibabels_byte_for_byte(tmp_path):
    array = np.random.default_rng(0).normal(size=(2, 6, 5, 4)).astype(np.float32)
    expected = nibabel.Nifti1Image(array.T, OBLIQUE)
    expected.header.set_xyzt_units("mm")
    expected.set_sform(OBLIQUE, "scanner")
    expected.set_qform(OBLIQUE, "scanner")
    expected.header.set_slope_inter(1, 0)
    write_new(tmp_path / "a.nii", voxels_of(array), OBLIQUE)
    assert Path(tmp_path / "a.nii").read_bytes() == expected.to_bytes()
