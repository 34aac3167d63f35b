"""What is wrong with one item to predict on, or to score, is that case's failure, and no other's."""

import json

import numpy as np
import pytest

from tests.dicoms import write_series
from tests.sources import layouts
from tumorseg.errors import InputError
from tumorseg.schema.dataset import name_fault
from tumorseg.sources.inputs import open_inputs, open_labels
from tumorseg.sources.layouts import find_layout
from tumorseg.sources.registry import open_dataset
from tumorseg.storage.images import read_image, read_segmentation

WRITERS = {
    "msd": (layouts.write_msd, ("FLAIR", "T1w"), "labelsTr/case_a.nii.gz"),
    "nnunet": (layouts.write_nnunet, ("CT", "PET"), "labelsTr/case_a.nii.gz"),
    "nnunet listed": (layouts.write_nnunet_listed, ("CT", "PET"), "labelsTr/case_a.nii.gz"),
    "brats": (layouts.write_brats, layouts.BRATS, "case_a/case_a_seg.nii.gz"),
    "hecktor": (layouts.write_hecktor, ("CT", "PT"), "labelsTr/case_a.nii.gz"),
    "pairs": (layouts.write_pairs, ("image",), "labels/case_a.nii.gz"),
    "pairs beside": (layouts.write_pairs_beside, ("a", "b"), "case_a_seg.nii.gz"),
    "csv": (layouts.write_csv, ("T1", "T2"), None),
}


def write(folder, *names):
    for name in names:
        layouts.save(folder / name, layouts.image(0, 0))
    return folder


def ids(found):
    return [case.case_id for case in found.cases]


def messages(found):
    return {refused.case_id: refused.message for refused in found.refused}


BAD_NAMES = {
    "scan 1 ": "the name ends with a blank; rename the file",
    " scan": "the name begins with a blank; rename the file",
    "x" * 205: "the name has 205 letters, expected at most 200; rename the file",
    "é" * 119: "the name takes 238 bytes, expected at most 230; rename the file",
    "a\\b": r"the name holds / or \; rename the file",
    "a\nb": "the name holds a line break or another control or format character; rename the file",
    "a\u202eb": "the name holds a line break or another control or format character; rename the file",
    "lat\udce9": "the name holds bytes that are no text in UTF-8; rename the file",
}


@pytest.mark.parametrize("name", BAD_NAMES)
@pytest.mark.parametrize("beside", ["fine.nii.gz", "fine_seg.nii.gz"])
def test_a_name_that_is_no_id_fails_alone_in_words(tmp_path, name, beside):
    folder = write(tmp_path, "fine.nii.gz", beside, "moved.nii.gz")
    (folder / "moved.nii.gz").rename(folder / f"{name}.nii.gz")
    found = open_inputs([folder], ["a"])
    assert ids(found) == ["fine"]
    (refused,) = found.refused
    assert refused.message.endswith(BAD_NAMES[name])
    assert (refused.case_id + refused.message).isprintable()
    if beside == "fine.nii.gz":
        labels = open_labels([folder])
        assert (list(labels.files), [one.case_id for one in labels.refused]) == (["fine"], [refused.case_id])
        assert labels.refused[0].message.endswith(BAD_NAMES[name])


@pytest.mark.parametrize(
    ("names", "case_id", "channels"),
    [
        (("x.nii", "x.nii.gz"), "x", ["a"]),
        (("x_0000.nii", "x_0000.nii.gz"), "x", ["a"]),
        (("x_0001.nii", "x_0001.nii.gz", "x_0000.nii"), "x", ["a", "b"]),
        (("x.nii", "x.nii.gz", "fine_mask.nii.gz"), "x", ["a"]),
    ],
)
def test_files_that_differ_by_their_ending_only_fail_alone_by_their_paths(tmp_path, names, case_id, channels):
    fine = [f"fine_{number:04d}.nii.gz" for number in range(len(channels))]
    found = open_inputs([write(tmp_path, *names, *fine)], channels)
    assert ids(found) == ["fine"]
    assert list(messages(found)) == [case_id]
    assert all(str(tmp_path / name) in messages(found)[case_id] for name in names[:2])


def test_what_is_no_file_fails_when_its_case_is_read(tmp_path):
    folder = write(tmp_path / "in", "fine.nii.gz")
    (folder / "empty.nii.gz").touch()
    (folder / "folder.nii.gz").mkdir()
    (folder / "link.nii.gz").symlink_to("nowhere.nii.gz")
    files = [folder / "missing.nii.gz", *folder.iterdir()]
    for given, expected in (([folder], ["empty", "fine", "folder", "link"]), (files, ["missing"])):
        found = open_inputs(given, ["a"])
        assert ids(found) == sorted({"empty", "fine", "folder", "link", *expected})
        labels = open_labels(given)
        assert list(labels.files) == ids(found)
        for case in found.cases:
            if case.case_id != "fine":
                with pytest.raises(InputError):
                    read_image(case.images[0])
                with pytest.raises(InputError):
                    read_segmentation(*labels.files[case.case_id])
    write(folder, "fine_seg.nii.gz")
    assert ids(open_inputs([folder], ["a"])) == ["empty", "fine", "folder", "link"]


