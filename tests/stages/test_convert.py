"""Datasets of every layout as nnU-Net raw folders and back."""

import json
import logging
import resource
import shutil
from pathlib import Path
from typing import NamedTuple

import nibabel
import numpy as np
import pytest
import SimpleITK
from PIL import Image
from scipy.spatial.transform import Rotation

from tests.conftest import REAL
from tests.sources import layouts
from tests.toys import write_toy
from tumorseg.cli.main import run
from tumorseg.errors import InputError, StorageError, TumorsegError
from tumorseg.ops.labels import to_indices
from tumorseg.schema.targets import targets_of
from tumorseg.sources.kept import renumbered
from tumorseg.sources.layouts import find_layout
from tumorseg.sources.registry import open_dataset
from tumorseg.stages.convert import ConvertRequest, convert
from tumorseg.stages.reading import read_case_image
from tumorseg.storage.case_notes import begin_case, read_notes
from tumorseg.storage.images import read_images, read_segmentation
from tumorseg.storage.locks import hold_folder

GLIOMA_IDS = ("BraTS-GLI-00001-000", "BraTS-GLI-00001-001", "BraTS-GLI-00002-000")


def write_nnunet_regions(folder):
    labels = {"background": 0, "whole": [1, 2, 4], "core": [2, 4], "edge": 4, "ignore": 7}
    return layouts.write_nnunet(folder, labels=labels, regions_class_order=[1, 2, 4])


def write_awkward_manifest(folder):
    """A gap, a negative value, an ignore label in between, a label outside the regions, names that nnU-Net keeps for itself."""
    return layouts.write_json_manifest(
        folder,
        name="Awkward set",
        channels=[{"name": "T1", "kind": "ct"}, {"name": "T2", "kind": "rgb"}],
        labels={"clear": 0, "ignore": -3, "unsure": 5, "edema": 9, "core": 300, "stray": 2},
        regions=[
            {"name": "background", "labels": [9, 300], "value": 9},
            {"name": "stray", "labels": [300], "value": 300},
        ],
        ignore_label=5,
    )


class Source(NamedTuple):
    write: object
    arguments: tuple = ()


SOURCES = {
    "msd": Source(layouts.write_msd),
    "msd of one channel": Source(layouts.write_msd, (layouts.IDS, ("CT",))),
    "nnunet": Source(layouts.write_nnunet),
    "nnunet listed": Source(layouts.write_nnunet_listed),
    "nnunet with regions": Source(write_nnunet_regions),
    "brats": Source(layouts.write_brats),
    "brats 2018": Source(layouts.write_brats_2018),
    "brats 2023": Source(layouts.write_brats_2023, (GLIOMA_IDS,)),
    "hecktor": Source(layouts.write_hecktor, (("CHUM-001", "MDA-001", "MDA-002"),)),
    "hecktor 2021": Source(layouts.write_hecktor_2021),
    "pairs": Source(layouts.write_pairs),
    "pairs beside": Source(layouts.write_pairs_beside),
    "csv": Source(layouts.write_csv),
    "json": Source(layouts.write_json_manifest),
    "awkward": Source(write_awkward_manifest),
    "toy": Source(write_toy),
}


def write_source(name, folder):
    """Write a source whose label files hold every value that the dataset knows."""
    source = SOURCES[name]
    source.write(folder, *source.arguments)
    if name != "toy":
        dataset = open_dataset(str(folder), folder)
        values = {0, *dataset.labels.values()} | ({dataset.ignore_label} - {None})
        for number, case in enumerate(dataset.cases):
            layouts.save(Path(case.label), np.resize(np.roll(sorted(values), number).astype(np.int16), layouts.SHAPE))
    return folder


def convert_to(source, output, to="nnunet", jobs=1):
    convert(ConvertRequest(dataset=str(source), output=output, to=to, jobs=jobs))
    return open_dataset(str(output), output)


def assert_same_cases(found, expected):
    """The same ids, groups, sites, intensities, classes and affines."""
    for attribute in ("case_id", "group", "site"):
        assert [getattr(case, attribute) for case in found.cases] == [
            getattr(case, attribute) for case in expected.cases
        ]
    for case, original in zip(found.cases, expected.cases, strict=True):
        for one, other in zip(read_images(case.images), read_images(original.images), strict=True):
            np.testing.assert_array_equal(one.array, other.array)
            np.testing.assert_allclose(one.affine, other.affine, atol=1e-5)
        one, other = read_segmentation(case.label), read_segmentation(original.label)
        np.testing.assert_array_equal(
            to_indices(one.array, targets_of(found)), to_indices(other.array, targets_of(expected))
        )
        np.testing.assert_allclose(one.affine, other.affine, atol=1e-5)


