from pathlib import Path

import pytest

from tests.sources import layouts
from tumorseg.errors import InputError
from tumorseg.sources.brats import is_brats, is_brats_case, list_brats, read_brats
from tumorseg.storage.images import read_geometry, read_images

REAL = Path(__file__).parents[2].parent / "shared" / "data"


def test_channels_are_mr_and_regions_those_of_the_challenge(tmp_path):
    dataset = read_brats(layouts.write_brats(tmp_path))
    assert [channel.kind for channel in dataset.channels] == ["mr"] * 4
    assert [(region.name, region.labels, region.value) for region in dataset.regions] == [
        ("WT", (1, 2, 4), 2),
        ("TC", (1, 4), 1),
        ("ET", (4,), 4),
    ]
    assert dataset.labels == {"background": 0, "necrotic core": 1, "edema": 2, "enhancing tumour": 4}


def test_from_2023_on_enhancing_tumour_is_3_and_channels_bear_the_same_names(tmp_path):
    folder = layouts.write_brats_2023(tmp_path)
    dataset = read_brats(folder)
    assert [channel.name for channel in dataset.channels] == ["t1", "t1ce", "t2", "flair"]
    assert [(region.name, region.labels, region.value) for region in dataset.regions] == [
        ("WT", (1, 2, 3), 2),
        ("TC", (1, 3), 1),
        ("ET", (3,), 3),
    ]
    assert dataset.labels["enhancing tumour"] == 3
    assert dataset.optional_labels == ("resection cavity",)
    assert list_brats(folder / "case_b").cases[0].label == str(folder / "case_b" / "case_b-seg.nii.gz")


def test_cases_of_years_with_other_label_values_are_not_mixed(tmp_path):
    layouts.write_brats(tmp_path, ["case_a"])
    layouts.write_brats_2023(tmp_path, ["case_b"])
    with pytest.raises(
        InputError, match="found files called as in 2018 to 2021 and 2023 and later, whose label values differ"
    ):
        read_brats(tmp_path)


def test_one_case_folder_is_a_case_but_no_dataset(tmp_path):
    folder = layouts.write_brats(tmp_path) / "case_a"
    assert is_brats_case(folder)
    assert not is_brats(folder)
    (case,) = list_brats(folder).cases
    assert case.case_id == "case_a"
    assert Path(case.label).name == "case_a_seg.nii.gz"
    (folder / "case_a_flair.nii.gz").unlink()
    (case,) = list_brats(folder).cases
    with pytest.raises(InputError, match=r"case_a_flair\.nii\.gz: no such file"):
        read_images(case.images)


def test_uncompressed_files_and_cases_without_segmentation_are_read(tmp_path):
    folder = layouts.write_brats(tmp_path)
    (folder / "case_a/case_a_t1.nii.gz").unlink()
    layouts.save(folder / "case_a/case_a_t1.nii", layouts.image(1, 0))
    (folder / "case_a/case_a_seg.nii.gz").unlink()
    case = read_brats(folder).cases[0]
    assert case.images[0].path.endswith("case_a_t1.nii")
    assert case.label is None


def test_folders_without_images_and_loose_files_are_no_cases(tmp_path):
    folder = layouts.write_brats(tmp_path)
    (folder / "logs").mkdir()
    (folder / "survival.csv").write_text("x")
    assert len(read_brats(folder).cases) == 3


def test_a_case_whose_files_bear_another_name_is_told(tmp_path):
    folder = layouts.write_brats(tmp_path)
    (folder / "case_a").rename(folder / "case_x")
    case = read_brats(folder).cases[-1]
    with pytest.raises(InputError, match=r"case_x_t1\.nii\.gz: no such file"):
        read_images(case.images)


def test_case_folders_may_be_links(tmp_path):
    layouts.write_brats(tmp_path / "all")
    (tmp_path / "few").mkdir()
    (tmp_path / "few/case_a").symlink_to(tmp_path / "all/case_a")
    assert [case.case_id for case in read_brats(tmp_path / "few").cases] == ["case_a"]


@pytest.mark.real
@pytest.mark.skipif(not REAL.is_dir(), reason=f"no real data in {REAL}")
def test_the_real_cases_are_read():
    dataset = read_brats(REAL / "BraTS2021")
    assert len(dataset.cases) == 6
    assert read_geometry(dataset.cases[0].images[3].path).shape == (155, 240, 240)
