"""The series that a result is of, plane by plane."""

import numpy as np
import pydicom
import pytest
from scipy.spatial.transform import Rotation

from tests.dicoms import FLIP, Grid, numbers, rewrite, write_enhanced, write_series
from tumorseg.errors import InputError
from tumorseg.schema.dataset import ImageFile
from tumorseg.storage.dicom.files import lenient
from tumorseg.storage.dicom.sources import read_source
from tumorseg.storage.images import read_geometry

OBLIQUE = Grid(Rotation.from_euler("xyz", (20, -35, 50), degrees=True).as_matrix())
VOXELS = np.zeros((5, 6, 7), np.int16)


def test_planes_come_in_the_order_of_the_volume(tmp_path):
    files = write_series(tmp_path / "image", VOXELS, OBLIQUE)
    source, grid = read_source(ImageFile(path=str(tmp_path / "image"))), read_geometry(str(tmp_path / "image"))
    assert source.shape == grid.shape
    assert np.array_equal(source.affine, grid.affine)
    assert [plane.SOPInstanceUID for plane in source.planes] == [pydicom.dcmread(file).SOPInstanceUID for file in files]
    assert source.frame_numbers == (None,) * 5
    centres = grid.affine[:3, 3] + np.arange(5)[:, None] * grid.affine[:3, 2]
    assert np.allclose(np.array(source.positions) @ FLIP, centres, atol=1e-6)
    assert (source.study_uid, source.series_uid, source.frame_of_reference_uid) == ("1.2.1", "1.2.1.1", "1.2.1.9")
    assert (source.pixel_spacing, source.thickness_mm) == ((1.25, 0.75), 3.5)


def test_what_planes_state_is_kept_to_the_last_digit(tmp_path):
    files = write_series(tmp_path / "image", VOXELS, OBLIQUE)
    source = read_source(ImageFile(path=str(tmp_path / "image")))
    for position, file in zip(source.positions, files, strict=True):
        assert list(position) == pydicom.dcmread(file).ImagePositionPatient
    assert list(source.orientation) == pydicom.dcmread(files[0]).ImageOrientationPatient


def test_frames_of_a_file_are_counted_from_one(tmp_path):
    write_enhanced(tmp_path / "image.dcm", VOXELS, OBLIQUE, seed=4)
    source = read_source(ImageFile(path=str(tmp_path / "image.dcm")))
    order = np.random.default_rng(4).permutation(5)
    assert [order[number - 1] for number in source.frame_numbers] == [0, 1, 2, 3, 4]
    assert len(source.instances) == 1


def test_named_files_alone_are_the_series(tmp_path):
    files = write_series(tmp_path / "image", VOXELS, OBLIQUE)
    write_series(tmp_path / "image" / "other", VOXELS, series="1.2.7")
    parts = tuple(file.name for file in files[:3])
    assert read_source(ImageFile(path=str(tmp_path / "image"), parts=parts)).shape == (3, 6, 7)


def test_a_tilted_gantry_is_told(tmp_path):
    files = write_series(tmp_path / "image", VOXELS)
    assert read_source(ImageFile(path=str(tmp_path / "image"))).tilt_degrees == 0
    for index, file in enumerate(files):
        x, y, z = pydicom.dcmread(file).ImagePositionPatient
        rewrite(file, ImagePositionPatient=numbers([x, y + index * 3.5, z]))
    assert read_source(ImageFile(path=str(tmp_path / "image"))).tilt_degrees == pytest.approx(45)


def test_a_series_without_frame_of_reference_has_one_of_its_own(tmp_path):
    for file in write_series(tmp_path / "image", VOXELS):
        rewrite(file, FrameOfReferenceUID=None)
    first, again = (read_source(ImageFile(path=str(tmp_path / "image"))) for _ in range(2))
    assert first.frame_of_reference_uid == again.frame_of_reference_uid
    assert first.frame_of_reference_uid.startswith("2.25.")


def test_planes_that_nothing_can_refer_to_are_refused(tmp_path):
    files = write_series(tmp_path / "image", VOXELS)
    rewrite(files[1], SeriesInstanceUID="1.2.99")
    parts = tuple(file.name for file in files)
    with pytest.raises(InputError, match=r"planes of 2 SeriesInstanceUID, such as 1\.2\.1\.1 and 1\.2\.99"):
        read_source(ImageFile(path=str(tmp_path / "image"), parts=parts))
    rewrite(files[1], SeriesInstanceUID="1.2.1.1", SOPInstanceUID=None)
    with pytest.raises(InputError, match="found no SOPInstanceUID"):
        read_source(ImageFile(path=str(tmp_path / "image"), parts=parts))


def test_a_slice_that_counts_its_one_frame_is_referred_to_as_a_whole(tmp_path):
    for file in write_series(tmp_path / "image", VOXELS):
        rewrite(file, NumberOfFrames=1)
    assert set(read_source(ImageFile(path=str(tmp_path / "image"))).frame_numbers) == {None}


@pytest.mark.filterwarnings("error")
def test_uids_that_break_the_standard_are_taken_as_they_are(tmp_path):
    with lenient():
        for file in write_series(tmp_path / "image", VOXELS):
            rewrite(file, StudyInstanceUID="1.2.study")
    source = read_source(ImageFile(path=str(tmp_path / "image")))
    assert source.study_uid == "1.2.study"
    assert len(source.instances) == len(VOXELS)