def assert_same_dataset(found, expected):
    assert found.description() == expected.description()
    assert_same_cases(found, expected)
    for case, original in zip(found.cases, expected.cases, strict=True):
        np.testing.assert_array_equal(read_segmentation(case.label).array, read_segmentation(original.label).array)


@pytest.fixture(params=SOURCES)
def folder(request, tmp_path):
    return write_source(request.param, tmp_path / "three cases")


def test_an_nnunet_folder_is_the_same_dataset_but_for_label_values(folder, tmp_path):
    original = open_dataset(str(folder), folder)
    found = convert_to(folder, tmp_path / "Dataset501_Three")
    assert found.description() == renumbered(original.description())
    assert_same_cases(found, original)
    values = sorted({0, *found.labels.values()} | ({found.ignore_label} - {None}))
    assert values == list(range(len(values)))
    if found.ignore_label is not None:
        assert found.ignore_label == values[-1]


@pytest.mark.parametrize("to", ["msd", "manifest"])
def test_the_way_back_restores_everything(folder, tmp_path, to):
    original = open_dataset(str(folder), folder)
    convert_to(folder, tmp_path / "Dataset501_Three")
    assert_same_dataset(convert_to(tmp_path / "Dataset501_Three", tmp_path / "back", to), original)


@pytest.mark.parametrize("to", ["msd", "manifest"])
def test_the_direct_way_and_the_way_to_nnunet_again_restore_everything_too(folder, tmp_path, to):
    original = open_dataset(str(folder), folder)
    assert_same_dataset(convert_to(folder, tmp_path / "direct", to), original)
    found = convert_to(tmp_path / "direct", tmp_path / "Dataset502_Again")
    assert found.description() == renumbered(original.description())
    assert_same_cases(found, original)


def test_only_its_own_layout_claims_what_was_written(folder, tmp_path):
    for to, name in (("nnunet", "nnU-Net"), ("msd", "MSD"), ("manifest", "manifest")):
        convert_to(folder, tmp_path / to, to)
        assert find_layout(tmp_path / to).read.__name__ == f"read_{name.lower().replace('-', '')}"


def test_the_keys_are_those_that_nnunet_takes(tmp_path):
    convert_to(write_source("awkward", tmp_path / "set"), tmp_path / "Dataset501_X")
    content = json.loads((tmp_path / "Dataset501_X/dataset.json").read_text())
    assert content["channel_names"] == {"0": "CT", "1": "rgb_to_0_1"}
    # classes: clear 0, ignore -3 → 1, stray 2 → 2, edema 9 → 3, core 300 → 4, and unsure 5 → 5, which is not trained on
    assert list(content["labels"].items()) == [
        ("background", 0),
        ("ignore_", [1]),
        ("stray", [2]),
        ("background_", [3, 4]),
        ("stray_", [4]),
        ("ignore", 5),
    ]
    assert content["regions_class_order"] == [1, 2, 3, 4]
    assert (content["numTraining"], content["file_ending"]) == (3, ".nii.gz")


# Voxels


def affine_of(shape=(5, 6, 7)):
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
    expected = read_case_image(original, as_stored=True)
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


# What is left to do


