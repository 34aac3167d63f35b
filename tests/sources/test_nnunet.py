import json
import shutil
from pathlib import Path

import pytest

from tests.sources import layouts
from tumorseg.errors import InputError
from tumorseg.sources.nnunet import list_nnunet, read_nnunet
from tumorseg.sources.registry import open_dataset
from tumorseg.storage.images import read_images

REAL = Path(__file__).parents[2].parent / "shared" / "data"


def regions_of(dataset):
    return [(region.name, region.labels, region.value) for region in dataset.regions]


def test_list_values_are_regions_painted_in_class_order(tmp_path):
    labels = {"background": 0, "whole": [1, 2, 3], "core": [2, 3], "enhancing": [3]}
    dataset = read_nnunet(layouts.write_nnunet(tmp_path, labels=labels, regions_class_order=[1, 2, 3]))
    assert dataset.labels == {"background": 0, "label_1": 1, "label_2": 2, "enhancing": 3}
    assert regions_of(dataset) == [("whole", (1, 2, 3), 1), ("core", (2, 3), 2), ("enhancing", (3,), 3)]


def test_an_integer_among_lists_is_a_region_too(tmp_path):
    labels = {"background": [0], "whole": [1, 2], "core": 2, "ignore": 3}
    dataset = read_nnunet(layouts.write_nnunet(tmp_path, labels=labels, regions_class_order=[1, 2]))
    assert dataset.labels == {"background": 0, "label_1": 1, "core": 2, "ignore": 3}
    assert regions_of(dataset) == [("whole", (1, 2), 1), ("core", (2,), 2)]
    assert dataset.ignore_label == 3


def test_without_lists_there_are_no_regions(tmp_path):
    dataset = read_nnunet(layouts.write_nnunet(tmp_path, labels={"tumour": 1, "ignore": 2}))
    assert dataset.labels == {"background": 0, "tumour": 1, "ignore": 2}
    assert (dataset.regions, dataset.ignore_label) == ((), 2)


def test_kinds_are_left_to_planning(tmp_path):
    assert [channel.kind for channel in read_nnunet(layouts.write_nnunet(tmp_path)).channels] == [None, None]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"file_ending": ".dcm"}, r"found `file_ending` '\.dcm', expected \.nii\.gz"),
        ({"channel_names": {"1": "CT"}}, r"`channel_names` numbers \[1\]"),
        ({"labels": {"background": 0, "whole": [1, 2]}}, "found `regions_class_order` None"),
        ({"labels": {"whole": [1, 2]}, "regions_class_order": [1, 2]}, r"found `regions_class_order` \[1, 2\]"),
        ({"labels": {"tumour": 1, "ignore": [2]}}, r"label `ignore` is \[2\]"),
        ({"labels": {"tumour": "one"}}, "labels.tumour"),
        ({"dataset": {"a": {"images": ["/etc/hostname", "x.nii.gz"], "label": "../l.nii.gz"}}}, "2 problems"),
        ({"dataset": {"a": {"images": ["imagesTr/case_a_0000.nii.gz"]}}}, "case a: found 1 images, expected 2"),
        ({"dataset": {"../a": {"images": ["imagesTr/case_a_0000.nii.gz"] * 2}}}, "case '../a': the name holds /"),
    ],
)
def test_a_malformed_description_is_refused(tmp_path, change, message):
    with pytest.raises(InputError, match=message):
        read_nnunet(layouts.write_nnunet(tmp_path, **change))


def test_files_that_do_not_fit_are_all_named(tmp_path):
    folder = layouts.write_nnunet(tmp_path)
    layouts.save(folder / "imagesTr/stray.nii.gz", layouts.image(0, 0))
    layouts.save(folder / "imagesTr/case_a_0002.nii.gz", layouts.image(0, 0))
    layouts.save(folder / "imagesTr/case_b_0000.nii", layouts.image(0, 0))
    layouts.save(folder / "labelsTr/orphan.nii.gz", layouts.label(0))
    with pytest.raises(InputError, match="4 problems") as error:
        read_nnunet(folder)
    for found in (
        r"stray.nii.gz: expected the name",
        "found channels [2]",
        "case_b_0000.nii:",
        "case orphan: found a label",
    ):
        assert found in str(error.value)


def test_links_that_leave_the_folder_are_refused(tmp_path):
    folder = layouts.write_nnunet(tmp_path / "set")
    (folder / "imagesTr/case_a_0000.nii.gz").rename(tmp_path / "outside.nii.gz")
    (folder / "imagesTr/case_a_0000.nii.gz").symlink_to(tmp_path / "outside.nii.gz")
    with pytest.raises(InputError, match="is a link that leaves"):
        read_nnunet(folder)


def test_a_case_without_label_has_none_and_test_cases_are_listed(tmp_path):
    folder = layouts.write_nnunet(tmp_path)
    (folder / "labelsTr/case_a.nii.gz").unlink()
    for channel in range(2):
        layouts.save(folder / f"imagesTs/case_t_{channel:04d}.nii.gz", layouts.image(0, channel))
    assert read_nnunet(folder).cases[0].label is None
    assert [case.case_id for case in list_nnunet(folder).cases] == ["case_a", "case_b", "case_c", "case_t"]


