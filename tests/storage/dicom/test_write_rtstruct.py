"""Label maps as RTSTRUCT, read back by our reader and by one that knows nothing of it."""

import logging
import shutil
import subprocess

import numpy as np
import pydicom
import pytest
from scipy.spatial.transform import Rotation
from skimage.draw import polygon2mask

from tests.dicoms import FLIP, Grid, rewrite, write_enhanced, write_series
from tumorseg.errors import InputError, StorageError
from tumorseg.schema.codes import CodedTerm, LabelCode
from tumorseg.schema.dataset import ImageFile
from tumorseg.storage.dicom.described_segments import Algorithm, Description, Segment
from tumorseg.storage.dicom.drawn_contours import decimal_strings
from tumorseg.storage.dicom.labels import summarize_label
from tumorseg.storage.dicom.sources import read_source
from tumorseg.storage.dicom.write_rtstruct import write_rtstruct
from tumorseg.storage.images import read_geometry, read_reference

SHAPE = (4, 9, 11)
ORIGIN = (-112.4375, 140.25, -917.3)
GRIDS = {
    "axial": Grid(),
    "coronal": Grid(np.array([[1, 0, 0], [0, 0, 1], [0, -1, 0]], float), origin=ORIGIN),
    "sagittal": Grid(np.array([[0, 0, -1], [1, 0, 0], [0, -1, 0]], float), origin=ORIGIN),
    "oblique": Grid(Rotation.from_euler("xyz", (20, -35, 50), degrees=True).as_matrix(), origin=ORIGIN),
    "rows and planes reversed": Grid(np.diag([1.0, -1.0, -1.0]), spacing=(0.5, 0.5, 1.0)),
    "columns and planes reversed": Grid(np.diag([-1.0, 1.0, -1.0]), spacing=(0.9765625, 0.9765625, 0.6)),
}
VALUES = {"liver": 1, "tumour": 2, "kidney": 5, "empty": 9}
DESCRIPTION = Description(
    segments=tuple(Segment(value, name) for name, value in VALUES.items()),
    algorithm=Algorithm("Task03 3d_fullres", "0.1"),
    identity=("model", "plan", "options"),
)


@pytest.fixture(params=GRIDS)
def series(request, tmp_path):
    return write_series(tmp_path / "image", np.zeros(SHAPE, np.int16), GRIDS[request.param])


@pytest.fixture
def axial(tmp_path):
    return write_series(tmp_path / "image", np.zeros(SHAPE, np.int16))


def labels(seed=0, shape=SHAPE):
    """Return a label map with holes, islands in holes, and voxels that touch at corners and at the image's border."""
    segmentation = np.random.default_rng(seed).choice([0, 1, 2, 5], shape, p=[0.3, 0.4, 0.2, 0.1]).astype(np.uint8)
    segmentation[1] = 1
    for inset, value in ((1, 2), (2, 0), (3, 2), (4, 0)):
        segmentation[2, inset:-inset, inset:-inset] = value
    return segmentation


def write(tmp_path, series, segmentation, description=DESCRIPTION):
    path = tmp_path / "rt.dcm"
    write_rtstruct(path, segmentation, read_source(like(series)), description=description)
    return path


def like(series):
    return ImageFile(path=str(series[0].parent), parts=tuple(file.name for file in series))


def read(path, image, values=VALUES):
    return read_reference([str(path)], read_geometry(str(image)), values).array


def filled_by_hand(path, series, name):
    """Return the voxels of a structure by each contour's own image: pixel by pixel, combined by exclusive or, as several programs do."""
    dataset = pydicom.dcmread(path)
    planes = {}
    for index, file in enumerate(series):
        header = pydicom.dcmread(file, stop_before_pixels=True)
        planes[header.SOPInstanceUID] = index, header
    number = next(roi.ROINumber for roi in dataset.StructureSetROISequence if roi.ROIName == name)
    drawing = next(item for item in dataset.ROIContourSequence if item.ReferencedROINumber == number)
    mask = np.zeros(SHAPE, bool)
    for contour in drawing.get("ContourSequence", []):
        (image,) = contour.ContourImageSequence
        index, header = planes[image.ReferencedSOPInstanceUID]
        away = np.array(contour.ContourData, float).reshape(-1, 3) - np.array(header.ImagePositionPatient, float)
        row, column = np.array(header.ImageOrientationPatient, float).reshape(2, 3)
        assert np.abs(away @ np.cross(row, column)).max() < 1e-4
        pixels = np.stack([away @ column / header.PixelSpacing[0], away @ row / header.PixelSpacing[1]], axis=1)
        assert len(pixels) == contour.NumberOfContourPoints
        mask[index] ^= polygon2mask(SHAPE[1:], pixels)
    return mask


