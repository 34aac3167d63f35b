import gzip
import json
import os
from pathlib import Path

import nibabel
import numpy as np
import pytest

from tests.broken import (
    AFFINE,
    change,
    edit_header,
    files_of,
    id_of,
    move,
    other_qform,
    save,
    write_broken,
    write_sound,
)
from tumorseg.cli.main import run
from tumorseg.errors import InputError, StorageError
from tumorseg.schema.dataset import ImageFile
from tumorseg.schema.findings import FIXABLE
from tumorseg.sources.registry import open_dataset
from tumorseg.stages.datasets.check import CheckRequest, check
from tumorseg.stages.opening.loaded import Roots
from tumorseg.storage.formats.nifti_headers import form_mismatch
from tumorseg.storage.images import read_image, read_segmentation


def checked(place, fix=None):
    return check(CheckRequest(roots=Roots(data_root=Path("nowhere")), dataset=str(place), jobs=1, fix=fix))


def scaled(path, slope=2):
    array = nibabel.load(path).get_fdata() / slope
    image = nibabel.Nifti1Image(array, AFFINE)
    image.header.set_data_dtype(np.int16)
    image.header.set_slope_inter(slope, 0)
    image.to_filename(path)
    assert nibabel.load(path).dataobj.slope == slope


@pytest.fixture
def flawed(tmp_path):
    """Sound cases, but for what can be mended in three labels and two images."""
    folder = write_sound(tmp_path / "Flawed", 6)
    change(files_of(folder, "sound_a").label, lambda a: a.astype(np.float32))
    move(files_of(folder, "sound_b").label, 0.1)
    edit_header(files_of(folder, "sound_b").label, other_qform)
    edit_header(files_of(folder, "sound_c").ct, other_qform)
    edit_header(files_of(folder, "sound_d").t1, other_qform)
    scaled(files_of(folder, "sound_e").label, 0.5)
    (folder / "notes").mkdir()
    (folder / "notes" / "readme.txt").write_text("kept")
    return folder


def test_what_is_mended_is_clean_and_all_else_is_copied_byte_for_byte(flawed, tmp_path):
    done = checked(flawed, tmp_path / "out" / "Mended")
    assert {f.kind for f in done.report.findings} == set(FIXABLE)
    assert set(done.fixed) == {
        "labelsTr/sound_a.nii.gz",
        "labelsTr/sound_b.nii.gz",
        "imagesTr/sound_c_0000.nii.gz",
        "imagesTr/sound_d_0001.nii.gz",
        "labelsTr/sound_e.nii.gz",
    }
    mended = tmp_path / "out" / "Mended"
    assert checked(mended).report.findings == ()
    before = {path.relative_to(flawed): path.read_bytes() for path in flawed.rglob("*") if path.is_file()}
    after = {path.relative_to(mended): path.read_bytes() for path in mended.rglob("*") if path.is_file()}
    assert set(before) == set(after)
    assert {str(path) for path in before if before[path] != after[path]} == set(done.fixed)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["Mended"]


def test_mended_files_hold_the_same_voxels_at_the_same_places(flawed, tmp_path):
    checked(flawed, tmp_path / "Mended")
    for old, new in zip(
        open_dataset(str(flawed), tmp_path).cases, open_dataset(str(tmp_path / "Mended"), tmp_path).cases, strict=True
    ):
        for file, copied in zip(old.images, new.images, strict=True):
            np.testing.assert_array_equal(read_image(file).array, read_image(copied).array)
            np.testing.assert_array_equal(read_image(file).affine, read_image(copied).affine)
        label, image = read_segmentation(new.label), read_image(new.images[0])
        np.testing.assert_array_equal(label.array, read_segmentation(old.label).array)
        np.testing.assert_array_equal(label.affine, image.affine)
        assert form_mismatch(new.label) is None


def test_scaled_labels_become_plain_integers(tmp_path):
    folder = write_sound(tmp_path / "Scaled", 2)
    path = files_of(folder, "sound_a").label
    expected = read_segmentation(str(path)).array
    scaled(path, 0.5)
    done = checked(folder, tmp_path / "Mended")
    assert [f.kind for f in done.report.findings] == ["label_type"]
    copied = tmp_path / "Mended" / "labelsTr" / "sound_a.nii.gz"
    np.testing.assert_array_equal(read_segmentation(str(copied)).array, expected)
    assert nibabel.load(copied).get_data_dtype() == np.uint8
    assert nibabel.load(copied).dataobj.slope == 1