@pytest.mark.parametrize(
    ("names", "expected", "left"),
    [
        (("s0.nii.gz", "s0_mask.nii.gz", "s1.nii.gz", "s2.nii.gz"), ["s0", "s1", "s2"], ["s0_mask"]),
        (("s0.nii.gz", "s0_seg.nii.gz", "s0_mask.nii.gz", "s1.nii.gz"), ["s0", "s1"], ["s0_seg", "s0_mask"]),
        (("s0.nii.gz", "s1.nii.gz", "labelsTr/s0.nii.gz"), ["s0", "s1"], []),
        (("images/a.nii.gz", "images/a_mask.nii.gz", "images/b.nii.gz", "labels/a.nii.gz"), ["a", "b"], ["a_mask"]),
        (("images/a.nii.gz", "labels/a.nii.gz", "masks/a.nii.gz", "loose.nii.gz"), ["a", "loose"], []),
        (("images/a.nii.gz", "labels/other.nii.gz", "labels/second.nii.gz"), ["a"], []),
        (
            ("c0/imaging.nii.gz", "c0/segmentation.nii.gz", *(f"c{n}/imaging.nii.gz" for n in (1, 2, 3)), "x.nii.gz"),
            ["c0", "c1", "c2", "c3", "x"],
            ["segmentation"],
        ),
        (("p1/p1_1.nii.gz", "p1/p1_1_gt.nii.gz", "p1/p1_2.nii.gz"), ["p1_1", "p1_2"], ["p1_1_gt"]),
    ],
)
def test_all_images_are_cases_whatever_masks_lie_beside_them(tmp_path, caplog, names, expected, left):
    found = open_inputs([write(tmp_path, *names)], ["a"])
    assert ids(found) == expected
    assert not found.refused
    assert all(f"{name}.nii.gz" in caplog.text for name in left)
    assert "left out" in caplog.text or not left


def test_of_several_images_that_one_may_mean_the_case_alone_is_refused(tmp_path):
    folder = write(tmp_path, "c0/image.nii.gz", "c0/label.nii.gz", "c1/one.nii.gz", "c1/two.nii.gz")
    layouts.save(folder / "wide.nii.gz", np.stack([layouts.image(0, 0)] * 3, axis=-1))
    found = open_inputs([folder], ["a"])
    assert ids(found) == ["c0"]
    assert list(messages(found)) == ["c1", "wide"]
    assert all(str(folder / "c1" / name) in messages(found)["c1"] for name in ("one.nii.gz", "two.nii.gz"))
    assert messages(found)["wide"].startswith("found 3 channel(s), expected 1 (a)")


@pytest.mark.parametrize("harm", ["gone", "damaged", "alone"])
@pytest.mark.parametrize("name", [name for name in WRITERS if name != "csv"])
def test_labels_of_a_dataset_are_not_looked_at_to_predict_and_one_fails_alone_when_scored(tmp_path, name, harm):
    write_layout, channels, label = WRITERS[name]
    folder = write_layout(tmp_path / "set")
    if harm == "damaged":
        (folder / label).write_bytes(b"no image")
    elif harm == "gone":
        (folder / label).unlink()
    elif "labels" in label and name not in (
        "msd",
        "nnunet listed",
    ):  # others find labels by their images, or say where they are
        (folder / label).rename((folder / label).with_name("alone.nii.gz"))
    found = open_inputs([folder], channels)
    assert (ids(found), found.refused) == (sorted(layouts.IDS), ())
    labels = open_labels([folder])
    assert not labels.refused
    assert {"case_b", "case_c"} <= set(labels.files)
    if (folder / label).with_name("alone.nii.gz").is_file():
        assert set(labels.files) == {"alone", "case_b", "case_c"}


@pytest.mark.parametrize("label", ["../x.nii.gz", "/etc/hostname", ""])
def test_a_stated_label_outside_the_folder_refuses_its_case_to_score_and_not_to_predict(tmp_path, label):
    listed = layouts.write_nnunet_listed(tmp_path / "nnunet")
    entries = json.loads((listed / "dataset.json").read_text())["dataset"]
    entries["case_a"]["label"] = label
    layouts.edit_json(listed, dataset=entries)
    msd = layouts.write_msd(tmp_path / "msd")
    pairs = json.loads((msd / "dataset.json").read_text())["training"]
    pairs[1]["label"] = label
    layouts.edit_json(msd, training=pairs)
    for folder, channels in ((listed, ["CT", "PET"]), (msd, ["FLAIR", "T1w"])):
        assert ids(open_inputs([folder], channels)) == sorted(layouts.IDS)
        labels = open_labels([folder])
        assert (list(labels.files), [one.case_id for one in labels.refused]) == (["case_b", "case_c"], ["case_a"])


