"""Datasets of different layouts, channels and label values as one manifest."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.sources import layouts
from tumorseg.cli.main import run
from tumorseg.errors import InputError, TumorsegError
from tumorseg.sources.pooling import pool_datasets
from tumorseg.sources.registry import open_dataset
from tumorseg.stages.datasets.merge import MergeRequest, merge
from tumorseg.stages.datasets.merge_labels import rewrite_labels
from tumorseg.stages.opening.loaded import Roots
from tumorseg.storage.images import read_images, read_segmentation

GLIOMA_IDS = ("BraTS-GLI-00001-000", "BraTS-GLI-00001-001", "BraTS-GLI-00002-000")
DECATHLON = {"0": "background", "1": "edema", "2": "non-enhancing tumor", "3": "enhancing tumour"}


def write_decathlon(folder):
    """Four channels in one 4D file a case; 1, 2 and 3 in another order than BraTS."""
    layouts.write_msd(folder, layouts.IDS, ("FLAIR", "T1w", "t1gd", "T2w"))
    for number, case_id in enumerate(layouts.IDS):
        layouts.save(folder / f"labelsTr/{case_id}.nii.gz", layouts.label(number, (0, 1, 2, 3)))
    return layouts.edit_json(folder, labels=DECATHLON)


def write_whole(folder, name="WT"):
    """Two channels, whole tumour only, ids that others have too."""
    layouts.write_json_manifest(
        folder,
        channels=["T1", "FLAIR"],
        labels={name: 1},
        cases=[
            {
                "case_id": case_id,
                "images": {"T1": f"T1/{case_id}.nii.gz", "FLAIR": f"T2/{case_id}.nii.gz"},
                "label": f"labels/{case_id}.nii.gz",
                "site": "north",
            }
            for case_id in layouts.IDS
        ],
    )
    for number, case_id in enumerate(layouts.IDS):
        layouts.save(folder / f"labels/{case_id}.nii.gz", layouts.label(number, (0, 1)))
    return folder


@pytest.fixture
def data(tmp_path):
    root = tmp_path / "data"
    layouts.write_brats(root / "Brats")
    layouts.write_brats_2023(root / "Later", GLIOMA_IDS)
    write_decathlon(root / "Decathlon")
    write_whole(root / "Whole")
    return root


def merged(data, *names, output=None, **options):
    output = output or data / "pool.json"
    request = MergeRequest(roots=Roots(data_root=data), datasets=names, output=output, jobs=1, **options)
    return merge(request), open_dataset(str(output), data)


def label_of(dataset, case_id):
    case = next(case for case in dataset.cases if case.case_id == case_id)
    return read_segmentation(case.label).array


def test_a_pool_is_a_dataset_of_all_cases_with_what_all_have(data):
    found, pool = merged(data, "Brats", "Later", "Decathlon")
    assert pool.name == "pool"
    assert [channel.name for channel in pool.channels] == ["t1", "t1ce", "t2", "flair"]
    assert [(region.name, region.labels) for region in pool.regions] == [
        ("WT", (1, 2, 4)),
        ("TC", (1, 4)),
        ("ET", (4,)),
    ]
    assert len(pool.cases) == 9
    assert {case.site for case in pool.cases} == {"Brats", "Later", "Decathlon"}
    assert {case.group for case in pool.cases if case.site == "Later"} == {
        "Later-BraTS-GLI-00001",
        "Later-BraTS-GLI-00002",
    }
    assert [one.num_rewritten for one in found.datasets] == [0, 3, 3]


def test_labels_say_the_same_as_before_in_the_pools_numbers(data):
    _, pool = merged(data, "Brats", "Later", "Decathlon")
    for number, case_id in enumerate(layouts.IDS):
        # The files of the first dataset are its own.
        own = data / "Brats" / case_id / f"{case_id}_seg.nii.gz"
        assert next(case.label for case in pool.cases if case.case_id == f"Brats-{case_id}") == str(own)
        decathlon = np.array([0, 2, 1, 4])[layouts.label(number, (0, 1, 2, 3))]
        np.testing.assert_array_equal(label_of(pool, f"Decathlon-{case_id}"), decathlon.T)
    # In BraTS of 2023, 4 is the resection cavity and no tumour.
    later = np.array([0, 1, 2, 4, 0])[layouts.label(0)]
    np.testing.assert_array_equal(label_of(pool, GLIOMA_IDS[0]), later.T)


def test_channels_are_read_from_files_of_several_volumes_and_in_another_order(data):
    _, pool = merged(data, "Whole", "Decathlon", "Brats")
    assert [channel.name for channel in pool.channels] == ["T1", "FLAIR"]
    expected = {"Whole": (0, 1), "Decathlon": (1, 0), "Brats": (0, 3)}
    for name, channels in expected.items():
        case = next(case for case in pool.cases if case.case_id == f"{name}-case_a")
        found = [volume.array.flat[0] for volume in read_images(case.images)]
        assert found == [10 + channel for channel in channels]


def test_of_a_whole_tumour_and_its_parts_the_whole_is_pooled_and_the_rest_told(data):
    found, pool = merged(data, "Brats", "Whole")
    assert pool.labels == {"background": 0, "WT": 1}
    assert pool.regions == ()
    assert [one.labels for one in found.datasets] == [
        {"necrotic core": "WT", "edema": "WT", "enhancing tumour": "WT"},
        {"WT": "WT"},
    ]
    assert [one.num_rewritten for one in found.datasets] == [3, 0]
    assert found.pool.left_out == ("TC, ET of Brats: only as part of WT",)
    np.testing.assert_array_equal(label_of(pool, "Brats-case_b"), (layouts.label(0).T > 0).astype(np.uint8))


def test_the_result_can_be_moved_with_the_data_below_it(data, tmp_path):
    merged(data, "Brats", "Whole")
    data.rename(tmp_path / "elsewhere")
    pool = open_dataset(str(tmp_path / "elsewhere/pool.json"), tmp_path)
    assert all(Path(file.path).is_file() for case in pool.cases for file in case.images)
    assert all(Path(case.label).is_file() for case in pool.cases)


def test_a_second_merge_writes_only_what_changed(data):
    merged(data, "Brats", "Whole")
    folder = data / "pool_labels"
    before = {path.name: path.stat().st_mtime_ns for path in folder.glob("*.nii.gz")}
    text = (data / "pool.json").read_text()
    changed = data / "Brats/case_a/case_a_seg.nii.gz"
    layouts.save(changed, layouts.label(2))
    merged(data, "Brats", "Whole")
    after = {path.name: path.stat().st_mtime_ns for path in folder.glob("*.nii.gz")}
    assert {name for name in after if after[name] != before[name]} == {"Brats-case_a.nii.gz"}
    assert (data / "pool.json").read_text() == text


def test_label_files_that_are_no_longer_needed_are_removed(data):
    merged(data, "Brats", "Whole")
    merged(data, "Whole", "Decathlon")
    assert sorted(path.name for path in (data / "pool_labels").glob("*.nii.gz")) == [
        f"Decathlon-{case_id}.nii.gz" for case_id in sorted(layouts.IDS)
    ]


def test_a_case_that_cannot_be_read_fails_alone(data):
    (data / "Brats/case_a/case_a_seg.nii.gz").write_bytes(b"no image")
    with pytest.raises(TumorsegError, match=r"1 of 6 cases failed") as error:
        merged(data, "Brats", "Whole")
    assert "Brats-case_a" in str(error.value)
    assert len(open_dataset(str(data / "pool.json"), data).cases) == 5


def test_labels_can_be_stated(data, tmp_path):
    write_whole(data / "Other", "label_1")
    file = tmp_path / "labels.json"
    file.write_text(json.dumps({"tumour": {"Whole": "WT", "Other": [1]}}))
    with pytest.raises(InputError, match="no label or region in common"):
        merged(data, "Whole", "Other")
    _, pool = merged(data, "Whole", "Other", labels=file)
    assert pool.labels == {"background": 0, "tumour": 1}


@pytest.mark.parametrize(
    ("names", "output", "message"),
    [
        (("Brats",), "p.json", "expected two or more"),
        (("Brats", "Brats"), "p.json", "given twice"),
        (("Brats", "./Brats"), "p.json", "given twice"),
        (("Brats", "Whole"), "p.csv", r"expected a name that ends in .json"),
        (("Brats", "Whole"), "Whole/manifest.json", "would turn dataset Whole itself into the pool|is no result"),
        (("Brats", "Whole"), "Brats/pool.json", "would turn dataset Brats itself into the pool"),
        (("Brats", "Nowhere"), "p.json", "is not there"),
    ],
)
def test_what_cannot_be_merged_is_refused(data, names, output, message):
    with pytest.raises(InputError, match=message):
        merged(data, *names, output=data / output)


def test_a_file_of_others_is_not_replaced(data):
    (data / "pool.json").write_text("{}")
    with pytest.raises(InputError, match="is no result of `data merge`"):
        merged(data, "Brats", "Whole")
    assert (data / "pool.json").read_text() == "{}"


def test_a_manifest_of_the_user_is_not_replaced_whatever_its_columns(data):
    for cases in ([], [{"case_id": "a", "images": ["a.nii.gz"], "columns": {"dataset": "mine"}}]):
        text = json.dumps({"channels": ["T1"], "cases": cases})
        (data / "pool.json").write_text(text)
        with pytest.raises(InputError, match="is no result of `data merge`"):
            merged(data, "Brats", "Whole")
        assert (data / "pool.json").read_text() == text


def test_a_pool_that_was_edited_is_not_replaced(data):
    merged(data, "Brats", "Whole")
    content = json.loads((data / "pool.json").read_text())
    # Another layout of the same content is no edit.
    (data / "pool.json").write_text(json.dumps(content))
    merged(data, "Brats", "Whole")
    content["cases"].pop()
    (data / "pool.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match="was edited since `data merge` wrote it"):
        merged(data, "Brats", "Whole")
    assert len(open_dataset(str(data / "pool.json"), data).cases) == 5


def test_the_same_files_under_two_names_are_not_pooled_twice(data):
    (data / "Again").symlink_to(data / "Brats")
    with pytest.raises(InputError, match="given twice"):
        merged(data, "Brats", "Again")
    shutil.copy(data / "Whole/manifest.json", data / "Whole/other.json")
    with pytest.raises(InputError, match=r"of Whole and case .* of other are both made of .*and 2 more such cases"):
        merged(data, "Whole", "Whole/other.json")
    merged(data, "Brats", "Whole")
    with pytest.raises(InputError, match="are both made of"):
        merged(data, "pool.json", "Brats", output=data / "both.json")


def test_a_pool_may_be_pooled_again(data):
    merged(data, "Brats", "Whole")
    shutil.move(data / "Later", data / "Third")
    _, pool = merged(data, "pool.json", "Third", output=data / "both.json")
    assert len(pool.cases) == 9
    assert {case.site for case in pool.cases} == {"pool-Brats", "pool-Whole-north", "Third"}
    assert {case.columns["dataset"] for case in pool.cases} == {"pool", "Third"}
    assert {case.columns.get("own_dataset") for case in pool.cases} == {"Brats", "Whole", None}


def test_the_command_says_what_is_pooled_and_what_is_not(data, capsys):
    arguments = ["-d", "Brats", "-d", "Whole", "-o", str(data / "pool.json"), "--jobs", "1"]
    assert run(["--data-root", str(data), "data", "merge", *arguments]) == 0
    shown = capsys.readouterr().out
    assert "pool: 6 cases of 2 datasets" in shown
    assert "channels       t1, flair; not used: t1ce, t2" in shown
    assert "channels       T1 as t1, FLAIR as flair\n" in shown
    assert "necrotic core as WT, edema as WT, enhancing tumour as WT (3 files written anew)" in shown
    assert "TC, ET of Brats: only as part of WT" in shown
    assert run(["--json", "--data-root", str(data), "data", "merge", *arguments]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["labels"] == {"background": 0, "WT": 1}
    assert [one["num_cases"] for one in result["datasets"]] == [3, 3]


def test_nothing_in_common_is_one_line_and_a_failure(data, capsys):
    layouts.write_hecktor(data / "Neck")
    arguments = ["-d", "Brats", "-d", "Neck", "-o", str(data / "pool.json")]
    assert run(["--data-root", str(data), "data", "merge", *arguments]) == 1
    assert "found no channel in common" in capsys.readouterr().err
    assert not (data / "pool.json").exists()


@pytest.mark.real
def test_brats_of_two_years_are_pooled_for_the_whole_tumour(real_data, tmp_path):
    found, pool = merged(real_data, "BraTS2021", "BraTS2018_FLAIR_T1", output=tmp_path / "pool.json")
    assert [channel.name for channel in pool.channels] == ["t1", "flair"]
    assert pool.labels == {"background": 0, "WT": 1}
    assert len(pool.cases) == 10
    assert found.datasets[1].num_rewritten == 0


def test_series_and_named_structures_of_dicom_are_pooled(tmp_path):
    layouts.write_dicom(tmp_path / "First", layouts.IDS[:1])
    # Values follow the sorted names, so that they differ between the two.
    layouts.write_dicom(tmp_path / "Second", layouts.IDS[:1], ("oedema", "aorta", "Necrosis"))
    found, pool = merged(tmp_path, "First", "Second")
    assert [channel.name for channel in pool.channels] == ["CT", "PT"]
    assert pool.labels == {"background": 0, "edema": 1, "necrosis": 3}
    assert found.pool.left_out == (
        "enhancing of First: Second has no such label",
        "aorta of Second: First has no such label",
    )
    case_id = f"Second-{layouts.IDS[0]}"
    mapped = np.array([0, 1, 0, 0, 3])[layouts.label(0).T]
    assert np.isin(label_of(pool, case_id), (0, 1, 3)).all()
    for case in pool.cases:
        assert [volume.array.flat[0] for volume in read_images(case.images)] == [0, 1]
    np.testing.assert_array_equal(np.sort(label_of(pool, case_id), axis=None), np.sort(mapped, axis=None))


def test_an_earlier_manifest_does_not_outlive_the_labels_that_it_names(data):
    merged(data, "Brats", "Whole")
    named = [open_dataset(str(data / name), data) for name in ("Later", "Decathlon")]
    # As far as a run comes that is killed before it writes the new manifest.
    rewrite_labels(pool_datasets("pool", named), data / "pool.json", jobs=1)
    assert not (data / "pool.json").exists()
    assert not list((data / "pool_labels").glob("Brats-*"))


def test_cases_without_a_label_stay_without_one(data):
    (data / "Brats/case_a/case_a_seg.nii.gz").unlink()
    _, pool = merged(data, "Brats", "Whole")
    labels = {case.case_id: case.label is not None for case in pool.cases}
    assert labels.pop("Brats-case_a") is False
    assert all(labels.values())
