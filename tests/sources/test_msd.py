from pathlib import Path

import numpy as np
import pytest

from tests.sources import layouts
from tumorseg.errors import InputError
from tumorseg.schema.dataset import ImageFile
from tumorseg.sources.msd import is_msd, list_msd, read_msd
from tumorseg.storage.images import read_images

REAL = Path(__file__).parents[2].parent / "shared" / "data"


def test_channels_of_a_4d_file_have_an_index_and_a_single_one_has_none(tmp_path):
    four = read_msd(layouts.write_msd(tmp_path / "four", modality=("a", "b", "c", "d")))
    assert [file.index for file in four.cases[0].images] == [0, 1, 2, 3]
    one = read_msd(layouts.write_msd(tmp_path / "one", modality=("CT",)))
    assert one.cases[0].images == (ImageFile(path=str(tmp_path / "one/imagesTr/case_a.nii.gz")),)


@pytest.mark.parametrize(
    ("stated", "message"),
    [
        ("../outside.nii.gz", "expected one inside"),
        ("imagesTr/../../outside.nii.gz", "expected one inside"),
        ("/etc/hostname", "expected one inside"),
        ("imagesTr\\case_a.nii.gz", "expected one inside|the name holds /"),
        ("link.nii.gz", "is a link that leaves"),
        ("linked/outside.nii.gz", "is a link that leaves"),
        ("loop.nii.gz", "is a link to itself"),
        ("", "expected one inside"),
    ],
)
@pytest.mark.parametrize("part", ["image", "label"])
def test_nothing_outside_the_folder_is_read(tmp_path, stated, message, part):
    folder = layouts.write_msd(tmp_path / "set")
    layouts.save(tmp_path / "outside.nii.gz", layouts.label(0))
    (folder / "link.nii.gz").symlink_to(tmp_path / "outside.nii.gz")
    (folder / "linked").symlink_to(tmp_path)
    (folder / "loop.nii.gz").symlink_to(folder / "loop.nii.gz")
    pair = {"image": "imagesTr/case_a.nii.gz", "label": "labelsTr/case_a.nii.gz", part: stated}
    layouts.edit_json(folder, training=[pair])
    if part == "image" and stated == "":
        message = "the name is empty|expected one inside"
    with pytest.raises(InputError, match=message):
        read_msd(folder)


def test_a_link_inside_the_folder_is_followed(tmp_path):
    folder = layouts.write_msd(tmp_path / "set")
    (folder / "imagesTr/case_a.nii.gz").rename(folder / "stored.nii.gz")
    (folder / "imagesTr/case_a.nii.gz").symlink_to(folder / "stored.nii.gz")
    assert len(read_msd(folder).cases) == 3


def test_test_cases_are_listed_for_prediction_only(tmp_path):
    folder = layouts.write_msd(tmp_path / "set")
    layouts.save(folder / "imagesTs/case_d.nii.gz", layouts.image(3, 0))
    layouts.edit_json(folder, test=["./imagesTs/case_d.nii.gz"])
    assert len(read_msd(folder).cases) == 3
    found = list_msd(folder).cases[-1]
    assert (found.case_id, found.label) == ("case_d", None)
    layouts.edit_json(folder, test=[{"image": "./imagesTs/none.nii.gz", "label": ""}])
    assert list_msd(folder).cases[-1].images[0].path.endswith("imagesTs/none.nii.gz")  # fails when it is read


def test_a_file_of_more_volumes_than_channels_is_refused_when_it_is_read(tmp_path):
    folder = layouts.write_msd(tmp_path / "set")
    case = read_msd(folder).cases[0]
    volumes = [layouts.image(0, channel) for channel in range(3)]
    layouts.save(folder / "imagesTr" / f"{case.case_id}.nii.gz", np.stack(volumes, axis=-1))
    with pytest.raises(InputError, match=r"found 3 volumes along the last axis, expected 2, one per channel"):
        read_images(case.images)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"modality": {"0": "a", "2": "b"}}, r"numbers its channels \[0, 2\]"),
        ({"modality": {}}, "expected 0, 1"),
        ({"modality": {"0": "a", "1": "a"}}, "channel given twice"),
        ({"labels": {"0": "background", "1": "x", "2": "x"}}, "one name to two values"),
        ({"labels": {"x": "tumour"}}, "labels.x"),
        ({"labels": {"background": 0, "tumour": 1}}, "`labels` are written name to value, as in version 2 of nnU-Net"),
        ({"training": []}, "found no case"),
        (
            {"training": [{"image": "imagesTr/case_a.nii.gz", "label": "labelsTr/case_a.nii.gz"}] * 2},
            "case_id given twice",
        ),
    ],
)
def test_a_malformed_description_is_one_line(tmp_path, change, message):
    folder = layouts.edit_json(layouts.write_msd(tmp_path / "set"), **change)
    with pytest.raises(InputError, match=message) as error:
        read_msd(folder)
    assert "\n" not in str(error.value)


def test_a_background_that_is_not_listed_is_added(tmp_path):
    folder = layouts.edit_json(layouts.write_msd(tmp_path / "set"), labels={"1": "tumour"})
    assert read_msd(folder).labels == {"background": 0, "tumour": 1}


@pytest.mark.parametrize("content", ["{", "[1]"])
def test_a_broken_dataset_json_is_told_rather_than_passed_over(tmp_path, content):
    (tmp_path / "dataset.json").write_text(content)
    with pytest.raises(InputError, match=r"dataset\.json"):
        is_msd(tmp_path)


@pytest.mark.real
@pytest.mark.skipif(not REAL.is_dir(), reason=f"no real data in {REAL}")
def test_the_real_hippocampus_is_read():
    dataset = read_msd(REAL / "Task04_Hippocampus")
    assert len(dataset.cases) == 200
    assert dataset.labels == {"background": 0, "Anterior": 1, "Posterior": 2}
