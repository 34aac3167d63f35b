from pathlib import Path

import numpy as np
import pytest
import SimpleITK
from PIL import Image

from tests.sources import layouts
from tumorseg.errors import InputError
from tumorseg.sources.inputs import open_inputs
from tumorseg.sources.layouts import find_layout
from tumorseg.sources.pairs import is_pairs, list_pairs, read_pairs
from tumorseg.sources.registry import open_dataset
from tumorseg.storage.images import read_images, read_segmentation

REAL = Path(__file__).parents[2].parent / "shared" / "data"


def test_numbered_files_are_channels_of_a_case(tmp_path):
    for number in range(3):
        layouts.save(tmp_path / "imgs" / f"a_000{number}.nii.gz", layouts.image(0, number))
    layouts.save(tmp_path / "Masks" / "a_mask.nii.gz", layouts.label(0))
    dataset = read_pairs(tmp_path)
    (case,) = dataset.cases
    assert (case.case_id, len(case.images), Path(case.label).name) == ("a", 3, "a_mask.nii.gz")
    assert [channel.name for channel in dataset.channels] == ["channel_0", "channel_1", "channel_2"]


def test_a_folder_of_one_image_and_one_label_is_one_case(tmp_path):
    layouts.save(tmp_path / "liver" / "image.nii.gz", layouts.image(0, 0))
    layouts.save(tmp_path / "liver" / "label.nii.gz", layouts.label(0))
    (case,) = read_pairs(tmp_path / "liver").cases
    assert case.case_id == "liver"


def test_formats_may_be_nrrd_and_pictures(tmp_path):
    (tmp_path / "nrrd").mkdir()
    array = np.arange(60, dtype=np.int16).reshape(3, 4, 5)
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(array), str(tmp_path / "nrrd" / "x_image.nrrd"))
    SimpleITK.WriteImage(
        SimpleITK.GetImageFromArray((array > 9).astype(np.uint8)), str(tmp_path / "nrrd" / "x_label.nrrd")
    )
    (case,) = read_pairs(tmp_path / "nrrd").cases
    assert case.case_id == "x"
    assert np.array_equal(read_images(case.images)[0].array, array)
    for part in ("image", "label"):
        (tmp_path / "png" / part).mkdir(parents=True)
        Image.fromarray((array[0] > 9).astype(np.uint8) * 255).save(tmp_path / "png" / part / "7.png")
    dataset = read_pairs(tmp_path / "png")
    assert dataset.labels == {"background": 0, "label_255": 255}
    assert read_segmentation(dataset.cases[0].label).array.shape == (1, 4, 5)


def test_what_has_no_partner_fails_its_own_case(tmp_path):
    folder = layouts.write_pairs(tmp_path)
    (folder / "labels" / "case_a.nii.gz").unlink()
    (folder / "images" / "case_c.nii.gz").unlink()
    cases = {case.case_id: case for case in read_pairs(folder).cases}
    with pytest.raises(InputError, match=r"labels/case_a\.nii\.gz: no such file"):
        read_segmentation(cases["case_a"].label)
    with pytest.raises(InputError, match=r"images/case_c\.nii\.gz: no such file"):
        read_images(cases["case_c"].images)


def test_cases_of_different_numbers_of_channels_are_refused(tmp_path):
    folder = layouts.write_pairs_beside(tmp_path)
    layouts.save(folder / "case_a.nii.gz", layouts.image(0, 0))
    with pytest.raises(InputError, match=r"case case_a: found channels 0, expected 0, 1 as in other cases"):
        read_pairs(folder)


def test_channels_without_names_are_predicted_on_by_their_order(tmp_path):
    folder = layouts.write_pairs_beside(tmp_path)
    assert len(open_inputs([folder], ["T1", "T2"]).cases) == 3
    layouts.save(folder / "single.nii.gz", layouts.image(0, 0))
    found = open_inputs([folder], ["T1"])
    assert [case.case_id for case in found.cases] == ["single"]
    assert [refused.message[:35] for refused in found.refused] == ["found 2 channel(s), expected 1 (T1)"] * 3


def test_folders_without_both_are_no_pairs(tmp_path):
    layouts.save(tmp_path / "images" / "a.nii.gz", layouts.image(0, 0))
    assert not is_pairs(tmp_path)
    assert not is_pairs(tmp_path / "images")
    assert not is_pairs(tmp_path / "images" / "a.nii.gz")