def test_labels_that_storing_rounded_are_told_of_and_become_the_integers_they_were(tmp_path):
    folder = write_sound(tmp_path / "Rounded", 3)
    paths = [files_of(folder, f"sound_{letter}").label for letter in "ab"]
    expected = [read_segmentation(str(path)).array for path in paths]
    image = nibabel.load(paths[0])
    quantised = nibabel.Nifti1Image(image.get_fdata(), image.affine)
    quantised.set_data_dtype(np.uint8)  # nibabel chooses a slope, so that 1 becomes 1.004 or the like
    quantised.to_filename(paths[0])
    assert not np.array_equal(nibabel.load(paths[0]).get_fdata(), image.get_fdata())
    change(paths[1], lambda a: a.astype(np.float32) * np.float32(0.99999994))
    done = checked(folder, tmp_path / "Mended")
    found = {finding.case_ids[0]: finding for finding in done.report.findings if finding.kind == "label_type"}
    assert set(found) == {"sound_a", "sound_b"}
    assert all("away from the integers that they stand for" in finding.message for finding in found.values())
    for path, labels in zip(paths, expected, strict=True):
        copied = tmp_path / "Mended" / "labelsTr" / path.name
        np.testing.assert_array_equal(read_segmentation(str(copied)).array, labels)
        stored = nibabel.load(copied)
        assert (stored.get_data_dtype(), stored.dataobj.slope, stored.dataobj.inter) == (np.uint8, 1, 0)
    assert "label_type" not in {finding.kind for finding in checked(tmp_path / "Mended").report.findings}


@pytest.mark.parametrize(
    ("store", "told"),
    [
        (
            lambda path: change(path, lambda a: np.where(a == 1, np.float32(1.0039216), a).astype(np.float32)),
            "1.0039216 (",
        ),
        (lambda path: scaled(path, 1.5), "found labels stored with a slope of 1.5"),
    ],
)
def test_values_that_no_rounding_explains_are_shown_in_full_and_not_mended(tmp_path, store, told):
    folder = write_sound(tmp_path / "Off", 3)
    path = files_of(folder, "sound_a").label
    store(path)
    done = checked(folder, tmp_path / "Mended")
    (found,) = [finding for finding in done.report.findings if finding.kind == "non_integer_label"]
    assert told in found.message
    assert not done.fixed
    assert (tmp_path / "Mended" / "labelsTr" / path.name).read_bytes() == path.read_bytes()


@pytest.mark.slow
def test_broken_files_stay_as_they_are_and_the_copy_still_shows_them(tmp_path):
    folder = write_broken(tmp_path / "Broken")
    done = checked(folder, tmp_path / "Mended")
    assert set(done.fixed) == {
        f"labelsTr/{id_of('label nearly there')}.nii.gz",
        f"labelsTr/{id_of('label as float')}.nii.gz",
        f"imagesTr/{id_of('two affines')}_0000.nii.gz",
    }
    again = checked(tmp_path / "Mended").report
    kept = [f.kind for f in done.report.findings if f.kind not in FIXABLE]
    assert [f.kind for f in again.findings] == kept


def test_a_sheared_grid_keeps_the_sform_alone(tmp_path):
    folder = write_sound(tmp_path / "Sheared", 2)
    sheared = AFFINE.copy()
    sheared[0, 2] = 1.0
    for path in files_of(folder, "sound_a"):
        array = np.asanyarray(nibabel.load(path).dataobj)
        image = nibabel.Nifti1Image(array.copy(), sheared)
        image.set_qform(AFFINE, code=1)
        nibabel.save(image, path)
    done = checked(folder, tmp_path / "Mended")
    assert len(done.fixed) == 3
    header = nibabel.load(tmp_path / "Mended" / "labelsTr" / "sound_a.nii.gz").header
    assert header["qform_code"] == 0
    np.testing.assert_allclose(header.get_sform(), sheared, atol=1e-6)