def state_of(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def test_a_second_run_does_nothing(tmp_path):
    source = layouts.write_csv(tmp_path / "set")
    for to in ("nnunet", "msd", "manifest"):
        convert_to(source, tmp_path / to, to)
        before = state_of(tmp_path / to)
        convert_to(source, tmp_path / to, to)
        assert state_of(tmp_path / to) == before


def test_only_changed_and_damaged_cases_are_written_again_and_removed_ones_go(tmp_path):
    source, out = layouts.write_pairs(tmp_path / "set"), tmp_path / "out"
    convert_to(source, out)
    before = state_of(out)
    layouts.save(source / "images/case_a.nii.gz", layouts.image(7, 7))
    (out / "labelsTr/case_b.nii.gz").write_bytes(b"spoilt")
    for part in ("images", "labels"):
        (source / part / "case_c.nii.gz").unlink()
        shutil.copy(source / part / "case_b.nii.gz", source / part / "case_d.nii.gz")
    found = convert_to(source, out)
    assert [case.case_id for case in found.cases] == ["case_a", "case_b", "case_d"]
    assert not list(out.rglob("*case_c*"))
    assert read_images(found.cases[0].images)[0].array.max() == 77
    assert_same_cases(found, open_dataset(str(source), source))
    assert state_of(out).keys() - before.keys() == set(out.rglob("*case_d*"))


def test_what_a_killed_run_left_is_finished_or_removed(tmp_path):
    source, out = layouts.write_pairs(tmp_path / "set"), tmp_path / "out"
    convert_to(source, out)
    (out / "dataset.json").unlink()
    begin_case(out, "Tr case_b", ["imagesTr/case_b_0000.nii.gz", "labelsTr/case_b.nii.gz"])
    begin_case(out, "Tr gone", ["imagesTr/gone_0000.nii.gz", "labelsTr/gone.nii.gz"])
    (out / "imagesTr/gone_0000.nii.gz").write_bytes(b"half")
    (out / "imagesTr/.gone_0000.nii.gz.abcd1234").write_bytes(b"temporary")
    untouched = (out / "imagesTr/case_a_0000.nii.gz").stat().st_mtime_ns
    assert len(convert_to(source, out).cases) == 3
    assert not list(out.rglob("*gone*"))
    assert (out / "imagesTr/case_a_0000.nii.gz").stat().st_mtime_ns == untouched


def test_a_damaged_note_is_no_note(tmp_path):
    source, out = layouts.write_pairs(tmp_path / "set"), tmp_path / "out"
    convert_to(source, out)
    (out / ".tumorseg/case Tr case_a.json").write_text("{")
    assert set(read_notes(out)) == {"Tr case_b", "Tr case_c"}
    assert len(convert_to(source, out).cases) == 3


def test_a_file_that_is_gone_is_written_again(tmp_path):
    source, out = layouts.write_pairs(tmp_path / "set"), tmp_path / "out"
    convert_to(source, out)
    (out / "imagesTr/case_b_0000.nii.gz").unlink()
    assert_same_cases(convert_to(source, out), open_dataset(str(source), source))


def test_a_case_that_fails_half_way_leaves_no_file(tmp_path):
    source, out = tmp_path / "set", tmp_path / "out"
    for case_id, noise in (("good", 1), ("bad", 3)):
        layouts.save(source / f"images/{case_id}.nii.gz", np.zeros((50, 50, 50), np.int16))
        label = np.random.default_rng(0).integers(0, noise, (50, 50, 50), np.uint8)
        layouts.save(source / f"labels/{case_id}.nii.gz", label)
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8192, limit[1]))  # the disk is full, but for small files
    try:
        with pytest.raises(TumorsegError, match=r"1 of 2 cases failed[^!]*bad  .*labelsTr/bad\.nii\.gz: cannot write"):
            convert_to(source, out)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert not list(out.rglob("*bad*"))
    assert [case.case_id for case in open_dataset(str(out), out).cases] == ["good"]


@pytest.mark.parametrize("jobs", [1, 2])
def test_bad_cases_fail_alone_and_are_all_told(tmp_path, jobs, capfd):
    source, out = write_toy(tmp_path / "set"), tmp_path / "Dataset501_X"
    shifted = nibabel.load(source / "case_1/seg.nii.gz")
    affine = shifted.affine.copy()
    affine[:3, 3] += 5
    nibabel.save(nibabel.Nifti1Image(np.asanyarray(shifted.dataobj), affine), source / "case_1/seg.nii.gz")
    (source / "case_2/T2.nii.gz").unlink()
    (source / "case_3/T1.nii.gz").write_bytes((source / "case_3/T1.nii.gz").read_bytes()[:-50])
    with pytest.raises(TumorsegError, match="3 of 6 cases failed") as error:
        convert(ConvertRequest(dataset=str(source), output=out, jobs=jobs))
    for told in ("case_1  ", "mm away", "case_2  ", "T2.nii.gz: cannot be read", "case_3  ", "cannot be read as NIfTI"):
        assert told in str(error.value)
    content = json.loads((out / "dataset.json").read_text())
    assert content["numTraining"] == 3
    assert len(list((out / "labelsTr").iterdir())) == 3
    assert len(list((out / "imagesTr").iterdir())) == 6
    shutil.rmtree(source)
    write_toy(source)
    assert len(convert_to(source, out, jobs=jobs).cases) == 6


