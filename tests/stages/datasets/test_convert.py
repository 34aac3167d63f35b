"""Datasets of every layout as nnU-Net raw folders and back."""

import json
import logging
import shutil
import subprocess
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest

from tests.conftest import REAL
from tests.sources import layouts
from tests.stages.conversions import SOURCES, assert_same_cases, assert_same_dataset, convert_to, named, write_source
from tests.toys import write_toy
from tumorseg.cli.main import run
from tumorseg.errors import InputError, StorageError, TumorsegError
from tumorseg.sources.inputs import open_inputs
from tumorseg.sources.kept import renumbered
from tumorseg.sources.layouts import find_layout
from tumorseg.sources.registry import open_dataset
from tumorseg.stages.datasets.convert import ConvertRequest, convert
from tumorseg.storage.case_notes import begin_case, read_notes
from tumorseg.storage.images import read_images, read_segmentation
from tumorseg.storage.locks import hold_folder

LAYOUTS = {"Dataset501_Three": "nnunet", "msd": "msd", "manifest": "manifest"}
"""Folder to layout."""


@pytest.fixture(scope="module", params=SOURCES)
def written(request, tmp_path_factory):
    """A folder with a source, `three cases`, and what it becomes in each layout."""
    folder = tmp_path_factory.mktemp("convert")
    write_source(request.param, folder / "three cases")
    for name, to in LAYOUTS.items():
        convert_to(folder / "three cases", folder / name, to)
    return folder


@pytest.fixture
def original(written):
    return open_dataset(str(written / "three cases"), written / "three cases")


def test_an_nnunet_folder_is_the_same_dataset_but_for_label_values(written, original):
    found = open_dataset(str(written / "Dataset501_Three"), written / "Dataset501_Three")
    assert found.description() == named(renumbered(original.description()), found.name)
    assert_same_cases(found, original)
    values = sorted({0, *found.labels.values()} | ({found.ignore_label} - {None}))
    assert values == list(range(len(values)))
    if found.ignore_label is not None:
        assert found.ignore_label == values[-1]


@pytest.mark.parametrize("to", ["msd", "manifest"])
def test_the_way_back_restores_everything(written, original, tmp_path, to):
    assert_same_dataset(open_dataset(str(written / to), written / to), original)
    assert_same_dataset(convert_to(written / "Dataset501_Three", tmp_path / "back", to), original)


def test_the_way_to_nnunet_over_another_layout_restores_everything_too(written, original, tmp_path, request):
    # In turn, as either holds all of the original.
    to = ("msd", "manifest")[list(SOURCES).index(request.node.callspec.params["written"]) % 2]
    found = convert_to(written / to, tmp_path / "Dataset502_Again")
    assert found.description() == named(renumbered(original.description()), found.name)
    assert_same_cases(found, original)


def test_only_its_own_layout_claims_what_was_written(written):
    for name, to in LAYOUTS.items():
        assert find_layout(written / name).read.__name__ == f"read_{to}"


def test_a_label_that_a_layout_only_allows_for_may_be_in_no_case(tmp_path):
    folder = layouts.write_hecktor(tmp_path / "set", ["case_a"])
    layouts.save(folder / "labelsTr/case_a.nii.gz", layouts.label(0, (0, 1)))
    assert convert_to(folder, tmp_path / "Dataset501_X").optional_labels == ("GTVn",)


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
    assert (out / "labelsTr/case_b.nii.gz.changed").read_bytes() == b"spoilt"
    assert state_of(out).keys() - before.keys() == {*out.rglob("*case_d*"), out / "labelsTr/case_b.nii.gz.changed"}


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
    code = (
        "import resource, sys; from tumorseg.cli.main import run; resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192));"
        f"sys.exit(run(['-q', 'data', 'import', '-d', {str(source)!r}, '-o', {str(out)!r}, '--jobs', '1']))"
    )  # the disk is full, but for small files
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert "1 of 2 cases failed" in ended.stderr
    assert f"bad  {out}/labelsTr/bad.nii.gz: cannot write" in ended.stderr
    assert not list(out.rglob("*bad*"))
    assert [case.case_id for case in open_dataset(str(out), out).cases] == ["good"]


