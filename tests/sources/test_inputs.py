import json
import re

import numpy as np
import pytest
import SimpleITK

from tests.sources import layouts
from tumorseg.errors import InputError
from tumorseg.sources.inputs import open_inputs, open_labels


def write_4d(folder, ids=layouts.IDS, num_channels=2):
    for number, case_id in enumerate(ids):
        channels = [layouts.image(number, channel) for channel in range(num_channels)]
        layouts.save(folder / f"{case_id}.nii.gz", np.stack(channels, axis=-1))
    return folder


def write_numbered(folder, ids=layouts.IDS, num_channels=2):
    for number, case_id in enumerate(ids):
        for channel in range(num_channels):
            layouts.save(folder / f"{case_id}_{channel:04d}.nii.gz", layouts.image(number, channel))
    return folder


def write_plain(folder, ids=layouts.IDS):
    for number, case_id in enumerate(ids):
        layouts.save(folder / f"{case_id}.nii.gz", layouts.image(number, 0))
    return folder


def ids_of(inputs):
    assert inputs.refused == ()
    return [case.case_id for case in inputs.cases]


def names_of(case):
    return [(file.path.rpartition("/")[2], file.index) for file in case.images]


def test_a_plain_folder_of_4d_files_gives_a_case_per_file(tmp_path):
    found = open_inputs([write_4d(tmp_path)], ["a", "b"])
    assert ids_of(found) == sorted(layouts.IDS)
    assert names_of(found.cases[0]) == [("case_a.nii.gz", 0), ("case_a.nii.gz", 1)]


def test_a_plain_folder_of_numbered_files_gives_a_case_per_id(tmp_path):
    found = open_inputs([write_numbered(tmp_path)], ["a", "b"])
    assert ids_of(found) == sorted(layouts.IDS)
    assert names_of(found.cases[0]) == [("case_a_0000.nii.gz", None), ("case_a_0001.nii.gz", None)]


def test_a_single_channel_may_be_plain_or_numbered(tmp_path):
    assert ids_of(open_inputs([write_plain(tmp_path / "plain")], ["a"])) == sorted(layouts.IDS)
    numbered = write_numbered(tmp_path / "numbered", num_channels=1)
    assert ids_of(open_inputs([numbered], ["a"])) == sorted(layouts.IDS)


def test_ids_that_end_in_numbers_are_kept_where_files_hold_all_channels(tmp_path):
    folder = write_4d(tmp_path / "4d", ["scan_0000", "scan_0001"])
    assert ids_of(open_inputs([folder], ["a", "b"])) == ["scan_0000", "scan_0001"]


def test_two_numbered_files_are_no_two_cases_of_one_channel(tmp_path):
    found = open_inputs([write_plain(tmp_path, ["scan_0000", "scan_0001", "other"])], ["a"])
    assert [case.case_id for case in found.cases] == ["other"]
    (refused,) = found.refused
    assert refused.case_id == "scan"
    assert refused.message.startswith("found the files _0000, _0001, expected 1 (a)")


def test_files_are_grouped_as_in_a_folder(tmp_path):
    write_numbered(tmp_path, ["x"])
    write_4d(tmp_path, ["y"])
    files = [tmp_path / name for name in ("y.nii.gz", "x_0001.nii.gz", "x_0000.nii.gz", "y.nii.gz")]
    assert ids_of(open_inputs(files, ["a", "b"])) == ["x", "y"]


@pytest.mark.parametrize(
    ("write", "channels", "message"),
    [
        (write_4d, ["a", "b", "c"], r"found 2 channel\(s\), expected 3 \(a, b, c\)"),
        (write_4d, ["a"], r"found 2 channel\(s\), expected 1 \(a\)"),
        (write_plain, ["a", "b"], r"found 1 channel\(s\), expected 2"),
        (write_numbered, ["a", "b", "c"], r"found the files _0000, _0001, expected 3"),
    ],
)
def test_a_wrong_number_of_channels_refuses_every_case(tmp_path, write, channels, message):
    found = open_inputs([write(tmp_path)], channels)
    assert found.cases == ()
    assert sorted(refused.case_id for refused in found.refused) == sorted(layouts.IDS)
    assert all(re.match(message, refused.message) for refused in found.refused)


