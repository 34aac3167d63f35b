"""What becomes of voxels, types, headers and grids when a case is written in another layout."""

import logging
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK
from PIL import Image
from scipy.spatial.transform import Rotation

from tests.sources import layouts
from tests.stages.conversions import assert_same_cases, assert_same_dataset, convert_to
from tumorseg.ops.geometry import AxisOrder
from tumorseg.sources.registry import open_dataset
from tumorseg.stages.opening.reading import read_case_image
from tumorseg.storage.images import read_images, read_segmentation


def affine_of():
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", (8, -5, 11), degrees=True).as_matrix() @ np.diag([-0.7, 0.9, 3.1])
    affine[:3, 3] = (-12.5, 40.25, 7)
    return affine


def write_case(folder, paths, label="label.nii.gz", channels=None):
    """Write a manifest of one case."""
    content = {
        "channels": channels or [f"c{number}" for number in range(len(paths))],
        "labels": {"a": 1, "b": 2},
        "cases": [{"case_id": "one", "images": list(paths), "label": label}],
    }
    layouts.write_json(folder / "manifest.json", content)
    return folder


def voxels(dtype=np.int16, shape=(5, 6, 7), seed=3):
    return np.random.default_rng(seed).integers(0, 900, shape).astype(dtype)


def save_nifti(path, array, *, affine=None, kind=nibabel.Nifti1Image, scaling=None, header=None):
    image = kind(array, affine_of() if affine is None else affine, header, dtype=array.dtype)
    if scaling:
        image.header.set_slope_inter(*scaling)
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(image, path)


def save_label(folder, name="label.nii.gz", affine=None, dtype=np.uint8):
    save_nifti(folder / name, np.resize(np.array([0, 1, 2, 1, 0], dtype), (5, 6, 7)), affine=affine)


def save_nrrd(path, array):
    affine = affine_of()
    image = SimpleITK.GetImageFromArray(array.T)
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    turned = np.diag([-1, -1, 1]) @ affine[:3]
    image.SetSpacing(lengths.tolist())
    image.SetDirection((turned[:, :3] / lengths).ravel().tolist())
    image.SetOrigin(turned[:, 3].tolist())
    SimpleITK.WriteImage(image, str(path))


FILES = {
    "plain": ("a.nii", save_nifti, np.int16),
    "unsigned": ("a.nii", save_nifti, np.uint16),
    "doubles": ("a.nii", save_nifti, np.float64),
    "long integers": ("a.nii.gz", save_nifti, np.int64),
    "scaled": ("a.nii", lambda path, array: save_nifti(path, array, scaling=(0.37, -1024)), np.int16),
    "NIfTI-2": ("a.nii.gz", lambda path, array: save_nifti(path, array, kind=nibabel.Nifti2Image), np.int16),
    "scaled NIfTI-2": (
        "a.nii.gz",
        lambda path, array: save_nifti(path, array, kind=nibabel.Nifti2Image, scaling=(0.1, 3)),
        np.int16,
    ),
    "big-endian": (
        "a.nii",
        lambda path, array: save_nifti(path, array, header=nibabel.Nifti1Header(endianness=">")),
        np.int16,
    ),
    "a fourth axis of one": ("a.nii.gz", lambda path, array: save_nifti(path, array[..., None]), np.int16),
    "nrrd": ("a.nrrd", save_nrrd, np.uint16),
    "mha": ("a.mha", save_nrrd, np.float32),
}