def test_a_manifest_takes_along_what_it_names_and_nothing_else(tmp_path):
    folder = write_sound(tmp_path / "Lab", 2)
    change(files_of(folder, "sound_a").label, lambda a: a.astype(np.float64))
    rows = [[f"imagesTr/{i}_0000.nii.gz", f"imagesTr/{i}_0001.nii.gz", f"labelsTr/{i}.nii.gz"] for i in ("sound_a",)]
    named = ",".join(f"label:{name}={value}" for name, value in {"l": 1, "r": 2, "t": 3}.items())
    (folder / "mine.csv").write_text(f"case_id,CT,T1,label,{named}\n" + "\n".join(f"a,{','.join(r)},,," for r in rows))
    done = checked(folder / "mine.csv", tmp_path / "Mended")
    assert set(done.fixed) == {"labelsTr/sound_a.nii.gz"}
    copied = sorted(str(path.relative_to(tmp_path / "Mended")) for path in (tmp_path / "Mended").rglob("*.*"))
    assert copied == [
        "imagesTr/sound_a_0000.nii.gz",
        "imagesTr/sound_a_0001.nii.gz",
        "labelsTr/sound_a.nii.gz",
        "mine.csv",
    ]
    assert checked(tmp_path / "Mended" / "mine.csv").report.counts == {"error": 0, "warning": 0, "note": 0}


def test_a_manifest_of_absolute_paths_is_refused_and_leaves_nothing(tmp_path):
    folder = write_sound(tmp_path / "Lab", 2)
    files = files_of(folder, "sound_a")
    (folder / "mine.csv").write_text(f"case_id,CT,label,label:l=1,label:r=2,label:t=3\na,{files.ct},{files.label},,,\n")
    with pytest.raises(InputError, match="absolute paths"):
        checked(folder / "mine.csv", tmp_path / "Mended")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["Lab"]


def test_files_outside_the_manifests_folder_are_refused(tmp_path):
    files = files_of(write_sound(tmp_path / "Lab", 2), "sound_a")
    (tmp_path / "list").mkdir()
    relative = [os.path.relpath(path, tmp_path / "list") for path in (files.ct, files.label)]
    (tmp_path / "list" / "mine.csv").write_text(f"case_id,CT,label,label:l=1\na,{relative[0]},{relative[1]},\n")
    with pytest.raises(InputError, match="2 files lie outside"):
        checked(tmp_path / "list" / "mine.csv", tmp_path / "Mended")


@pytest.mark.parametrize("where", ["Sound", "Sound/inside", "full"])
def test_no_place_that_is_taken_or_in_the_dataset_is_written_to(tmp_path, where, capfd):
    folder = write_sound(tmp_path / "Sound", 2)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("mine")
    before = sorted(tmp_path.rglob("*"))
    assert run(["-q", "data", "check", "-d", str(folder), "--fix", str(tmp_path / where), "--jobs", "1"]) == 1
    assert "give another" in capfd.readouterr().err
    assert sorted(tmp_path.rglob("*")) == before


def test_an_empty_folder_may_be_given_and_what_was_done_is_told(flawed, tmp_path, capfd):
    (tmp_path / "Mended").mkdir()
    arguments = ["-q", "--json", "data", "check", "-d", str(flawed), "--fix", str(tmp_path / "Mended"), "--jobs", "1"]
    assert run(arguments) == 0
    fixed = json.loads(capfd.readouterr().out)["fixed"]
    assert fixed["labelsTr/sound_b.nii.gz"] == ["header's grid taken from sound_b_0000.nii.gz"]
    assert fixed["imagesTr/sound_c_0000.nii.gz"] == ["qform made what the sform says"]
    assert run(["-q", "data", "check", "-d", str(flawed), "--fix", str(tmp_path / "Again"), "--jobs", "1"]) == 0
    assert f"files mended, all others copied; written to {tmp_path / 'Again'}" in capfd.readouterr().out


def test_a_dataset_that_cannot_be_opened_cannot_be_mended(tmp_path):
    (tmp_path / "Bad").mkdir()
    (tmp_path / "Bad" / "dataset.json").write_text("{")
    with pytest.raises(InputError, match="mend this first"):
        checked(tmp_path / "Bad", tmp_path / "Mended")


def test_a_place_that_cannot_be_written_is_one_line(tmp_path):
    folder = write_sound(tmp_path / "Sound", 2)
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot write"):
        checked(folder, tmp_path / "file" / "Mended")