def test_a_case_of_another_number_of_channels_does_not_stop_the_others(tmp_path):
    write_4d(tmp_path, ["good"])
    write_4d(tmp_path, ["bad"], num_channels=3)
    found = open_inputs([tmp_path], ["a", "b"])
    assert [case.case_id for case in found.cases] == ["good"]
    assert [refused.case_id for refused in found.refused] == ["bad"]


def test_a_damaged_file_does_not_stop_the_others(tmp_path):
    (write_plain(tmp_path / "one") / "case_a.nii.gz").write_bytes(b"broken")
    assert len(ids_of(open_inputs([tmp_path / "one"], ["a"]))) == 3
    (write_4d(tmp_path / "4d") / "case_a.nii.gz").write_bytes(b"broken")
    assert names_of(open_inputs([tmp_path / "4d"], ["a", "b"]).cases[0]) == [("case_a.nii.gz", 0), ("case_a.nii.gz", 1)]
    (write_numbered(tmp_path / "two") / "case_a_0001.nii.gz").write_bytes(b"broken")
    assert len(ids_of(open_inputs([tmp_path / "two"], ["a", "b"]))) == 3


@pytest.mark.parametrize(
    ("write", "channels", "files"),
    [
        (layouts.write_msd, ["t1W", "flair"], [("case_a.nii.gz", 1), ("case_a.nii.gz", 0)]),
        (layouts.write_nnunet, ["pet"], [("case_a_0001.nii.gz", None)]),
        (layouts.write_brats, ["FLAIR", "T1"], [("case_a_flair.nii.gz", None), ("case_a_t1.nii.gz", None)]),
        (layouts.write_brats, ["T2-FLAIR", "T1Gd"], [("case_a_flair.nii.gz", None), ("case_a_t1ce.nii.gz", None)]),
        (layouts.write_csv, ["T2"], [("case_a.nii.gz", None)]),
    ],
)
def test_layouts_are_matched_by_channel_name_in_any_spelling(tmp_path, write, channels, files):
    found = open_inputs([write(tmp_path)], channels)
    assert ids_of(found) == sorted(layouts.IDS)
    assert names_of(found.cases[0]) == files


def test_a_name_that_says_nothing_is_the_models_own_where_cases_are_given_to_it(tmp_path):
    folder = layouts.write_csv(tmp_path)
    text = (folder / "manifest.csv").read_text()
    (folder / "manifest.csv").write_text(text.replace("case_id,T1,T2", "case_id,channel_0,channel_1"))
    assert names_of(open_inputs([folder], ["channel_1"]).cases[0]) == [("case_a.nii.gz", None)]
    with pytest.raises(InputError, match="missing: channel_2"):
        open_inputs([folder], ["channel_2"])


def test_a_channel_that_a_layout_does_not_have_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"found the channels t1, t1ce, t2, flair, expected t1, adc; missing: adc"):
        open_inputs([layouts.write_brats(tmp_path)], ["t1", "adc"])


def test_one_brats_case_folder_is_one_case(tmp_path):
    (case,) = open_inputs([layouts.write_brats(tmp_path) / "case_b"], layouts.BRATS).cases
    assert case.case_id == "case_b"
    assert open_labels([tmp_path / "case_b"]).files == {"case_b": (str(tmp_path / "case_b/case_b_seg.nii.gz"),)}


def test_a_manifest_file_is_read(tmp_path):
    manifest = layouts.write_csv(tmp_path) / "manifest.csv"
    assert ids_of(open_inputs([manifest], ["t1"])) == sorted(layouts.IDS)
    assert list(open_labels([manifest]).files) == sorted(layouts.IDS)


def test_two_files_of_one_id_are_refused_alone_by_their_paths_and_one_that_is_given_twice_is_not(tmp_path):
    folders = [write_plain(tmp_path / "a"), write_plain(tmp_path / "b", ["case_a"])]
    for found in (open_inputs(folders, ["x"]), open_labels(folders)):
        (refused,) = found.refused
        assert refused.case_id == "case_a"
        assert all(f"{folder}/case_a.nii.gz" in refused.message for folder in folders)
    assert [case.case_id for case in open_inputs(folders, ["x"]).cases] == ["case_b", "case_c"]
    assert list(open_labels(folders).files) == ["case_b", "case_c"]
    dataset = layouts.write_csv(tmp_path / "set")
    assert ids_of(open_inputs([dataset, dataset / "manifest.csv"], ["T1"])) == sorted(layouts.IDS)
    assert not open_labels([folders[0], folders[0] / "case_a.nii.gz"]).refused