def test_a_case_that_turned_bad_leaves_and_no_dataset_is_left_of_bad_ones(tmp_path):
    source, out = layouts.write_pairs(tmp_path / "set"), tmp_path / "out"
    convert_to(source, out)
    for case_id in layouts.IDS:
        (source / f"images/{case_id}.nii.gz").write_bytes(b"spoilt")
    with pytest.raises(TumorsegError, match="3 of 3 cases failed"):
        convert_to(source, out)
    assert not (out / "dataset.json").exists()
    assert not list((out / "imagesTr").iterdir())


# Test cases


def test_test_cases_go_to_a_folder_of_their_own_and_back(tmp_path):
    source = layouts.write_nnunet(tmp_path / "set")
    for channel in range(2):
        layouts.save(source / f"imagesTs/case_t_{channel:04d}.nii.gz", layouts.image(8, channel))
        layouts.save(source / f"imagesTs/case_u_{channel:04d}.nii.gz", layouts.image(9, channel))
    layouts.save(source / "labelsTs/case_u.nii.gz", layouts.label(1))
    expected = find_layout(source).list_cases(source).cases
    for to in ("nnunet", "msd"):
        out = tmp_path / to
        assert len(convert_to(source, out, to).cases) == 3
        listed = find_layout(out).list_cases(out).cases
        assert sorted(case.case_id for case in listed) == [case.case_id for case in expected]
        by_id = {case.case_id: case for case in listed}
        assert read_images(by_id["case_t"].images)[1].array.max() == 81
        assert by_id["case_t"].label is None
        assert Path(by_id["case_u"].label).is_file()
    convert_to(tmp_path / "nnunet", tmp_path / "manifest", "manifest")
    tests = open_dataset(str(tmp_path / "manifest/manifest_test.json"), tmp_path)
    assert [case.case_id for case in tests.cases] == ["case_t", "case_u"]
    assert set(np.unique(read_segmentation(tests.cases[1].label).array)) == {0, 1, 2, 4}
    shutil.rmtree(source / "imagesTs")
    shutil.rmtree(source / "labelsTs")
    convert_to(source, tmp_path / "nnunet")
    convert_to(tmp_path / "nnunet", tmp_path / "manifest", "manifest")
    assert not (tmp_path / "manifest/manifest_test.json").exists()


def test_cases_without_label_become_test_cases_with_a_warning(tmp_path, caplog):
    source = layouts.write_json_manifest(tmp_path / "set")
    content = json.loads((source / "manifest.json").read_text())
    del content["cases"][0]["label"]
    layouts.write_json(source / "manifest.json", content)
    with caplog.at_level(logging.WARNING):
        found = convert_to(source, tmp_path / "out")
    assert "1 of 3 cases have no label and become test cases: case_b" in caplog.text
    assert [case.case_id for case in found.cases] == ["case_a", "case_c"]
    assert (tmp_path / "out/imagesTs/case_b_0001.nii.gz").is_file()
    listed = find_layout(tmp_path / "out").list_cases(tmp_path / "out").cases
    assert [case.site for case in listed] == ["there"] * 3


# Refusals and warnings


def test_a_folder_that_holds_something_else_is_refused(tmp_path):
    source, out = layouts.write_pairs(tmp_path / "set"), tmp_path / "out"
    out.mkdir()
    (out / ".DS_Store").touch()
    (out / "thesis.txt").touch()
    with pytest.raises(InputError, match="was not written by this command"):
        convert_to(source, out)
    (out / "thesis.txt").unlink()
    convert_to(source, out)
    with pytest.raises(InputError, match="holds set as nnunet, not set as msd"):
        convert_to(source, out, "msd")
    with pytest.raises(InputError, match="not other as nnunet"):
        convert_to(layouts.write_pairs(tmp_path / "other"), out)


def test_the_dataset_itself_is_never_written_to(tmp_path):
    source = layouts.write_pairs(tmp_path / "set")
    before = state_of(source)
    (tmp_path / "link").symlink_to(source)
    for out in (source, source / "below", tmp_path / "link" / "below"):
        with pytest.raises(InputError, match="lies in the dataset"):
            convert_to(source, out)
    assert state_of(source) == before
    convert_to(source, tmp_path / "out", "manifest")
    before = state_of(tmp_path / "out")
    with pytest.raises(InputError, match="a file of the dataset that is read"):
        convert_to(tmp_path / "out/manifest.json", tmp_path / "out", "manifest")
    assert state_of(tmp_path / "out") == before


def test_one_process_at_a_time_writes_a_folder(tmp_path):
    source = layouts.write_pairs(tmp_path / "set")
    with (
        hold_folder(tmp_path / "out", doing="held", error=StorageError),
        pytest.raises(StorageError, match="is being written by another process"),
    ):
        convert_to(source, tmp_path / "out")


