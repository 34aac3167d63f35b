from pathlib import Path

import numpy as np
import pytest
import SimpleITK
from PIL import Image

from tests.sources import layouts
from tumorseg.errors import InputError
from tumorseg.sources.inputs import open_inputs
from tumorseg.sources.pairs import is_pairs, read_pairs
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
    with pytest.raises(InputError, match="found the channels channel_0, channel_1, expected T1"):
        open_inputs([folder], ["T1"])


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