@pytest.mark.parametrize("opener", [lambda paths: open_inputs(paths, ["a"]), open_labels])
def test_paths_without_images_are_refused(tmp_path, opener):
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(InputError, match="no such file or folder"):
        opener([tmp_path / "none"])
    with pytest.raises(InputError, match="found no dataset"):
        opener([tmp_path / "empty"])
    with pytest.raises(InputError, match="unsupported file"):
        opener([tmp_path / "notes.txt"])


def test_labels_are_found_in_plain_folders_files_and_every_layout(tmp_path):
    plain = write_plain(tmp_path / "plain")
    assert open_labels([plain]).files == {
        case_id: (str(plain / f"{case_id}.nii.gz"),) for case_id in sorted(layouts.IDS)
    }
    assert list(open_labels([plain / "case_b.nii.gz"]).files) == ["case_b"]
    for name in ("msd", "nnunet", "brats", "csv"):
        folder = getattr(layouts, f"write_{name}")(tmp_path / name)
        assert list(open_labels([folder]).files) == sorted(layouts.IDS)


def test_cases_without_labels_cannot_be_scored_against(tmp_path):
    folder = layouts.write_brats(tmp_path, ["case_a"])
    (folder / "case_a/case_a_seg.nii.gz").unlink()
    for path in (folder, folder / "case_a"):
        with pytest.raises(InputError, match="no label among them"):
            open_labels([path])


def test_a_copy_of_dataset_json_beside_predictions_is_no_dataset(tmp_path):
    folder = write_plain(tmp_path)
    description = {"channel_names": {"0": "CT"}, "labels": {"background": 0}, "file_ending": ".nii.gz"}
    for change in ({}, {"dataset": {"case_a": {"images": ["x.nii.gz"], "label": "y.nii.gz"}}}):
        (folder / "dataset.json").write_text(json.dumps(description | change))
        assert list(open_labels([folder]).files) == sorted(layouts.IDS)


def test_ids_of_one_channel_may_end_in_four_digits(tmp_path):
    assert ids_of(open_inputs([write_plain(tmp_path, ["amos_0001", "amos_0002"])], ["a"])) == ["amos_0001", "amos_0002"]
    assert ids_of(open_inputs([tmp_path / "amos_0002.nii.gz"], ["a"])) == ["amos_0002"]


def write_nrrd(folder, *names):
    folder.mkdir(exist_ok=True)
    for name in names:
        array = layouts.label(0) if ".seg." in name else layouts.image(0, 0)
        SimpleITK.WriteImage(SimpleITK.GetImageFromArray(array), str(folder / name))
    return folder


def test_segmentations_of_slicer_are_no_images_to_predict_on(tmp_path, caplog):
    folder = write_nrrd(tmp_path / "in", "p0.nrrd", "p1.nrrd", "elsewhere.seg.nrrd")
    assert ids_of(open_inputs([folder], ["a"])) == ["p0", "p1"]
    assert "elsewhere.seg.nrrd: holds a segmentation, no image, and is left out" in caplog.text
    assert ids_of(open_inputs(sorted(folder.iterdir()), ["a"])) == ["p0", "p1"]
    paired = write_nrrd(tmp_path / "paired", "p0.nrrd", "p0.seg.nrrd", "p1.nrrd")
    assert ids_of(open_inputs([paired], ["a"])) == ["p0", "p1"]
    with pytest.raises(InputError, match="found only segmentations, expected images"):
        open_inputs([folder / "elsewhere.seg.nrrd"], ["a"])
    assert list(open_labels([folder / "elsewhere.seg.nrrd"]).files) == ["elsewhere"]


def test_channels_that_differ_in_letters_only_are_told_apart(tmp_path):
    folder = layouts.write_csv(tmp_path)
    text = (folder / "manifest.csv").read_text()
    (folder / "manifest.csv").write_text(text.replace("case_id,T1,T2", "case_id,T1,t1"))
    for channels in (["T1", "t1"], ["t1", "T1"]):
        case = open_inputs([folder], channels).cases[0]
        assert [file.path.split("/")[-2] for file in case.images] == [
            {"T1": "T1", "t1": "T2"}[name] for name in channels
        ]