def test_strays_of_nnunet_fail_alone(tmp_path):
    folder = layouts.write_nnunet(tmp_path / "set")
    write(folder, "imagesTr/stray.nii.gz", "imagesTs/x_0007.nii.gz", "imagesTr/case_c_0000.nii", "labelsTr/old.nii")
    found = open_inputs([folder], ["CT", "PET"])
    assert ids(found) == ["case_a", "case_b"]
    assert list(messages(found)) == ["case_c", "stray", "x"]
    labels = open_labels([folder])
    assert (list(labels.files), [one.case_id for one in labels.refused]) == (["case_a", "case_b", "case_c"], ["old"])


def test_a_decathlon_folder_of_test_cases_alone_can_be_predicted_on(tmp_path):
    folder = layouts.write_msd(tmp_path / "set")
    layouts.edit_json(folder, training=[], test=["./imagesTr/case_a.nii.gz"])
    assert ids(open_inputs([folder], ["FLAIR", "T1w"])) == ["case_a"]


def test_brats_cases_of_two_years_are_predicted_on_but_not_scored_against(tmp_path):
    folder = layouts.write_brats(tmp_path / "set", ["case_a"])
    layouts.write_brats_2023(folder, ["case_b"])
    assert ids(open_inputs([folder], layouts.BRATS)) == ["case_a", "case_b"]
    with pytest.raises(InputError, match="whose label values differ"):
        open_labels([folder])


def test_a_bad_row_of_a_manifest_fails_alone(tmp_path):
    folder = layouts.write_csv(tmp_path)
    text = (folder / "manifest.csv").read_text().rstrip("\n")
    columns = text.splitlines()[0].count(",")
    bad = {
        "short": "short,T1/case_a.nii.gz",
        "bare": "bare" + "," * columns,
        "": ",T1/case_a.nii.gz" + "," * (columns - 1),
    }
    rows = [text, *bad.values(), "," * columns, ""]
    (folder / "manifest.csv").write_text("\n".join(rows))
    found = open_inputs([folder], ["T1", "T2"])
    assert ids(found) == sorted(layouts.IDS)
    assert list(messages(found)) == ["", "bare", "short"]
    assert "row 4: found 2 cells" in messages(found)["short"]
    assert "found an empty path" in messages(found)["bare"]
    assert "the name is empty; mend it" in messages(found)[""]
    with pytest.raises(InputError, match="short"):
        open_dataset(str(folder), tmp_path)


def test_a_bad_entry_of_a_json_manifest_fails_alone(tmp_path):
    folder = layouts.write_json_manifest(tmp_path)
    content = json.loads((folder / "manifest.json").read_text())
    content["cases"] += [
        {"case_id": "bare"},
        {"case_id": "odd", "images": 7},
        "what",
        content["cases"][0] | {"case_id": "x "},
    ]
    content["cases"][0]["label"] = "a\\b.nii.gz"
    (folder / "manifest.json").write_text(json.dumps(content))
    channels = list(find_layout(folder).list_cases(layouts.write_json_manifest(tmp_path / "sound")).channels)
    found = open_inputs([folder], channels)
    assert ids(found) == sorted(layouts.IDS)
    assert list(messages(found)) == ["bare", "entry 6", "odd", "x "]
    assert [one.case_id for one in open_labels([folder]).refused] == ["bare", "case_b", "entry 6", "odd", "x "]


def test_a_study_that_lacks_a_channel_or_has_two_of_it_fails_alone(tmp_path):
    held = (("CT", "PT"), ("CT", "PT"), ("CT",), ("CT", "CT", "PT"))
    for patient, modalities in enumerate(held):
        for place, modality in enumerate(modalities):
            named = {"patient": f"P{patient}", "study": f"1.2.{patient}", "series": f"1.2.{patient}.{place}"}
            array = np.full((2, 4, 5), place, np.int16)
            write_series(tmp_path / f"{patient}{place}", array, kind=modality, **named)
    found = open_inputs([tmp_path], ["CT", "PT"], ["ct", "pet"])
    assert ids(found) == ["P0", "P1"]
    assert list(messages(found)) == ["P2", "P3"]
    with pytest.raises(InputError, match="no one series of CT in each study"):
        open_inputs([tmp_path], ["MR"], ["mr"])


@pytest.mark.parametrize(("layout", "image"), [("brats", "case_a/case_a_flair"), ("hecktor", "imagesTr/case_a__CT")])
def test_a_file_of_a_case_that_lies_there_twice_fails_that_case_alone_by_both_paths(tmp_path, layout, image):
    writer, channels, label = WRITERS[layout]
    folder = writer(tmp_path / "set")
    image = next(path for path in sorted(folder.rglob("*.nii.gz")) if str(path.relative_to(folder)).startswith(image))
    for path in (image, folder / label):
        path.with_suffix("").write_bytes(b"another")
    predicted, scored = open_inputs([folder], channels), open_labels([folder])
    for found, path in ((predicted, image), (scored, folder / label)):
        assert list(messages(found)) == ["case_a"]
        assert str(path) in messages(found)["case_a"]
        assert str(path.with_suffix("")) in messages(found)["case_a"]
    assert "case_b" in ids(predicted)
    assert "case_b" in scored.files


def test_half_a_letter_is_no_part_of_a_name():
    assert name_fault("a\ud800") == "holds bytes that are no text in UTF-8"
