from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from tests.sources import layouts
from tumorseg.errors import InputError
from tumorseg.schema.planned_dataset import Selection
from tumorseg.sources.brats import is_brats, read_brats
from tumorseg.sources.dicom import is_dicom, read_dicom
from tumorseg.sources.hecktor import is_hecktor, read_hecktor
from tumorseg.sources.layouts import LAYOUTS, find_layout
from tumorseg.sources.leaving_out import leaving_out
from tumorseg.sources.manifest import is_manifest, read_manifest
from tumorseg.sources.msd import is_msd, read_msd
from tumorseg.sources.nnunet import is_nnunet, read_nnunet
from tumorseg.sources.pairs import is_pairs, read_pairs
from tumorseg.sources.registry import open_dataset
from tumorseg.storage.formats.stored import Geometry
from tumorseg.storage.images import knows_names_only, read_images, read_reference


class Source(NamedTuple):
    write: object
    recognize: object
    read: object
    channels: tuple
    victim: str
    """A file of case_a, without which that case fails."""
    values: tuple = (0, 1, 2, 4)
    """Label values."""
    missing: str = "no such file; expected an image"
    """What is said of a case without the victim."""
    named: str | None = None
    """What is named then; the victim if None."""
    looks_below: bool = False
    """A folder is recognised by what lies anywhere below it, so that one above the dataset is a dataset too."""


SOURCES = {
    "msd": Source(layouts.write_msd, is_msd, read_msd, ("FLAIR", "T1w"), "imagesTr/case_a.nii.gz"),
    "nnunet": Source(layouts.write_nnunet, is_nnunet, read_nnunet, ("CT", "PET"), "imagesTr/case_a_0001.nii.gz"),
    "nnunet listed": Source(
        layouts.write_nnunet_listed, is_nnunet, read_nnunet, ("CT", "PET"), "imagesTr/case_a_0001.nii.gz"
    ),
    "brats": Source(layouts.write_brats, is_brats, read_brats, layouts.BRATS, "case_a/case_a_t2.nii.gz"),
    "brats 2018": Source(layouts.write_brats_2018, is_brats, read_brats, layouts.BRATS, "HGG/case_a/case_a_t2.nii.gz"),
    "brats 2023": Source(
        layouts.write_brats_2023, is_brats, read_brats, layouts.BRATS, "case_a/case_a-t2w.nii.gz", (0, 1, 2, 3, 4)
    ),
    "hecktor": Source(
        layouts.write_hecktor, is_hecktor, read_hecktor, ("CT", "PT"), "imagesTr/case_a__PT.nii.gz", (0, 1, 2)
    ),
    "hecktor 2021": Source(
        layouts.write_hecktor_2021, is_hecktor, read_hecktor, ("CT", "PT"), "hecktor_nii/case_a_pt.nii.gz", (0, 1)
    ),
    "pairs": Source(layouts.write_pairs, is_pairs, read_pairs, ("image",), "images/case_a.nii.gz"),
    "pairs beside": Source(
        layouts.write_pairs_beside, is_pairs, read_pairs, ("channel_0", "channel_1"), "case_a.nii.gz"
    ),
    "dicom": Source(
        layouts.write_dicom,
        is_dicom,
        read_dicom,
        ("CT", "PT"),
        "case_a/pt/3",
        (0, 1, 2, 3),
        "expected 3.1 mm as elsewhere .* slices are missing",
        "case_a/pt",  # which slices there should be, no header says
        looks_below=True,
    ),
    "csv": Source(layouts.write_csv, is_manifest, read_manifest, ("T1", "T2"), "T2/case_a.nii.gz"),
    "json": Source(layouts.write_json_manifest, is_manifest, read_manifest, ("T1", "T2"), "T2/case_a.nii.gz"),
}


@pytest.fixture(params=SOURCES)
def source(request):
    return SOURCES[request.param]


@pytest.fixture
def folder(source, tmp_path):
    return source.write(tmp_path / "three cases")