@pytest.mark.parametrize("to", ["nnunet", "msd"])
@pytest.mark.parametrize("name", FILES)
def test_every_format_keeps_values_type_and_place_and_itk_sees_image_and_label_in_one_place(tmp_path, name, to):
    file, write, dtype = FILES[name]
    (tmp_path / "set").mkdir()
    write(tmp_path / "set" / file, voxels(dtype))
    save_label(tmp_path / "set")
    original = open_dataset(str(write_case(tmp_path / "set", [file])), tmp_path)
    found = convert_to(tmp_path / "set", tmp_path / "out", to)
    assert_same_cases(found, original)
    image = nibabel.load(found.cases[0].images[0].path)
    assert image.get_data_dtype().newbyteorder("=") == dtype
    assert image.ndim == 3
    seen, label = (SimpleITK.ReadImage(path) for path in (found.cases[0].images[0].path, found.cases[0].label))
    expected = read_images(original.cases[0].images)[0].array
    np.testing.assert_allclose(SimpleITK.GetArrayFromImage(seen), expected, rtol=1e-6)
    for index in ((0, 0, 0), (4, 5, 6), (3, 0, 2)):
        point = (np.diag([-1, -1, 1, 1]) @ affine_of() @ [*index, 1])[:3]
        np.testing.assert_allclose(seen.TransformIndexToPhysicalPoint(index), point, atol=1e-4)
        assert label.TransformIndexToPhysicalPoint(index) == seen.TransformIndexToPhysicalPoint(index)


def test_files_that_need_no_change_are_copied_byte_for_byte(tmp_path):
    for number in range(2):
        save_nifti(tmp_path / f"set/a{number}.nii.gz", voxels(seed=number), scaling=(2, 1))
    save_label(tmp_path / "set", dtype=np.float32)
    original = open_dataset(str(write_case(tmp_path / "set", ["a0.nii.gz", "a1.nii.gz"])), tmp_path).cases[0]
    found = convert_to(tmp_path / "set", tmp_path / "out").cases[0]
    for one, other in zip([*found.images, found], [*original.images, original], strict=True):
        path, source = (getattr(file, "path", None) or file.label for file in (one, other))
        assert Path(path).read_bytes() == Path(source).read_bytes()


def test_a_4d_file_of_all_channels_is_copied_for_msd_and_split_for_nnunet(tmp_path):
    save_nifti(tmp_path / "set/imagesTr/one.nii.gz", voxels(np.uint16, (5, 6, 7, 2)))
    save_label(tmp_path / "set", "labelsTr/one.nii.gz")
    content = {
        "modality": {"0": "T1", "1": "T2"},
        "labels": {"1": "a", "2": "b"},
        "training": [{"image": "./imagesTr/one.nii.gz", "label": "./labelsTr/one.nii.gz"}],
    }
    layouts.write_json(tmp_path / "set/dataset.json", content)
    copied = convert_to(tmp_path / "set", tmp_path / "msd", "msd").cases[0]
    assert Path(copied.images[0].path).read_bytes() == (tmp_path / "set/imagesTr/one.nii.gz").read_bytes()
    for image in convert_to(tmp_path / "set", tmp_path / "nnunet").cases[0].images:
        assert nibabel.load(image.path).shape == (5, 6, 7)
        assert nibabel.load(image.path).get_data_dtype() == np.uint16


def test_black_and_white_pictures_become_bytes(tmp_path):
    (tmp_path / "set").mkdir()
    Image.fromarray(voxels(np.uint8, (6, 7)) > 99).save(tmp_path / "set/a.png")
    Image.fromarray(voxels(np.uint8, (6, 7)) % 3).save(tmp_path / "set/label.png")
    original = open_dataset(str(write_case(tmp_path / "set", ["a.png"], "label.png")), tmp_path)
    found = convert_to(tmp_path / "set", tmp_path / "out")
    assert_same_cases(found, original)
    assert nibabel.load(found.cases[0].images[0].path).get_data_dtype() == np.uint8


def test_an_affine_with_shear_is_kept(tmp_path):
    affine = affine_of()
    affine[0, 2] += 0.4
    save_nifti(tmp_path / "set/a.nii.gz", voxels(), affine=affine, kind=nibabel.Nifti2Image)
    save_label(tmp_path / "set", affine=affine)
    original = open_dataset(str(write_case(tmp_path / "set", ["a.nii.gz"])), tmp_path)
    assert_same_cases(convert_to(tmp_path / "set", tmp_path / "out"), original)


