import pytest

from tests.sources import layouts
from tumorseg.errors import InputError
from tumorseg.sources.registry import REGISTERED, find_registered, list_registered, open_dataset, registered_name


def test_the_ten_tasks_of_the_decathlon_have_names():
    folders = [known.folder for name, known in REGISTERED.items() if name.startswith("MSD_")]
    assert [folder[:6] for folder in folders] == [f"Task{number:02d}" for number in range(1, 11)]


def test_a_registered_folder_bears_the_registered_name_however_it_is_opened(tmp_path, monkeypatch):
    folder = layouts.write_msd(tmp_path / "Task04_Hippocampus")
    monkeypatch.chdir(folder)
    opened = [
        open_dataset("MSD_Hippocampus", tmp_path),
        open_dataset("Task04_Hippocampus", tmp_path),
        open_dataset(str(folder), tmp_path / "none"),
        open_dataset(".", tmp_path / "none"),
    ]
    assert [dataset.name for dataset in opened] == ["MSD_Hippocampus"] * 4


def test_a_registered_name_may_be_the_folders_own(tmp_path):
    layouts.write_msd(tmp_path / "MSD_Spleen")
    layouts.write_brats(tmp_path / "BraTS2021")
    assert open_dataset("MSD_Spleen", tmp_path).name == "MSD_Spleen"
    assert open_dataset("BraTS2021", tmp_path).name == "BraTS2021"


def test_a_missing_registered_dataset_says_where_it_was_looked_for_and_how_to_get_it(tmp_path):
    with pytest.raises(InputError) as error:
        open_dataset("MSD_Hippocampus", tmp_path)
    for part in (str(tmp_path / "Task04_Hippocampus"), "Task04_Hippocampus.tar", "medicaldecathlon.com", "--data-root"):
        assert part in str(error.value)
    assert "\n" not in str(error.value)
    with pytest.raises(InputError, match=r"BraTS 2021 .* synapse\.org"):
        open_dataset("BraTS2021", tmp_path)


@pytest.mark.parametrize(
    ("name", "meant"),
    [("msd_hippocampus", "MSD_Hippocampus"), ("MSD_Hipocampus", "MSD_Hippocampus"), ("my_heds", "My_Heads")],
)
def test_a_misspelt_name_is_answered_with_near_ones(tmp_path, name, meant):
    layouts.write_msd(tmp_path / "My_Heads")
    with pytest.raises(InputError, match=f"did you mean .*{meant}"):
        open_dataset(name, tmp_path)


def test_an_unknown_name_lists_the_registered_ones(tmp_path):
    with pytest.raises(InputError, match="registered names are MSD_Brain, MSD_Heart"):
        open_dataset("qqq", tmp_path / "none")
    with pytest.raises(InputError, match="dataset '' is not there"):
        open_dataset("", tmp_path)


def test_a_folder_of_no_layout_names_every_layout_and_what_it_needs(tmp_path):
    (tmp_path / "odd").mkdir()
    with pytest.raises(InputError, match="found no dataset") as error:
        open_dataset(str(tmp_path / "odd"), tmp_path)
    for part in ("MSD needs", "nnU-Net needs", "BraTS needs", "manifest needs"):
        assert part in str(error.value)


def test_the_registered_name_goes_before_a_manifests_and_that_before_the_folders(tmp_path):
    layouts.write_json_manifest(tmp_path / "a folder", name="Stated")
    layouts.write_json_manifest(tmp_path / "Task09_Spleen", name="Stated")
    assert open_dataset("a folder", tmp_path).name == "Stated"
    assert open_dataset("MSD_Spleen", tmp_path).name == "MSD_Spleen"
    assert open_dataset(str(tmp_path / "Task09_Spleen/manifest.json"), tmp_path).name == "Stated"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_archives_of_the_decathlon_are_those_that_monai_fetches():
    from monai.apps.datasets import DecathlonDataset

    archives = {known.folder: known.archive for known in REGISTERED.values() if known.archive is not None}
    assert {folder: archive.url for folder, archive in archives.items()} == DecathlonDataset.resource
    assert {folder: archive.md5 for folder, archive in archives.items()} == DecathlonDataset.md5


def test_what_is_listed_says_where_it_is_and_whether_it_can_be_fetched(tmp_path):
    layouts.write_msd(tmp_path / "Task02_Heart")
    layouts.write_brats(tmp_path / "BraTS2021", ids=["case_a"])
    layouts.edit_json(layouts.write_msd(tmp_path / "MSD_Spleen"), training=[])
    (tmp_path / "Task10_Colon").mkdir()
    listed = {entry.name: entry for entry in list_registered(tmp_path)}
    assert list(listed) == list(REGISTERED)
    heart, brats, spleen, colon = (listed[name] for name in ("MSD_Heart", "BraTS2021", "MSD_Spleen", "MSD_Colon"))
    assert (heart.path, heart.num_cases, heart.can_fetch) == (tmp_path / "Task02_Heart", 3, True)
    assert (brats.path, brats.num_cases, brats.can_fetch) == (tmp_path / "BraTS2021", 1, False)
    assert (spleen.path, spleen.num_cases) == (tmp_path / "MSD_Spleen", None)
    assert "found no case" in spleen.problem
    assert (colon.path, colon.num_cases, colon.problem) == (None, None, None)
    assert find_registered("MSD_Colon", tmp_path) is None


def test_a_registered_name_is_also_known_by_its_folder():
    assert registered_name("Task04_Hippocampus") == registered_name("MSD_Hippocampus") == "MSD_Hippocampus"


@pytest.mark.parametrize("name", ["msd_heart", "MSD_Hart", "Task02_Hearts"])
def test_a_name_that_is_not_registered_is_answered_with_near_ones(name):
    with pytest.raises(InputError, match=r"did you mean .*MSD_Heart"):
        registered_name(name)


def test_a_name_without_near_ones_lists_them_all():
    with pytest.raises(InputError, match=r"no dataset is registered as 'qqq'; registered names are MSD_Brain, "):
        registered_name("qqq")
