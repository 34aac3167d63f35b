"""Patients' discs with a viewer, and other places where DICOM lies deep among other files."""

import numpy as np
import pytest
from PIL import Image

from tests.dicoms import header, save, write_series
from tumorseg.sources.dicom import read_dicom
from tumorseg.sources.inputs import open_inputs
from tumorseg.sources.layouts import LAYOUTS, find_layout
from tumorseg.sources.registry import open_dataset
from tumorseg.storage.dicom.files import holds_dicom
from tumorseg.storage.images import read_images

VOLUME = np.zeros((4, 6, 7), np.int16)


def values_of(case):
    return [found.array.max() for found in read_images(case.images)]


def write_viewer(folder):
    """Write what a viewer on a patient's disc brings: hundreds of files of all kinds, pictures and files without ending among them."""
    for number in range(120):
        for ending in ("dll", "exe", "html", "jar"):
            path = folder / f"VIEWER/lib{number % 7}/part{number:03d}.{ending}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"MZ" * 200)
    for number in range(40):
        (folder / "VIEWER" / f"NOTICE{number:02d}").write_bytes(b"words " * 40)
    for name in ("AUTORUN.INF", "README", "Start.exe", "manifest.json"):
        (folder / name).write_text('{"name": "viewer", "icons": [], "start_url": "index.html"}')
    for name in ("label.jpg", "background.jpg"):
        Image.fromarray(np.zeros((8, 9), np.uint8)).save(folder / name)
    return folder


@pytest.mark.parametrize("has_directory", [True, False])
@pytest.mark.parametrize(
    "place", ["DICOM/PA0/ST0/SE{series}/IM{{index}}", "ZZ/SE{series}-{{index}}", "0/1.2.840.{series}.{{index}}"]
)
def test_a_patients_disc_with_a_viewer_is_dicom(tmp_path, place, has_directory):
    disc = write_viewer(tmp_path / "disc")
    for series, kind in enumerate(("CT", "PT")):
        write_series(
            disc, VOLUME + 10 * series, kind=kind, name=place.format(series=series), series=f"1.5.{series}", study="1.5"
        )
    if has_directory:
        directory = header("SR")
        directory.file_meta.MediaStorageSOPClassUID = directory.SOPClassUID = "1.2.840.10008.1.3.10"
        save(directory, disc / "DICOMDIR")
    assert find_layout(disc) is LAYOUTS["DICOM"]
    (case,) = open_dataset(str(disc), tmp_path).cases
    assert values_of(case) == [0, 10]
    (case,) = open_inputs([disc], ["CT"], ["ct"]).cases
    assert values_of(case) == [0]


def test_slices_among_a_viewers_files_in_one_folder_are_found(tmp_path):
    disc = write_viewer(tmp_path / "disc")
    write_series(disc / "VIEWER", VOLUME + 3, name="zz{index}.dcm")
    write_series(disc / "VIEWER" / "lib3", VOLUME + 3, name="I{index}", series="1.2.1.2", study="1.2.2", patient="P2")
    assert holds_dicom(disc / "VIEWER" / "lib3", ())
    assert [case.case_id for case in read_dicom(disc).cases] == ["P1", "P2"]


@pytest.mark.parametrize(("other", "name"), [("AA{:02d}", "IM0000"), ("aa{:03d}.dat", "IM0000.CT")])
def test_dicom_behind_many_other_files_of_its_folder_is_found(tmp_path, other, name):
    for number in range(20):
        (tmp_path / other.format(number)).write_bytes(b"words " * 40)
    assert not holds_dicom(tmp_path, ())
    save(header("CT"), tmp_path / name)
    assert holds_dicom(tmp_path, ())


def test_the_search_for_dicom_ends_in_a_large_tree_of_other_files(tmp_path):
    for number in range(2100):
        (tmp_path / f"{number:05d}").mkdir()
    save(header("CT"), tmp_path / "02099" / "a.dcm")
    assert not holds_dicom(tmp_path, ())
    assert holds_dicom(tmp_path / "02099", ())
    save(header("CT"), tmp_path / "00005" / "deep" / "er" / "a.dcm")
    assert not holds_dicom(tmp_path, ())  # what is further up is looked at first
    save(header("CT"), tmp_path / "02000" / "a.dcm")
    assert holds_dicom(tmp_path, ())


def test_pictures_beside_dicom_are_no_pairs_but_pictures_alone_are(tmp_path):
    for name in ("a.png", "a_mask.png"):
        Image.fromarray(np.zeros((8, 9), np.uint8)).save(tmp_path / name)
    assert find_layout(tmp_path) is LAYOUTS["pairs"]
    write_series(tmp_path / "deep" / "er", VOLUME)
    assert find_layout(tmp_path) is LAYOUTS["DICOM"]
