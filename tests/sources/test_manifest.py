from pathlib import Path

import pytest

from tests.sources import layouts
from tumorseg.errors import InputError
from tumorseg.sources.manifest import list_manifest, read_manifest
from tumorseg.sources.registry import open_dataset
from tumorseg.storage.images import read_segmentation

REAL = Path(__file__).parents[2].parent / "shared" / "data"


def write_rows(folder, *lines):
    layouts.write_images(folder, ids=("a",))
    (folder / "manifest.csv").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return folder


def test_csv_columns_give_channels_labels_group_and_site(tmp_path):
    dataset = read_manifest(layouts.write_csv(tmp_path))
    assert [channel.name for channel in dataset.channels] == ["T1", "T2"]
    assert dataset.labels == {"background": 0, "edema": 1, "core": 2, "et": 4}
    assert {(case.group, case.site) for case in dataset.cases} == {("patient", "here")}


def test_without_label_columns_the_values_in_the_files_are_the_labels(tmp_path):
    folder = write_rows(tmp_path, "case_id,T1,label", "a,T1/a.nii.gz,labels/a.nii.gz")
    assert read_manifest(folder).labels == {"background": 0, "label_1": 1, "label_2": 2, "label_4": 4}
    (folder / "labels/a.nii.gz").write_bytes(b"broken")
    assert len(list_manifest(folder).cases) == 1
    (case,) = read_manifest(folder).cases  # fails when it is read, and stops no other
    with pytest.raises(InputError, match="cannot be read as NIfTI"):
        read_segmentation(case.label)


def test_empty_optional_cells_are_none_and_spaces_and_a_byte_order_mark_do_no_harm(tmp_path):
    folder = write_rows(tmp_path, "\ufeffcase_id, T1 ,label,site", " a , T1/a.nii.gz ,,", "")
    (case,) = read_manifest(folder).cases
    assert (case.case_id, case.label, case.group, case.site) == ("a", None, None, None)
    assert read_manifest(folder).labels == {"background": 0}


def test_absolute_paths_are_the_users_own(tmp_path):
    folder = write_rows(tmp_path / "set", "case_id,T1", "a,T1/a.nii.gz")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "list.csv").write_text(f"case_id,T1\na,{folder / 'T1/a.nii.gz'}\nb,../set/T1/a.nii.gz\n")
    dataset = open_dataset(str(elsewhere / "list.csv"), tmp_path)
    assert dataset.name == "elsewhere"
    assert [Path(case.images[0].path).resolve() for case in dataset.cases] == [folder / "T1/a.nii.gz"] * 2


def test_json_names_the_dataset_kinds_regions_and_ignore_label(tmp_path):
    folder = layouts.write_json_manifest(
        tmp_path,
        name="Mine",
        labels={"edema": 1, "core": 2, "et": 4, "unsure": 9},
        regions=[{"name": "all", "labels": [1, 2, 4], "value": 1}],
        ignore_label=9,
    )
    dataset = read_manifest(folder)
    assert dataset.name == "Mine"
    assert [channel.kind for channel in dataset.channels] == [None, "mr"]
    assert dataset.regions[0].labels == (1, 2, 4)
    assert dataset.ignore_label == 9
    assert {case.site for case in dataset.cases} == {"there"}


def test_json_images_may_be_a_list_in_channel_order(tmp_path):
    named = read_manifest(layouts.write_json_manifest(tmp_path))
    cases = [
        {"case_id": i, "images": [f"T1/{i}.nii.gz", f"T2/{i}.nii.gz"], "label": f"labels/{i}.nii.gz", "site": "there"}
        for i in layouts.IDS
    ]
    layouts.edit_json(tmp_path, "manifest.json", cases=cases)
    assert read_manifest(tmp_path) == named


@pytest.mark.parametrize(
    ("images", "found"), [({"T1": "x"}, "T1"), (["x"], "1 paths"), (["x"] * 3, "3 paths"), ({}, "none")]
)
def test_a_wrong_number_of_images_names_what_was_expected(tmp_path, images, found):
    folder = layouts.write_json_manifest(tmp_path)
    layouts.edit_json(folder, "manifest.json", cases=[{"case_id": "a", "images": images}])
    with pytest.raises(InputError, match=f"case a: found the images {found}, expected T1, T2"):
        read_manifest(folder)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ((), "expected `case_id`"),
        (("id,T1", "a,T1/a.nii.gz"), r"found the columns \['id', 'T1'\]"),
        (("case_id,T1,T1", "a,x,x"), "'T1' twice"),
        (("case_id,label", "a,labels/a.nii.gz"), "channels"),
        (("case_id,T1", "a,T1/a.nii.gz,x"), r"case a: row 1: found 3 cells, expected 2"),
        (("case_id,T1,label:x", "a,T1/a.nii.gz,"), "expected label:NAME=INTEGER"),
        (("case_id,T1,label:x=one", "a,T1/a.nii.gz,"), "expected label:NAME=INTEGER"),
        (("case_id,T1,label:x=1", "a,T1/a.nii.gz,1"), "must be empty"),
        (("case_id,T1", "a,"), "case a: found an empty path"),
        (("case_id,T1", "a/b,T1/a.nii.gz"), "case_id"),
        (("case_id,T1", "a,T1/a.nii.gz", "a,T1/a.nii.gz"), "case_id given twice"),
        (("case_id,T1", '"a,T1'), "is not CSV"),
        (("case_id,T1",), "found no case"),
    ],
)
def test_a_malformed_csv_is_one_clear_line(tmp_path, lines, message):
    with pytest.raises(InputError, match=message) as error:
        read_manifest(write_rows(tmp_path, *lines))
    assert "\n" not in str(error.value)


def test_unreadable_manifests_are_input_errors(tmp_path):
    (tmp_path / "manifest.csv").write_bytes(b"case_id,\xff")
    with pytest.raises(InputError, match="not UTF-8"):
        read_manifest(tmp_path)
    with pytest.raises(InputError, match="cannot be read"):
        read_manifest(tmp_path / "none.csv")


def test_two_manifests_in_one_folder_are_refused(tmp_path):
    layouts.write_csv(tmp_path)
    layouts.write_json_manifest(tmp_path)
    with pytest.raises(InputError, match="found both"):
        read_manifest(tmp_path)


@pytest.mark.real
@pytest.mark.skipif(not REAL.is_dir(), reason=f"no real data in {REAL}")
def test_the_real_manifests_are_read():
    oasis, brats = read_manifest(REAL / "NIfTI_2D_OASIS"), read_manifest(REAL / "BraTS2018_FLAIR_T1")
    assert max(oasis.labels.values()) == 2035
    assert oasis.labels["label_2035"] == 2035
    assert brats.labels == {"background": 0, "WT": 1}
    assert brats.cases[0].site == "CBICA"