def test_it_names_dataset_channels_and_labels(source, folder):
    dataset = source.read(folder)
    assert dataset.name == "three cases"
    assert tuple(channel.name for channel in dataset.channels) == source.channels
    assert tuple(dataset.labels.values()) == source.values
    assert "background" in dataset.labels


def test_cases_are_sorted_by_id_and_every_file_exists(source, folder):
    dataset = source.read(folder)
    assert [case.case_id for case in dataset.cases] == sorted(layouts.IDS)
    for case in dataset.cases:
        assert len(case.images) == len(source.channels)
        assert all(Path(file.path, *file.parts[:1]).is_file() for file in case.images)
        assert all(Path(file).is_file() for file in case.label_files)


def test_each_image_is_that_case_and_channel(source, folder):
    dataset = source.read(folder)
    for case in dataset.cases:
        number = layouts.IDS.index(case.case_id)
        volumes = read_images(case.images)
        assert [volume.array[0, 0, 0] for volume in volumes] == [
            10 * number + channel for channel in range(len(source.channels))
        ]
        grid = Geometry(volumes[0].array.shape, volumes[0].affine, 1)
        found, expected = read_reference(case.label_files, grid, dataset.labels).array, layouts.label(number).T
        if knows_names_only(case.label):  # values follow the order of names
            expected = np.where(expected == 4, 3, expected)
        np.testing.assert_array_equal(found, expected)


def test_reading_twice_gives_equal_records(source, folder):
    assert source.read(folder) == source.read(folder)


def test_a_missing_image_fails_its_own_case_only(source, folder):
    if source.write is layouts.write_pairs_beside:
        pytest.skip("a label in the folder of its image is known as one by the image alone")
    (folder / source.victim).unlink()
    cases = {case.case_id: case for case in source.read(folder).cases}
    assert len(cases) == 3
    with pytest.raises(InputError, match=source.missing) as error:
        read_images(cases.pop("case_a").images)
    assert (source.named or Path(source.victim).name) in str(error.value)
    assert "\n" not in str(error.value)
    assert all(len(read_images(case.images)) == len(source.channels) for case in cases.values())


def test_a_case_that_is_left_out_might_as_well_not_be_there(source, folder):
    whole = source.read(folder)
    kept = tuple(case for case in whole.cases if case.case_id != "case_a")
    for path in [path for path in folder.rglob("*case_a*") if path.is_file()]:
        path.write_bytes(b"damaged")
    with leaving_out(Selection(frozenset({"case_a", "case_x"}))) as left:
        assert source.read(folder) == whole.model_copy(update={"cases": kept})
    assert left.found == {"case_a"}
    with leaving_out(Selection(listed=frozenset({"case_x"}))), pytest.raises(InputError, match="all 3 cases are"):
        source.read(folder)


def test_hidden_files_beside_the_images_are_no_cases(source, folder):
    for path in [path for path in folder.rglob("*") if path.is_file()]:
        (path.parent / f"._{path.name}").write_bytes(b"finder")
    assert len(source.read(folder).cases) == 3


def test_the_folder_itself_may_be_a_link(source, folder, tmp_path):
    (tmp_path / "link").symlink_to(folder)
    dataset = source.read(tmp_path / "link")
    assert dataset.name == "link"
    assert len(dataset.cases) == 3


def test_no_other_layout_claims_the_folder(source, folder, tmp_path):
    claims = [layout for layout in LAYOUTS.values() if layout.recognize(folder)]
    assert [layout.read for layout in claims] == [source.read]
    assert find_layout(folder).read is source.read
    (tmp_path / "empty").mkdir()
    above = [] if source.looks_below else [tmp_path]
    for wrong in (tmp_path / "empty", *above, tmp_path / "none", folder / source.victim):
        assert not source.recognize(wrong)


def test_it_opens_by_path_and_by_name_below_the_data_root(source, folder, tmp_path):
    expected = source.read(folder)
    assert open_dataset(str(folder), tmp_path / "nowhere") == expected
    assert open_dataset("three cases", tmp_path) == expected


def test_every_case_is_offered_for_prediction(source, folder):
    listing = find_layout(folder).list_cases(folder)
    assert listing.channels == source.channels
    assert listing.cases == source.read(folder).cases