def test_what_may_surprise_nnunet_users_is_said(tmp_path, caplog):
    source = layouts.write_pairs(tmp_path / "set")
    with caplog.at_level(logging.WARNING):
        convert_to(source, tmp_path / "out")
        assert "find a folder only by a name such as Dataset501_set; this one is called out" in caplog.text
        assert "neither kind nor name says what made channel image" in caplog.text
        caplog.clear()
        convert_to(source, tmp_path / "manifest", "manifest")
        convert_to(layouts.write_msd(tmp_path / "msd"), tmp_path / "Dataset501_X")
    assert not caplog.text


@pytest.mark.parametrize("to", ["nnunet", "msd"])
@pytest.mark.parametrize("what", ["labels", "channels"])
def test_a_dataset_json_of_which_one_side_was_edited_is_refused(tmp_path, to, what):
    convert_to(layouts.write_brats(tmp_path / "set"), tmp_path / "out", to)
    content = json.loads((tmp_path / "out/dataset.json").read_text())
    edited = {
        ("nnunet", "labels"): {"labels": {**content["labels"], "ET": [2]}},
        ("msd", "labels"): {"labels": {"0": "background", "1": "core", "2": "edema", "4": "enhancing tumour"}},
        ("nnunet", "channels"): {"channel_names": {"0": "other", "1": "t1ce", "2": "t2", "3": "flair"}},
        ("msd", "channels"): {"modality": {"0": "other", "1": "t1ce", "2": "t2", "3": "flair"}},
    }
    layouts.edit_json(tmp_path / "out", **edited[to, what])
    with pytest.raises(InputError, match=f"found {what} other than `tumorseg` says"):
        open_dataset(str(tmp_path / "out"), tmp_path)


def test_sorted_keys_are_refused_where_their_order_is_that_of_regions(tmp_path):
    convert_to(layouts.write_brats(tmp_path / "set"), tmp_path / "out")
    content = json.loads((tmp_path / "out/dataset.json").read_text())
    (tmp_path / "out/dataset.json").write_text(json.dumps(content, sort_keys=True))
    with pytest.raises(InputError, match="found labels other than"):
        open_dataset(str(tmp_path / "out"), tmp_path)


def test_a_malformed_key_is_refused(tmp_path):
    convert_to(layouts.write_pairs(tmp_path / "set"), tmp_path / "out")
    layouts.edit_json(tmp_path / "out", tumorseg={"name": "set"})
    with pytest.raises(InputError, match=r"tumorseg\.channels: missing"):
        open_dataset(str(tmp_path / "out"), tmp_path)


def test_the_command_tells_what_it_wrote(tmp_path, capsys):
    write_source("toy", tmp_path / "Toy")
    arguments = ["data", "import", "-d", "Toy", "-o", str(tmp_path / "Dataset501_Toy"), "--jobs", "2"]
    assert run(["--data-root", str(tmp_path), *arguments]) == 0
    shown = capsys.readouterr()
    assert "Toy: 6 training and 0 test cases" in shown.out
    assert "label values: shell 2 → 1, core 7 → 2" in shown.out
    assert "import: 6/6" in shown.err
    assert run(["--json", "--data-root", str(tmp_path), *arguments]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["new_values"] == {"shell": [2, 1], "core": [7, 2]}
    assert (result["name"], result["num_training"]) == ("Toy", 6)
    (tmp_path / "Toy/case_1/T1.nii.gz").unlink()
    assert run(["-q", "--data-root", str(tmp_path), *arguments]) == 1
    assert "case_1  " in capsys.readouterr().err
    assert run(["data", "import", "-d", "Toy"]) == 2


# Real data

REAL_SETS = ["BraTS2021", "Dataset051_SarcomaPETCT", "NRRD", "NIfTI_2D_OASIS", "PNG_2D_ISBI2012"]


@pytest.mark.real
@pytest.mark.slow
@pytest.mark.skipif(not REAL.is_dir(), reason=f"no real data in {REAL.name}")
@pytest.mark.parametrize("name", REAL_SETS)
def test_real_sets_go_to_nnunet_and_back(tmp_path, name):
    original = open_dataset(str(REAL / name), REAL)
    found = convert_to(REAL / name, tmp_path / "Dataset501_X", jobs=2)
    assert found.description() == renumbered(original.description())
    assert_same_cases(found, original)
    assert_same_dataset(convert_to(tmp_path / "Dataset501_X", tmp_path / "back", "manifest", jobs=2), original)
