"""Formats other than NIfTI: voxels and world as other programs see them."""

import itertools

import nibabel
import numpy as np
import pytest
import SimpleITK
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.spatial.transform import Rotation

from tumorseg.errors import InputError
from tumorseg.ops.geometry import orient, orientation_of, oriented_affine
from tumorseg.schema.dataset import ImageFile
from tumorseg.storage.image_writing import write_segmentation
from tumorseg.storage.images import read_geometry, read_image, read_images, read_label_values, read_segmentation

ITK = [".nrrd", ".mha", ".mhd"]
LOSSLESS = [".png", ".tif", ".tiff"]


def write_itk(path, array, *, rotation=None, spacing=(0.7, 0.9, 3.1), origin=(-12.5, 40.25, 7.0), is_vector=False):
    image = SimpleITK.GetImageFromArray(array, isVector=is_vector)
    axes = image.GetDimension()
    image.SetSpacing(spacing[:axes])
    image.SetOrigin(origin[:axes])
    if rotation is not None:
        image.SetDirection(rotation.ravel().tolist())
    SimpleITK.WriteImage(image, str(path))
    return image


def voxels(shape=(5, 6, 7), dtype=np.int16, seed=3):
    return np.random.default_rng(seed).integers(0, 90, shape).astype(dtype)


def world_in_itk(image, index):
    return np.array([-1, -1, 1]) * image.TransformIndexToPhysicalPoint([int(i) for i in index])


@pytest.mark.parametrize("ending", ITK)
@given(
    angles=st.tuples(*[st.floats(-180, 180)] * 3),
    flips=st.sampled_from(list(itertools.product((1, -1), repeat=3))),
    shape=st.tuples(*[st.integers(1, 6)] * 3),
)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_voxels_lie_where_itk_says_before_and_after_canonical_order(tmp_path, ending, angles, flips, shape):
    rotation = Rotation.from_euler("xyz", angles, degrees=True).as_matrix() @ np.diag(flips).astype(float)
    array, path = voxels(shape), tmp_path / f"a{ending}"
    image = write_itk(path, array, rotation=rotation)
    found = read_image(ImageFile(path=str(path)))
    assert np.array_equal(found.array, array)
    orientation = orientation_of(found.affine)
    turned, affine = orient(found.array, orientation), oriented_affine(found.affine, array.shape, orientation)
    for index in itertools.islice(np.ndindex(shape), 0, None, 7):
        z, y, x = index
        expected = world_in_itk(image, (x, y, z))
        assert np.allclose((found.affine @ [x, y, z, 1])[:3], expected, atol=1e-4)
        a, b, c = np.rint(np.linalg.solve(affine, [*expected, 1])[:3]).astype(int)
        assert turned[c, b, a] == array[index]


@pytest.mark.parametrize("ending", ITK)
def test_components_are_channels(tmp_path, ending):
    array = voxels((5, 6, 7, 2), np.float32)
    write_itk(tmp_path / f"a{ending}", array, is_vector=True)
    files = [ImageFile(path=str(tmp_path / f"a{ending}"), index=index, num_volumes=2) for index in range(2)]
    assert read_geometry(files[0].path).num_volumes == 2
    for index, volume in enumerate(read_images(files)):
        assert np.array_equal(volume.array, array[..., index])
    with pytest.raises(InputError, match="found 2 volumes along the last axis, expected one"):
        read_image(ImageFile(path=files[0].path))


@pytest.mark.parametrize("ending", ITK)
def test_a_flat_image_has_one_slice(tmp_path, ending):
    array = voxels((6, 7))
    write_itk(tmp_path / f"a{ending}", array)
    found = read_image(ImageFile(path=str(tmp_path / f"a{ending}")))
    assert np.array_equal(found.array, array[None])
    assert np.allclose(found.affine, [[-0.7, 0, 0, 12.5], [0, -0.9, 0, -40.25], [0, 0, 1, 0], [0, 0, 0, 1]])


@pytest.mark.parametrize("ending", ITK)
def test_a_result_lies_on_the_grid_of_such_a_file(tmp_path, ending):
    rotation = Rotation.from_euler("xyz", (10, 20, 30), degrees=True).as_matrix()
    image = write_itk(tmp_path / f"a{ending}", voxels(), rotation=rotation)
    labels = voxels(dtype=np.uint8) // 30
    write_segmentation(tmp_path / "out.nii.gz", labels, like=ImageFile(path=str(tmp_path / f"a{ending}")))
    written = SimpleITK.ReadImage(str(tmp_path / "out.nii.gz"))
    assert np.array_equal(SimpleITK.GetArrayFromImage(written), labels)
    for name in ("GetSize", "GetSpacing", "GetOrigin", "GetDirection"):
        assert np.allclose(getattr(written, name)(), getattr(image, name)(), atol=1e-5)