@pytest.mark.real
@pytest.mark.skipif(not REAL.is_dir(), reason="no real data beside the checkout")
@pytest.mark.parametrize(("name", "count"), [("NRRD", 3), ("PNG_2D_ISBI2012", 30), ("CT_Liver_IRCADb17", 1)])
def test_the_real_folders_are_read(name, count):
    dataset = open_dataset(name, REAL)
    assert len(dataset.cases) == count
    assert len(dataset.labels) >= 2
    case = dataset.cases[0]
    assert read_images(case.images)[0].array.shape == read_segmentation(case.label).array.shape


def test_labels_that_are_known_are_not_looked_for(tmp_path):
    folder = layouts.write_pairs(tmp_path / "set")
    found = open_dataset(str(folder), tmp_path)
    for path in (folder / "labels").iterdir():
        path.write_bytes(b"not looked into")
    assert open_dataset(str(folder), tmp_path, labels=found.labels) == found
    assert set(open_dataset(str(folder), tmp_path).labels) == {"background"}


def test_ids_that_end_in_four_digits_are_ids_where_labels_are_called_so(tmp_path):
    ids = ("pat_2021", "pat_2022")
    found = read_pairs(layouts.write_pairs(tmp_path / "set", ids))
    assert [case.case_id for case in found.cases] == list(ids)
    assert len(found.channels) == 1


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ("images/case_a_0000.nii.gz", "case case_a: found case_a.nii.gz and case_a_0000.nii.gz, expected one"),
        ("labels/case_a_seg.nii.gz", "case case_a: found case_a.nii.gz and case_a_seg.nii.gz, expected one"),
    ],
)
def test_two_files_of_which_one_must_be_meant_are_refused(tmp_path, extra, message):
    folder = layouts.write_pairs(tmp_path / "set")
    layouts.save(folder / extra, layouts.image(0, 0))
    with pytest.raises(InputError, match=message):
        read_pairs(folder)


def test_a_gap_in_the_numbers_of_channels_is_refused(tmp_path):
    folder = tmp_path / "set"
    for case_id, numbers in (("a", (0, 2)), ("b", (0, 1)), ("c", (0, 1))):
        for number in numbers:
            layouts.save(folder / f"images/{case_id}_{number:04}.nii.gz", layouts.image(0, number))
        layouts.save(folder / f"labels/{case_id}.nii.gz", layouts.label(0))
    with pytest.raises(InputError, match="case a: found channels 0, 2, expected 0, 1 as in other cases"):
        read_pairs(folder)


def test_files_without_partner_beside_pairs_are_told(tmp_path, caplog):
    folder = layouts.write_pairs_beside(tmp_path / "set")
    (folder / "case_a_seg.nii.gz").unlink()
    assert [case.case_id for case in read_pairs(folder).cases] == ["case_b", "case_c"]
    assert "case_a.nii.gz: found no partner" in caplog.text


def write_names(folder, *names):
    """Write an image or a label by each name: a label where its name says so."""
    for number, name in enumerate(names):
        is_label = any(word in name.lower() for word in ("label", "seg", "mask", "gt"))
        if name.endswith(".nrrd"):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            array = layouts.label(number) if is_label else layouts.image(number, 0)
            SimpleITK.WriteImage(SimpleITK.GetImageFromArray(array), str(folder / name))
        else:
            layouts.save(folder / name, layouts.label(number) if is_label else layouts.image(number, 0))
    return folder