def test_our_reader_gives_back_every_voxel_and_has_nothing_to_tell(tmp_path, series, caplog):
    segmentation = labels()
    path = write(tmp_path, series, segmentation)
    with caplog.at_level(logging.DEBUG, logger="tumorseg.storage.dicom"):
        found = read(path, series[0].parent)
    assert np.array_equal(found, segmentation)
    assert set(np.unique(found)) == {0, 1, 2, 5}
    assert not caplog.records


def test_contours_filled_on_the_images_that_they_name_give_back_every_voxel(tmp_path, series):
    segmentation = labels(seed=1)
    path = write(tmp_path, series, segmentation)
    for name, value in VALUES.items():
        assert np.array_equal(filled_by_hand(path, series, name), segmentation == value)


@pytest.mark.parametrize("fill", [0, 5])
def test_an_image_that_is_empty_or_one_label_all_over_comes_back(tmp_path, axial, fill):
    path = write(tmp_path, axial, np.full(SHAPE, fill, np.int16))
    dataset = pydicom.dcmread(path)
    assert [roi.ROIName for roi in dataset.StructureSetROISequence] == list(VALUES)
    assert ["ContourSequence" in item for item in dataset.ROIContourSequence] == [False, False, fill == 5, False]
    assert summarize_label(str(path)).names == (("kidney",) if fill else ())
    if fill:
        assert (read(path, axial[0].parent) == 5).all()
        assert [contour.NumberOfContourPoints for contour in dataset.ROIContourSequence[2].ContourSequence] == [4] * 4


def test_a_series_of_one_plane_comes_back(tmp_path):
    series = write_series(tmp_path / "image", np.zeros((1, 9, 11), np.int16), GRIDS["oblique"])
    segmentation = labels()[2:3]
    assert np.array_equal(read(write(tmp_path, series, segmentation), tmp_path / "image"), segmentation)


def test_contours_on_a_file_of_many_frames_name_its_frames(tmp_path):
    file = write_enhanced(tmp_path / "image" / "all.dcm", np.zeros(SHAPE, np.int16), GRIDS["coronal"])
    segmentation = labels()
    write_rtstruct(tmp_path / "rt.dcm", segmentation, read_source(ImageFile(path=str(file))), description=DESCRIPTION)
    assert np.array_equal(read(tmp_path / "rt.dcm", tmp_path / "image"), segmentation)
    image, dataset = pydicom.dcmread(file), pydicom.dcmread(tmp_path / "rt.dcm")
    for contour in dataset.ROIContourSequence[0].ContourSequence:
        frame = image.PerFrameFunctionalGroupsSequence[contour.ContourImageSequence[0].ReferencedFrameNumber - 1]
        away = np.array(contour.ContourData[:3]) - np.array(frame.PlanePositionSequence[0].ImagePositionPatient)
        assert abs(away @ FLIP @ GRIDS["coronal"].rotation[:, 2]) < 1e-4
    (series,) = dataset.ReferencedFrameOfReferenceSequence[0].RTReferencedStudySequence[0].RTReferencedSeriesSequence
    assert [item.ReferencedSOPInstanceUID for item in series.ContourImageSequence] == [image.SOPInstanceUID]


def test_planes_off_a_regular_stack_carry_their_contours(tmp_path, axial):
    lifted = list(pydicom.dcmread(axial[2]).ImagePositionPatient)
    rewrite(axial[2], ImagePositionPatient=[*lifted[:2], lifted[2] + 0.25])
    segmentation = labels()
    path = write(tmp_path, axial, segmentation)
    assert np.array_equal(filled_by_hand(path, axial, "tumour"), segmentation == 2)  # checks heights, too
    assert np.array_equal(read(path, axial[0].parent), segmentation)


def test_contours_of_a_tilted_gantry_lie_on_its_planes(tmp_path, axial):
    for index, file in enumerate(axial):
        position = list(pydicom.dcmread(file).ImagePositionPatient)
        rewrite(file, ImagePositionPatient=[position[0], position[1] + 0.9 * index, position[2]])
    segmentation = labels()
    path = write(tmp_path, axial, segmentation)
    assert np.array_equal(filled_by_hand(path, axial, "liver"), segmentation == 1)
    assert np.array_equal(read(path, axial[0].parent), segmentation)