@pytest.mark.parametrize(
    ("dtypes", "scalings", "joined"),
    [
        ((np.int16, np.int16), (None, None), np.int16),
        ((np.int16, np.uint16), (None, None), np.int32),
        ((np.int16, np.float32), (None, None), np.float32),
        ((np.int16, np.int16), ((2, 1), (2, 1)), np.int16),
        ((np.int16, np.int16), ((2, 1), (3, 1)), np.float32),
    ],
)
def test_channels_are_joined_in_a_type_that_holds_them(tmp_path, dtypes, scalings, joined):
    for number, (dtype, scaling) in enumerate(zip(dtypes, scalings, strict=True)):
        save_nifti(tmp_path / f"set/a{number}.nii.gz", voxels(dtype, seed=number), scaling=scaling)
    save_label(tmp_path / "set")
    original = open_dataset(str(write_case(tmp_path / "set", ["a0.nii.gz", "a1.nii.gz"])), tmp_path)
    found = convert_to(tmp_path / "set", tmp_path / "out", "msd")
    assert nibabel.load(found.cases[0].images[0].path).get_data_dtype() == joined
    assert_same_cases(found, original)


@pytest.mark.parametrize("to", ["nnunet", "msd", "manifest"])
def test_a_channel_on_another_grid_is_brought_onto_the_first_with_a_warning(tmp_path, caplog, to):
    save_nifti(tmp_path / "set/a0.nii.gz", voxels())
    other = affine_of() @ np.diag([2, 2, 2, 1.0])
    save_nifti(tmp_path / "set/a1.nii.gz", voxels(shape=(3, 4, 5)), affine=other)
    save_label(tmp_path / "set")
    original = open_dataset(str(write_case(tmp_path / "set", ["a0.nii.gz", "a1.nii.gz"])), tmp_path).cases[0]
    with caplog.at_level(logging.WARNING):
        found = convert_to(tmp_path / "set", tmp_path / "out", to).cases[0]
    assert "a1.nii.gz is on another grid" in caplog.text
    caplog.clear()
    expected = read_case_image(original, order=AxisOrder(is_as_stored=True))
    written = read_images(found.images)
    np.testing.assert_array_equal(np.stack([volume.array for volume in written]), expected.image)
    for volume in (*written, read_segmentation(found.label)):
        np.testing.assert_allclose(volume.affine, affine_of(), atol=1e-5)


def test_files_within_half_a_voxel_of_the_first_get_its_header(tmp_path):
    near = affine_of()
    near[:3, 3] += 0.1
    save_nifti(tmp_path / "set/a0.nii.gz", voxels())
    save_nifti(tmp_path / "set/a1.nii.gz", voxels(seed=4), affine=near)
    save_label(tmp_path / "set", affine=near)
    found = convert_to(write_case(tmp_path / "set", ["a0.nii.gz", "a1.nii.gz"]), tmp_path / "out").cases[0]
    first, *others = (SimpleITK.ReadImage(path) for path in (*(image.path for image in found.images), found.label))
    for other in others:
        assert other.GetOrigin() == first.GetOrigin()
    np.testing.assert_array_equal(read_images(found.images)[1].array, voxels(seed=4).T)


def test_pictures_become_2d_files_of_one_channel_each(tmp_path):
    (tmp_path / "set/images").mkdir(parents=True)
    (tmp_path / "set/labels").mkdir()
    for number in range(2):
        Image.fromarray(voxels(np.uint8, (6, 7, 3), number)).save(tmp_path / f"set/images/{number}.png")
        Image.fromarray((voxels(np.uint8, (6, 7), number) > 99).astype(np.uint8) * 255).save(
            tmp_path / f"set/labels/{number}.png"
        )
    original = open_dataset(str(tmp_path / "set"), tmp_path)
    found = convert_to(tmp_path / "set", tmp_path / "out")
    assert_same_cases(found, original)
    for path in (*(image.path for image in found.cases[0].images), found.cases[0].label):
        assert nibabel.load(path).shape == (7, 6)
        assert nibabel.load(path).get_data_dtype() == np.uint8
    assert_same_dataset(convert_to(tmp_path / "out", tmp_path / "back", "manifest"), original)