def found_in(folder):
    """Return id, image and label of every case, relative to the folder."""
    return [
        (case.case_id, Path(case.images[0].path).relative_to(folder).as_posix(), Path(case.label).relative_to(folder).as_posix())
        for case in read_pairs(folder, {"background": 0}).cases
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("image", "label", "case_id"),
    [
        ("images/p0.nrrd", "labels/p0.seg.nrrd", "p0"),
        ("images/p0.nii.gz", "labels/p0.seg.nrrd", "p0"),
        ("images/p0_image.nii.gz", "labels/p0_label.nii.gz", "p0"),
        ("images/p0_IMG.nii.gz", "labels/p0-Mask.nii.gz", "p0"),
        ("images/p0_image.nii.gz", "labels/p0.nii.gz", "p0"),
        ("images/p0.nii.gz", "labels/p0_Segmentation.nii.gz", "p0"),
        ("images/p0_0000.nii.gz", "labels/p0_gt.nii.gz", "p0"),
        ("img/img0001.nii.gz", "label/label0001.nii.gz", "0001"),
        ("images/img_0001.nii.gz", "labels/label_0001.nii.gz", "0001"),
        ("images/img0001_0000.nii.gz", "labels/label0001.nii.gz", "0001"),
        ("scans/scan_1.nii.gz", "masks/scan_1.nii.gz", "scan_1"),
        ("scans/scan_1.nii.gz", "masks/scan_1_mask.nii.gz", "scan_1"),
        ("images/Image-a b.nii.gz", "labels/Label-a b.nii.gz", "a b"),
        ("images/mask_03.nii.gz", "labels/mask_03_seg.nii.gz", "mask_03"),
        ("p0.nrrd", "p0.seg.nrrd", "p0"),
        ("p0_IMAGE.nii.gz", "p0_Label.nii.gz", "p0"),
        ("volume-0.nii", "segmentation-0.nii", "0"),
        ("img0001.nii.gz", "label0001.nii.gz", "0001"),
        ("patient001_frame01.nii.gz", "patient001_frame01_gt.nii.gz", "patient001_frame01"),
        ("mask_03.nii.gz", "mask_03_seg.nii.gz", "mask_03"),
        ("p0.nii.gz", "p0.label.nii.gz", "p0"),
        ("case_00000/imaging.nii.gz", "case_00000/segmentation.nii.gz", "case_00000"),
        ("Patient_01/Patient_01.nii.gz", "Patient_01/GT.nii.gz", "Patient_01"),
        ("p1/p1_frame01.nii.gz", "p1/p1_frame01_gt.nii.gz", "p1_frame01"),
    ],
)
def test_usual_names_pair(tmp_path, image, label, case_id):
    folder = write_names(tmp_path / "set", image, label)
    assert is_pairs(folder)
    assert found_in(folder) == [(case_id, image, label)]


@pytest.mark.parametrize(
    ("names", "ids"),
    [
        (("volume-{}.nii", "segmentation-{}.nii"), ["0", "1", "2"]),
        (("img/img000{}.nii.gz", "label/label000{}.nii.gz"), ["0000", "0001", "0002"]),
        (("case_0000{}/imaging.nii.gz", "case_0000{}/segmentation.nii.gz"), ["case_00000", "case_00001", "case_00002"]),
    ],
)
def test_public_sets_pair_as_they_are(tmp_path, names, ids):
    folder = write_names(tmp_path / "set", *(name.format(number) for number in range(3) for name in names))
    assert [case.case_id for case in read_pairs(folder).cases] == ids
    assert find_layout(folder).read is read_pairs


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("images/p0.nii.gz", "images/p0_image.nii.gz", "labels/p0.nii.gz"), r"case p0: found p0.nii.gz and p0_image.nii.gz"),
        (("images/img1.nii.gz", "images/scan1.nii.gz", "labels/label1.nii.gz"), r"case 1: found img1.nii.gz and scan1.nii.gz"),
        (("images/p0.nii.gz", "labels/p0_seg.nii.gz", "labels/p0_mask.nii.gz"), "case p0: found p0_mask.nii.gz and p0_seg.nii.gz"),
        (("p0.nii", "p0.nii.gz", "p0_seg.nii.gz"), "case p0: found p0.nii and p0.nii.gz, expected one"),
        (("p0.nrrd", "p0.seg.nrrd", "p0_label.nrrd"), "case p0: found p0.seg.nrrd and p0_label.nrrd, expected one"),
        (("c/image.nii.gz", "c/label.nii.gz", "c/mask.nii.gz"), "case c: found label.nii.gz and mask.nii.gz, expected one"),
        (("images/a.nii.gz", "labels/a.nii.gz", "masks/a.nii.gz"), "found labels/ and masks/, expected one folder of them"),
        (("images/a.nii.gz", "scans/a.nii.gz", "labels/a.nii.gz"), "found images/ and scans/, expected one folder of them"),
    ],
)  # fmt: skip
def test_what_may_belong_together_in_several_ways_is_refused_by_name(tmp_path, names, message):
    with pytest.raises(InputError, match=message) as refused:
        read_pairs(write_names(tmp_path / "set", *names))
    assert "\n" not in str(refused.value)