@pytest.mark.parametrize("ending", [".nrrd", ".mha"])
def test_a_damaged_file_is_one_line(tmp_path, ending):
    path = tmp_path / f"a{ending}"
    write_itk(path, voxels((20, 20, 20)))
    path.write_bytes(path.read_bytes()[:-4000])
    with pytest.raises(InputError, match=r"cannot be read as (NRRD|MetaImage)") as refused:
        read_image(ImageFile(path=str(path)))
    assert "\n" not in str(refused.value)
    path.write_bytes(b"nothing")
    with pytest.raises(InputError, match=r"cannot be read as (NRRD|MetaImage)"):
        read_geometry(str(path))


@pytest.mark.parametrize("ending", LOSSLESS)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_pictures_are_one_slice_of_one_millimetre(tmp_path, ending, dtype):
    array = voxels((6, 7), dtype) * (3 if dtype == np.uint16 else 1)
    Image.fromarray(array).save(tmp_path / f"a{ending}")
    found = read_image(ImageFile(path=str(tmp_path / f"a{ending}")))
    assert np.array_equal(found.array, array[None])
    assert np.array_equal(found.affine, np.eye(4))
    assert np.array_equal(read_segmentation(str(tmp_path / f"a{ending}")).array, array[None])


@pytest.mark.parametrize("ending", [".png", ".jpg", ".jpeg", ".tif"])
def test_bands_of_a_picture_are_channels(tmp_path, ending):
    array = np.repeat(np.repeat(voxels((3, 4, 3), np.uint8), 8, axis=0), 8, axis=1)
    Image.fromarray(array).save(tmp_path / f"a{ending}")
    volumes = read_images([ImageFile(path=str(tmp_path / f"a{ending}"), index=index) for index in range(3)])
    tolerance = 60 if ending.startswith(".j") else 0  # JPEG loses, above all of colour
    for index, volume in enumerate(volumes):
        assert np.abs(volume.array[0] - array[..., index]).max() <= tolerance


def test_a_result_for_a_picture_is_flat_nifti(tmp_path):
    Image.fromarray(voxels((6, 7), np.uint8)).save(tmp_path / "a.png")
    labels = (voxels((1, 6, 7), np.uint8) > 40).astype(np.uint8) * 255
    write_segmentation(tmp_path / "out.nii.gz", labels, like=ImageFile(path=str(tmp_path / "a.png")))
    assert nibabel.load(tmp_path / "out.nii.gz").shape == (7, 6, 1)
    assert np.array_equal(read_segmentation(str(tmp_path / "out.nii.gz")).array, labels)


@pytest.mark.parametrize("ending", [".png", ".tif"])
def test_the_indices_of_a_palette_are_labels_and_no_intensities(tmp_path, ending):
    labels = np.zeros((3, 5), np.uint8)
    labels[1, 2:], labels[2, 0] = 1, 255
    picture = Image.fromarray(labels)
    picture.putpalette([0, 0, 0, 128, 0, 0] + [7] * 759 + [224, 224, 192])
    path = str(tmp_path / f"a{ending}")
    picture.save(path)
    assert np.array_equal(read_segmentation(path).array[0], labels)
    assert read_label_values(path) == {0, 1, 255}
    with pytest.raises(InputError, match="found a palette, expected grey or RGB; write the image in either"):
        read_image(ImageFile(path=path))


def test_a_label_map_in_colours_is_refused_in_words_of_pictures(tmp_path):
    Image.fromarray(np.repeat(voxels((3, 4, 1), np.uint8), 3, axis=2)).save(tmp_path / "a.png")
    with pytest.raises(InputError, match="found 3 colour bands, expected one; write it as grey values"):
        read_segmentation(str(tmp_path / "a.png"))


def test_pictures_that_would_have_to_be_guessed_are_refused(tmp_path):
    Image.fromarray(voxels((6, 7, 4), np.uint8)).save(tmp_path / "alpha.png")
    with pytest.raises(InputError, match="found pixels of kind RGBA, expected grey or RGB"):
        read_geometry(str(tmp_path / "alpha.png"))
    pages = [Image.fromarray(voxels((6, 7), np.uint8)) for _ in range(2)]
    pages[0].save(tmp_path / "pages.tif", save_all=True, append_images=pages[1:])
    with pytest.raises(InputError, match="found 2 pages, expected one"):
        read_geometry(str(tmp_path / "pages.tif"))
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n nothing")
    with pytest.raises(InputError, match="cannot be read as a picture"):
        read_geometry(str(tmp_path / "broken.png"))
    Image.fromarray(voxels((60, 70), np.uint8)).save(tmp_path / "cut.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "cut.png").read_bytes()[:-900])
    with pytest.raises(InputError, match="cannot be read as a picture"):
        read_image(ImageFile(path=str(tmp_path / "cut.png")))