@pytest.mark.real
@pytest.mark.skipif(not REAL.is_dir(), reason=f"no real data in {REAL}")
def test_the_real_sets_are_read():
    acdc, sarcoma = read_nnunet(REAL / "Dataset027_ACDC"), read_nnunet(REAL / "Dataset051_SarcomaPETCT")
    assert (len(acdc.cases), len(sarcoma.cases)) == (26, 6)
    assert [channel.name for channel in sarcoma.channels] == ["CT", "PET", "T1"]


def test_a_folder_of_test_images_alone_is_listed(tmp_path):
    folder = layouts.write_nnunet(tmp_path)
    (folder / "imagesTr").rename(folder / "imagesTs")
    shutil.rmtree(folder / "labelsTr")
    assert len(list_nnunet(folder).cases) == 3
    shutil.rmtree(folder / "imagesTs")
    (folder / "imagesTr").mkdir()
    with pytest.raises(InputError, match="found no case in imagesTr or imagesTs"):
        list_nnunet(folder)


VALUE_TO_NAME = (
    "`labels` are written value to name, as in version 1 of nnU-Net and in the Decathlon; expected name to value"
)


def test_a_dataset_json_of_version_1_is_called_what_it_is(tmp_path):
    labels = {"0": "background", "1": "tumour"}
    folder = layouts.write_nnunet(tmp_path / "both", labels=labels)
    with pytest.raises(InputError, match=VALUE_TO_NAME):
        read_nnunet(folder)
    for number, kept in enumerate((("channel_names",), ("channel_names", "file_ending"))):
        alone = layouts.write_nnunet(tmp_path / str(number), labels=labels, modality={"0": "CT", "1": "PET"})
        content = json.loads((alone / "dataset.json").read_text())
        layouts.write_json(alone / "dataset.json", {key: value for key, value in content.items() if key not in kept})
        with pytest.raises(InputError, match="as in version 1 of nnU-Net"):
            open_dataset(str(alone), tmp_path)
        layouts.edit_json(alone, labels={"background": 0, "tumour": 1})
        with pytest.raises(InputError, match=r"found `modality`, as in version 1 .* expected `channel_names`"):
            open_dataset(str(alone), tmp_path)


def test_a_folder_of_version_1_that_lists_its_cases_is_read(tmp_path):
    folder = layouts.write_nnunet(tmp_path / "Task500", labels={"0": "background", "1": "a", "2": "b", "4": "c"})
    pairs = [{"image": f"./imagesTr/{i}.nii.gz", "label": f"./labelsTr/{i}.nii.gz"} for i in layouts.IDS]
    layouts.edit_json(folder, modality={"0": "CT", "1": "PET"}, training=pairs, test=[])
    dataset = open_dataset(str(folder), tmp_path)
    assert [channel.name for channel in dataset.channels] == ["CT", "PET"]
    assert [Path(file.path).name for file in dataset.cases[0].images] == ["case_a_0000.nii.gz", "case_a_0001.nii.gz"]
    assert [volume.array[0, 0, 0] for volume in read_images(dataset.cases[0].images)] == [10, 11]
    (folder / "imagesTr/case_a_0001.nii.gz").unlink()
    (folder / "imagesTr/case_a_0001.nii.gz").symlink_to("/etc/hostname")
    with pytest.raises(InputError, match=r"'imagesTr/case_a_0001.nii.gz' is a link that leaves"):
        open_dataset(str(folder), tmp_path)


@pytest.mark.parametrize(
    ("ending", "advice"),
    [
        ("nii.gz", "write .nii.gz"),
        (".NII.GZ", "write .nii.gz"),
        ("nrrd", "write .nrrd"),
        (".npy", "convert the images"),
    ],
)
def test_an_ending_without_its_dot_is_to_be_written_with_it(tmp_path, ending, advice):
    with pytest.raises(InputError, match=f"found `file_ending` '{ending}', expected .*; {advice}$"):
        read_nnunet(layouts.write_nnunet(tmp_path, file_ending=ending))


def test_a_label_of_another_ending_is_named_rather_than_missed(tmp_path):
    folder = layouts.write_nnunet(tmp_path)
    (folder / "labelsTr/case_a.nii.gz").rename(folder / "labelsTr/case_a.nii")
    with pytest.raises(
        InputError, match=r"case_a.nii: found another ending than `file_ending` .nii.gz; convert, rename"
    ):
        read_nnunet(folder)


def test_version_2_that_kept_a_key_of_version_1_is_read(tmp_path):
    folder = layouts.write_nnunet(tmp_path / "set", modality={"0": "CT", "1": "PET"}, training=[])
    assert open_dataset(str(folder), tmp_path) == read_nnunet(layouts.edit_json(folder, modality={}))