def test_where_nothing_pairs_one_error_names_a_file_of_each_folder(tmp_path):
    names = [f"images/scan_{number}.nii.gz" for number in range(3)] + [
        f"labels/p{number}_seg.nii.gz" for number in range(4)
    ]
    folder = write_names(tmp_path / "set", *names)
    with pytest.raises(InputError) as refused:
        open_dataset(str(folder), tmp_path)
    assert str(refused.value) == (
        f"{folder}: images/ holds 3 files such as scan_0.nii.gz and labels/ holds 4 files such as p0_seg.nii.gz, and no name is like "
        "another; give the image and the label of a case one name, perhaps with _image and _label after it, or write a manifest"
    )
    with pytest.raises(InputError, match="no name is like another"):
        list_pairs(folder)
    for path in (folder / "labels").iterdir():
        path.unlink()
    with pytest.raises(InputError, match=r"images/ holds 3 files such as .* and labels/ holds no image file"):
        read_pairs(folder)
    assert [case.case_id for case in list_pairs(folder).cases] == ["scan_0", "scan_1", "scan_2"]


def test_images_without_a_label_are_there_to_be_predicted_on(tmp_path, caplog):
    folder = write_names(tmp_path / "set", "s0.nii.gz", "s0_mask.nii.gz", "s1.nii.gz", "s2.nii.gz", "other_mask.nii.gz")
    assert [case.case_id for case in open_inputs([folder], ["x"]).cases] == ["s0", "s1", "s2"]
    assert caplog.text.count("found no partner") == 1
    assert "other_mask.nii.gz: found no partner" in caplog.text
    assert [case.case_id for case in read_pairs(folder).cases] == ["s0"]
    kits = write_names(tmp_path / "kits", "c0/imaging.nii.gz", "c0/segmentation.nii.gz", "c1/imaging.nii.gz")
    assert [(case.case_id, case.label is None) for case in list_pairs(kits).cases] == [("c0", False), ("c1", True)]
    assert len(read_pairs(kits).cases) == 1


def test_numbers_of_images_without_a_label_are_ids_unless_a_first_channel_is_there(tmp_path):
    ids = [f"case_000{number}" for number in range(5)]
    beside = write_names(tmp_path / "beside", *(f"{name}.nii.gz" for name in ids), "case_0001_seg.nii.gz")
    assert [(case.case_id, len(case.images)) for case in list_pairs(beside).cases] == [(name, 1) for name in ids]
    labels = [f"labels/{name}.nii.gz" for name in ids[1:3]]
    across = write_names(tmp_path / "across", *(f"images/{name}.nii.gz" for name in ids), *labels)
    assert [(case.case_id, len(case.images)) for case in list_pairs(across).cases] == [(name, 1) for name in ids]
    channels = [f"{name}_000{number}.nii.gz" for name in ("a", "b") for number in range(2)]
    joined = write_names(tmp_path / "joined", *channels, "a_seg.nii.gz")
    assert [(case.case_id, len(case.images)) for case in list_pairs(joined).cases] == [("a", 2), ("b", 2)]


def test_a_folder_above_datasets_is_no_dataset(tmp_path):
    write_names(tmp_path, "liver/a.nii.gz", "liver/a_seg.nii.gz", "spleen/b.nii.gz", "spleen/b_seg.nii.gz")
    assert not is_pairs(tmp_path)
    write_names(tmp_path / "root", "one/image.nii.gz", "one/label.nii.gz", "two/x.nii.gz", "three/x.nii.gz")
    assert not is_pairs(tmp_path / "root")


def test_slicers_segmentations_among_the_images_are_left_out(tmp_path, caplog):
    folder = write_names(tmp_path / "set", "images/p0.nrrd", "images/p0.seg.nrrd", "labels/p0.nrrd")
    assert found_in(folder) == [("p0", "images/p0.nrrd", "labels/p0.nrrd")]
    assert "images/p0.seg.nrrd: found no partner" in caplog.text