def test_uncompressed_and_second_version_files_are_mended_in_kind(tmp_path):
    folder = tmp_path / "Plain"
    for number in range(2):
        path = folder / "images" / f"{number}.nii"
        rng = np.random.default_rng(number)
        array = rng.normal(100, 9, (7, 6, 5)).astype(np.float32)
        path.parent.mkdir(parents=True, exist_ok=True)
        image = nibabel.Nifti2Image(array, AFFINE)
        image.set_qform(AFFINE @ np.diag([1, 1, 1.5, 1]), code=1)
        image.header.extensions.append(nibabel.nifti1.Nifti1Extension("comment", b"kept"))
        image.to_filename(path)
        save(folder / "labels" / f"{number}.nii.gz", (array > 110).astype(np.uint8))
    done = checked(folder, tmp_path / "Mended")
    assert set(done.fixed) == {"images/0.nii", "images/1.nii"}
    mended = nibabel.load(tmp_path / "Mended" / "images" / "0.nii")
    assert isinstance(mended, nibabel.Nifti2Image)
    assert [extension.get_content() for extension in mended.header.extensions] == [b"kept"]
    np.testing.assert_allclose(mended.header.get_qform(), AFFINE, atol=1e-6)
    assert (tmp_path / "Mended" / "images" / "0.nii").read_bytes()[:2] != gzip.compress(b"")[:2]


def test_which_of_two_mirrored_affines_is_right_is_not_guessed(tmp_path):
    folder = write_sound(tmp_path / "Mirrored", 2)
    for path in files_of(folder, "sound_a"):
        image = nibabel.load(path)
        array = np.asanyarray(image.dataobj).copy()
        mirrored = AFFINE @ np.diag([-1.0, 1.0, 1.0, 1.0])
        written = nibabel.Nifti1Image(array, AFFINE)
        written.set_qform(mirrored, code=1)
        written.set_sform(AFFINE, code=1)
        nibabel.save(written, path)
    done = checked(folder, tmp_path / "Copy")
    assert "forms_disagree" in {found.kind for found in done.report.findings}
    assert done.fixed == {}


@pytest.mark.parametrize(("field", "value"), [("qoffset_x", np.nan), ("quatern_b", 2.0), ("quatern_c", np.nan)])
def test_a_qform_of_no_numbers_beside_a_sound_sform_is_told_and_mended(tmp_path, field, value):
    folder = write_sound(tmp_path / "Set", 2)
    files = files_of(folder, "sound_a")
    expected = read_image(ImageFile(path=str(files.ct)))

    def damage(header):
        header["qform_code"], header[field] = 1, value

    edit_header(files.ct, damage)
    edit_header(files.label, damage)
    done = checked(folder, tmp_path / "Mended")
    assert {(found.kind, found.severity) for found in done.report.findings} == {("forms_disagree", "warning")}
    assert {found.file for found in done.report.findings} == {str(files.ct), str(files.label)}
    assert all("the qform holds numbers that are no place" in found.message for found in done.report.findings)
    assert set(done.fixed) == {"imagesTr/sound_a_0000.nii.gz", "labelsTr/sound_a.nii.gz"}
    assert checked(tmp_path / "Mended").report.findings == ()
    mended = tmp_path / "Mended" / "imagesTr" / files.ct.name
    image = read_image(ImageFile(path=str(mended)))
    np.testing.assert_array_equal(image.array, expected.array)
    np.testing.assert_array_equal(image.affine, expected.affine)
    np.testing.assert_allclose(nibabel.load(mended).get_qform(), expected.affine, atol=1e-5)


def test_a_label_of_two_cases_is_laid_on_neither(tmp_path):
    folder = write_sound(tmp_path / "Shared", 2)
    first, second = (files_of(folder, case_id) for case_id in ("sound_a", "sound_b"))
    move(first.label, 0.3)
    for path in (second.ct, second.t1):
        move(path, 0.6)
    rows = ["case_id,CT,T1,label"]
    rows += [
        f"{name},{f.ct.relative_to(folder)},{f.t1.relative_to(folder)},{first.label.relative_to(folder)}"
        for name, f in (("a", first), ("b", second))
    ]
    (folder / "manifest.csv").write_text("\n".join(rows))
    done = checked(folder, tmp_path / "Copy")
    assert done.fixed == {}