def test_the_same_label_map_gives_the_same_bytes_and_another_model_another_instance(tmp_path, axial):
    first = write(tmp_path, axial, labels()).read_bytes()
    assert write(tmp_path, axial, labels()).read_bytes() == first
    made = pydicom.dcmread(tmp_path / "rt.dcm")
    for name, value in {"identity": ("other", "plan"), "algorithm": Algorithm("Task03 3d_fullres", "0.2")}.items():
        other = pydicom.dcmread(write(tmp_path, axial, labels(), DESCRIPTION._replace(**{name: value})))
        assert other.SOPInstanceUID != made.SOPInstanceUID
        assert other.SeriesInstanceUID != made.SeriesInstanceUID
    mended = pydicom.dcmread(write(tmp_path, axial, labels(seed=1)))
    assert mended.SOPInstanceUID != made.SOPInstanceUID
    assert mended.SeriesInstanceUID == made.SeriesInstanceUID


def test_it_belongs_to_the_patient_study_and_frame_of_the_series_and_has_its_date(tmp_path):
    stated = {
        "PatientName": "Müller^Jörg",
        "SpecificCharacterSet": "ISO_IR 100",
        "SeriesDate": "20240229",
        "SeriesTime": "101112",
    }
    series = write_series(tmp_path / "image", np.zeros(SHAPE, np.int16), **stated)
    image = pydicom.dcmread(series[0])
    dataset = pydicom.dcmread(write(tmp_path, series, labels()))
    for name in ("PatientID", "PatientName", "StudyInstanceUID", "FrameOfReferenceUID", "SpecificCharacterSet"):
        assert dataset[name].value == image[name].value
    assert (dataset.StructureSetDate, dataset.StructureSetTime) == ("20240229", "101112")
    assert dataset.SeriesInstanceUID != image.SeriesInstanceUID
    found = summarize_label(str(tmp_path / "rt.dcm"))
    assert found.series == (image.SeriesInstanceUID,)
    assert found.frames_of_reference == (image.FrameOfReferenceUID,)


def test_names_in_any_writing_survive_beside_a_patient_in_another(tmp_path):
    stated = {"PatientName": "Yamada^Tarou=山田^太郎=やまだ^たろう", "SpecificCharacterSet": ["", "ISO 2022 IR 87"]}
    series = write_series(tmp_path / "image", np.zeros(SHAPE, np.int16), **stated)
    description = DESCRIPTION._replace(segments=(Segment(1, "Läsion 肝"), Segment(2, "b"), Segment(5, "c")))
    path = write(tmp_path, series, labels(), description)
    dataset = pydicom.dcmread(path)
    assert str(dataset.PatientName) == stated["PatientName"]
    assert dataset.StructureSetROISequence[0].ROIName == "Läsion 肝"
    assert np.array_equal(read(path, tmp_path / "image", {"Läsion 肝": 1, "b": 2, "c": 5}), labels())


def test_structures_say_what_they_are_in_codes_colours_and_kinds(tmp_path, axial):
    left = CodedTerm(value="7771000", meaning="Left")
    lesion = CodedTerm(value="52988006", meaning="Lesion")
    segments = (
        Segment(1, "liver", LabelCode(type=CodedTerm(value="10200004", meaning="Liver")), (1, 2, 3)),
        Segment(2, "GTVp", LabelCode(type=lesion, region=CodedTerm(value="76752008", meaning="Breast"), side=left)),
        Segment(5, "kidney_left", LabelCode(type=CodedTerm(value="64033007", meaning="Kidney"), side=left)),
        Segment(9, "x" * 70),
    )
    dataset = pydicom.dcmread(write(tmp_path, axial, labels(), DESCRIPTION._replace(segments=segments)))
    liver, tumour, kidney, unknown = dataset.RTROIObservationsSequence
    assert [item.RTROIInterpretedType for item in dataset.RTROIObservationsSequence] == ["ORGAN", "GTV", "ORGAN", ""]
    assert liver.RTROIIdentificationCodeSequence[0].CodeMeaning == "Liver"
    assert tumour.AnatomicRegionSequence[0].AnatomicRegionModifierSequence[0].CodeMeaning == "Left"
    (kind,) = kidney.RTROIIdentificationCodeSequence
    assert (kind.CodeValue, kind.CodingSchemeDesignator) == ("64033007", "SCT")
    assert kind.SegmentedPropertyTypeModifierCodeSequence[0].CodeValue == "7771000"
    assert "RTROIIdentificationCodeSequence" not in unknown
    assert {roi.ROIGenerationAlgorithm for roi in dataset.StructureSetROISequence} == {"AUTOMATIC"}
    assert (dataset.StructureSetROISequence[3].ROIName, dataset.StructureSetROISequence[3].ROIDescription) == (
        "x" * 64,
        "x" * 70,
    )
    assert dataset.ROIContourSequence[0].ROIDisplayColor == [1, 2, 3]
    assert len({tuple(item.ROIDisplayColor) for item in dataset.ROIContourSequence}) == 4