@pytest.mark.parametrize("jobs", [1, pytest.param(2, marks=pytest.mark.slow)])
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


@pytest.mark.parametrize(("to", "document"), [("nnunet", "dataset.json"), ("manifest", "manifest_test.json")])
def test_a_set_of_test_cases_alone_is_one_to_predict_on(tmp_path, to, document):
    source = layouts.write_nnunet(tmp_path / "set")
    shutil.rmtree(source / "labelsTr")
    convert(ConvertRequest(dataset=str(source), output=tmp_path / "out", to=to, jobs=1))
    assert (tmp_path / "out" / document).is_file()
    inputs = open_inputs([tmp_path / "out" / ("" if to == "nnunet" else document)], ["CT", "PET"])
    assert sorted(case.case_id for case in inputs.cases) == sorted(layouts.IDS)


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
    with pytest.raises(InputError, match=r"holds set from .* as nnunet, not set from .* as msd"):
        convert_to(source, out, "msd")
    with pytest.raises(InputError, match=r"not other from .* as nnunet"):
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
    arguments = ["data", "import", "-d", "Toy", "-o", str(tmp_path / "Dataset501_Toy"), "--jobs", "1"]
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
    assert found.description() == named(renumbered(original.description()), found.name)
    assert_same_cases(found, original)
    assert_same_dataset(convert_to(tmp_path / "Dataset501_X", tmp_path / "back", "manifest", jobs=2), original)


def write_two(folder, names):
    """Write DICOM-less pairs under a manifest whose labels have these names."""
    layouts.write_json_manifest(folder, labels=dict(zip(names, (1, 2, 4), strict=True)))
    return folder


def test_new_names_of_labels_write_cases_anew(tmp_path):
    source, out = tmp_path / "set", tmp_path / "out"
    convert_to(write_two(source, ("edema", "core", "et")), out)
    key = read_notes(out)["Tr case_a"].key
    convert_to(write_two(source, ("core", "edema", "et")), out)
    assert read_notes(out)["Tr case_a"].key != key


def test_a_source_that_is_away_costs_nothing_that_was_written(tmp_path):
    source, out = layouts.write_csv(tmp_path / "set"), tmp_path / "out"
    convert_to(source, out)
    before = state_of(out)
    for part in ("T1", "T2", "labels"):
        (source / part).rename(source / f"{part} away")
    with pytest.raises(TumorsegError, match="3 of 3 cases failed"):
        convert_to(source, out)
    assert state_of(out) == before


def test_another_dataset_of_the_same_name_is_refused(tmp_path):
    convert_to(layouts.write_pairs(tmp_path / "a" / "train"), tmp_path / "out")
    with pytest.raises(InputError, match="give another folder, or remove this one"):
        convert_to(layouts.write_pairs(tmp_path / "b" / "train"), tmp_path / "out")
    assert len(open_dataset(str(tmp_path / "out"), tmp_path).cases) == 3


def test_a_note_that_leads_out_of_the_folder_is_no_note(tmp_path):
    source, out = layouts.write_pairs(tmp_path / "set"), tmp_path / "out"
    convert_to(source, out)
    (tmp_path / "victim.txt").write_text("mine")
    evil = {"key": "x", "files": {"../victim.txt": [4, 0]}}
    (out / ".tumorseg" / "case Tr evil.json").write_text(json.dumps(evil))
    convert_to(source, out)
    assert (tmp_path / "victim.txt").read_text() == "mine"


def test_the_present_folder_may_be_written_to(tmp_path, monkeypatch):
    source = layouts.write_pairs(tmp_path / "set")
    (tmp_path / "out").mkdir()
    monkeypatch.chdir(tmp_path / "out")
    assert run(["-q", "data", "import", "-d", str(source), "-o", ".", "--jobs", "1"]) == 0
    assert (tmp_path / "out" / "dataset.json").is_file()