def test_decimals_are_short_exact_to_a_ten_thousandth_and_without_exponents():
    numbers = np.array([-99999.12345, 100.0, -1e-9, 0.5, -0.0001, 10.05, 12.0])
    assert decimal_strings(numbers) == b"-99999.1234\\100\\0\\0.5\\-0.0001\\10.05\\12"
    assert decimal_strings(numbers[1:3]) == b"100\\0 "


def test_contours_begin_at_the_outer_corner_of_the_first_voxel(tmp_path, axial):
    # Half a voxel before the centre at (12.5, -40.25, 7) mm, from which rows and columns go to the right and to the front.
    assert b"12.875\\-39.625\\7\\" in write(tmp_path, axial, np.ones(SHAPE, np.uint8)).read_bytes()


def faults(program, path):
    """Return what a checker of DICOM finds wrong with a file."""
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed")
    done = subprocess.run([program, str(path)], capture_output=True, text=True, check=False)
    assert "Structure" in done.stdout + done.stderr
    return [line for line in done.stderr.splitlines() if line.startswith(("W:", "E:", "F:", "Error"))]


@pytest.mark.parametrize("program", ["drtdump", "dciodvfy"])
def test_checkers_of_dicom_find_no_fault_with_its_structure(tmp_path, axial, program):
    path = write(tmp_path, axial, labels())
    assert faults(program, path) == []
    dataset = pydicom.dcmread(path)
    del dataset.ROIContourSequence[0].ReferencedROINumber
    dataset.save_as(tmp_path / "broken.dcm")
    assert faults(program, tmp_path / "broken.dcm")


@pytest.mark.parametrize(
    ("segmentation", "description", "said"),
    [
        (np.zeros((5, 9, 11), np.uint8), DESCRIPTION, r"shape \(5, 9, 11\), expected \(4, 9, 11\)"),
        (np.full(SHAPE, 7, np.uint8), DESCRIPTION, "found the value 7 in a label map, expected 0 and 1, 2, 5, 9"),
        (np.zeros(SHAPE, np.uint8), DESCRIPTION._replace(segments=()), "found no labels"),
    ],
)
def test_what_does_not_fit_the_series_is_refused_and_nothing_is_written(
    tmp_path, axial, segmentation, description, said
):
    with pytest.raises(InputError, match=said):
        write(tmp_path, axial, segmentation, description)
    assert not (tmp_path / "rt.dcm").exists()


def test_planes_farther_away_than_contours_can_say_are_refused(tmp_path):
    series = write_series(tmp_path / "image", np.zeros(SHAPE, np.int16), Grid(origin=(1e7, 0.0, 0.0)))
    with pytest.raises(InputError, match="expected it within 100000 mm of the origin"):
        write(tmp_path, series, labels())


def test_a_folder_that_cannot_be_made_is_an_error_of_storage(tmp_path, axial):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError):
        write_rtstruct(tmp_path / "file" / "rt.dcm", labels(), read_source(like(axial)), description=DESCRIPTION)


@pytest.mark.real
def test_the_contours_of_a_real_ct_come_back_as_they_were_filled(tmp_path, real_data):
    folder = real_data / "DICOM" / "CT_lung_RTSTRUCT" / "dicom"
    (drawn,) = (folder / "mask").iterdir()
    segmentation = read(drawn, folder / "image", {"GTV-1": 1})
    assert segmentation.any()
    description = DESCRIPTION._replace(segments=(Segment(1, "GTV-1"),))
    source = read_source(ImageFile(path=str(folder / "image")))
    write_rtstruct(tmp_path / "rt.dcm", segmentation, source, description=description)
    assert np.array_equal(read(tmp_path / "rt.dcm", folder / "image", {"GTV-1": 1}), segmentation)
    given, written = summarize_label(str(drawn)), summarize_label(str(tmp_path / "rt.dcm"))
    assert (written.series, written.frames_of_reference) == (given.series, given.frames_of_reference)
