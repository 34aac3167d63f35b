"""SEG as it is written: read back voxel for voxel, by other programs too; the same bytes each time."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import highdicom
import numpy as np
import pydicom
import pytest
import SimpleITK
from scipy.spatial.transform import Rotation

from tests.dicoms import (
    FLIP,
    Grid,
    numbers,
    rewrite,
    write_enhanced,
    write_series,
)
from tumorseg.errors import InputError
from tumorseg.schema.codes import CodedTerm, LabelCode
from tumorseg.schema.dataset import ImageFile
from tumorseg.storage.dicom.described_segments import Algorithm, Description, Segment
from tumorseg.storage.dicom.sources import read_source
from tumorseg.storage.dicom.write_seg import require_highdicom, write_seg
from tumorseg.storage.images import read_geometry, read_reference

SHAPE = (6, 9, 13)
VALUES = {"left kidney": 7, "Tumor": 3}
KIDNEY = CodedTerm(value="64033007", meaning="Kidney")
LEFT = CodedTerm(value="7771000", meaning="Left")
TUMOUR = LabelCode(type=CodedTerm(value="108369006", meaning="Neoplasm"), region=KIDNEY, side=LEFT)
SEGMENTS = (Segment(7, "left kidney", LabelCode(type=KIDNEY, side=LEFT)), Segment(3, "Tumor", TUMOUR))
DESCRIPTION = Description(SEGMENTS, Algorithm("tumorseg Kidneys", "1.2"), ("model", "plan", "options"))
KINDS = ("binary", "labelmap")
GRIDS = {
    "axial": Grid(np.diag([-1.0, -1.0, 1.0])),
    "reversed": Grid(np.diag([-1.0, 1.0, -1.0])),
    "coronal": Grid(np.array([[-1, 0, 0], [0, 0, 1], [0, 1, 0]], float)),
    "oblique": Grid(Rotation.from_euler("xyz", (20, -35, 50), degrees=True).as_matrix()),
}
DCMQI = "segimage2itkimage"
FOLDERS = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])


def blobs(shape=SHAPE, seed=5):
    """Return a label map of both values, with none on the first plane and one on the second."""
    found = np.random.default_rng(seed).choice([0, 7, 3], shape, p=[0.6, 0.3, 0.1]).astype(np.int16)
    found[0] = 0
    found[1][found[1] == 3] = 0
    return found


def written(tmp_path, segmentation, *, kind="binary", image="image", description=DESCRIPTION):
    path = tmp_path / f"{kind}.dcm"
    source = read_source(ImageFile(path=str(tmp_path / image)))
    write_seg(path, segmentation, source, description=description, kind=kind)
    return path


def read_by_us(tmp_path, path, image="image"):
    return read_reference([str(path)], read_geometry(str(tmp_path / image)), VALUES).array


def instances_in_place(folder):
    """Return the UIDs of single slices by their place along their normal."""
    slices = [pydicom.dcmread(path) for path in sorted(folder.iterdir())]
    across = FLIP @ np.cross(*np.array(slices[0].ImageOrientationPatient, float).reshape(2, 3))
    found = {float(FLIP @ np.array(one.ImagePositionPatient) @ across): one.SOPInstanceUID for one in slices}
    return [found[place] for place in sorted(found)]


def read_by_highdicom(tmp_path, path):
    """Return label values, plane by plane as they refer to the slices of the series."""
    instances = instances_in_place(tmp_path / "image")
    return values_of(highdicom.seg.segread(path).get_pixels_by_source_instance(instances, combine_segments=True))


def values_of(numbered):
    """Return label values for the numbers that segments have in the file."""
    return np.array([0, 7, 3])[numbered]


@pytest.mark.parametrize("name", GRIDS)
def test_every_voxel_comes_back_from_our_reader_and_from_highdicom(tmp_path, name):
    write_series(tmp_path / "image", np.zeros(SHAPE, np.int16), GRIDS[name])
    segmentation = blobs()
    for kind in KINDS:
        path = written(tmp_path, segmentation, kind=kind)
        assert np.array_equal(read_by_us(tmp_path, path), segmentation)
        assert np.array_equal(read_by_highdicom(tmp_path, path), segmentation)


@pytest.mark.parametrize(("name", "kind"), [*((name, "binary") for name in GRIDS), ("oblique", "labelmap")])
def test_every_voxel_comes_back_from_dcmqi(tmp_path, name, kind):
    write_series(tmp_path / "image", np.zeros(SHAPE, np.int16), GRIDS[name])
    segmentation = blobs()
    path = written(tmp_path, segmentation, kind=kind)
    assert np.array_equal(read_by_dcmqi(tmp_path, path), segmentation)


def read_by_dcmqi(tmp_path, path):
    """Return label values on the image's grid, voxel by voxel from where dcmqi says that they lie."""
    program = shutil.which(DCMQI, path=FOLDERS)
    if program is None:
        pytest.skip("dcmqi is not installed")
    out = tmp_path / "dcmqi"
    out.mkdir()
    command = [program, "--inputDICOM", path, "--outputDirectory", out, "--outputType", "nrrd"]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    grid = read_geometry(str(tmp_path / "image"))
    found = np.zeros(grid.shape, np.int16)
    for file in out.glob("*.nrrd"):
        mask = SimpleITK.ReadImage(str(file))
        stored = SimpleITK.GetArrayFromImage(mask)
        voxels = np.argwhere(stored)
        found[tuple(voxels_of_grid(mask, voxels, grid.affine).T)] = values_of(stored[tuple(voxels.T)])
    return found


def voxels_of_grid(mask, voxels, affine):
    """Return the voxels (z, y, x) of our grid that lie where those of a mask do."""
    points = [mask.TransformIndexToPhysicalPoint(voxel[::-1].tolist()) for voxel in voxels]
    indices = (np.array(points) @ FLIP - affine[:3, 3]) @ np.linalg.inv(affine[:3, :3]).T
    assert np.allclose(indices, indices.round(), atol=1e-3)
    return indices.round().astype(int)[:, ::-1]


def test_frames_of_enhanced_files_are_referred_to_by_number(tmp_path):
    segmentation = blobs()
    write_enhanced(tmp_path / "image.dcm", np.zeros(SHAPE, np.int16), GRIDS["oblique"])
    path = written(tmp_path, segmentation, image="image.dcm")
    assert np.array_equal(read_by_us(tmp_path, path, "image.dcm"), segmentation)
    image, seg = pydicom.dcmread(tmp_path / "image.dcm"), highdicom.seg.segread(path)
    order = np.random.default_rng(0).permutation(len(segmentation))  # of the frames, as they were written
    found = seg.get_pixels_by_source_frame(image.SOPInstanceUID, range(1, 7), combine_segments=True)
    assert np.array_equal(values_of(found), segmentation[order])
    (reference,) = seg.ReferencedSeriesSequence[0].ReferencedInstanceSequence
    assert reference.ReferencedSOPInstanceUID == image.SOPInstanceUID
    assert reference.ReferencedSOPClassUID == image.SOPClassUID


def test_a_series_may_be_several_enhanced_files(tmp_path):
    grid, segmentation = GRIDS["oblique"], blobs()
    upper = grid._replace(origin=(grid.affine @ [0, 0, 2, 1])[:3])
    write_enhanced(tmp_path / "image" / "a.dcm", np.zeros((2, *SHAPE[1:]), np.int16), grid)
    write_enhanced(tmp_path / "image" / "b.dcm", np.zeros((4, *SHAPE[1:]), np.int16), upper)
    path = written(tmp_path, segmentation)
    assert np.array_equal(read_by_us(tmp_path, path), segmentation)
    assert len(pydicom.dcmread(path).SourceImageSequence) == 2


def test_planes_of_a_tilted_gantry_keep_their_places(tmp_path):
    files = write_series(tmp_path / "image", np.zeros(SHAPE, np.int16))
    for index, file in enumerate(files):
        x, y, z = pydicom.dcmread(file).ImagePositionPatient
        rewrite(file, ImagePositionPatient=numbers([x, y + index * 1.5, z]))
    segmentation = blobs()
    path = written(tmp_path, segmentation)
    assert np.array_equal(read_by_us(tmp_path, path), segmentation)
    assert np.array_equal(read_by_highdicom(tmp_path, path), segmentation)


def test_a_single_slice_is_a_series(tmp_path):
    write_series(tmp_path / "image", np.zeros((1, 9, 13), np.int16))
    segmentation = blobs()[2:3]
    path = written(tmp_path, segmentation)
    assert np.array_equal(read_by_us(tmp_path, path), segmentation)


def test_copies_of_planes_are_not_referred_to(tmp_path):
    files = write_series(tmp_path / "image", np.zeros(SHAPE, np.int16), GRIDS["oblique"])
    shutil.copy(files[2], tmp_path / "image" / "zz.dcm")
    segmentation = blobs()
    path = written(tmp_path, segmentation)
    assert np.array_equal(read_by_us(tmp_path, path), segmentation)
    assert len(pydicom.dcmread(path).SourceImageSequence) == 6


def test_orientations_that_scanners_round_differently_are_one(tmp_path):
    files = write_series(tmp_path / "image", np.zeros(SHAPE, np.int16), GRIDS["oblique"])
    cosines = np.array(pydicom.dcmread(files[3]).ImageOrientationPatient, float)
    rewrite(files[3], ImageOrientationPatient=numbers(cosines.round(5)))
    segmentation = blobs()
    assert np.array_equal(read_by_us(tmp_path, written(tmp_path, segmentation)), segmentation)


@pytest.mark.parametrize("kind", KINDS)
def test_an_empty_label_map_is_a_whole_file(tmp_path, kind):
    write_series(tmp_path / "image", np.zeros(SHAPE, np.int16))
    path = written(tmp_path, np.zeros(SHAPE, np.uint8), kind=kind)
    assert not read_by_us(tmp_path, path).any()
    seg = highdicom.seg.segread(path)
    assert seg.NumberOfFrames == (12 if kind == "binary" else 6)
    assert [item.SegmentLabel for item in seg.SegmentSequence][-2:] == ["left kidney", "Tumor"]


def test_bit_maps_of_many_segments_leave_out_empty_planes(tmp_path, monkeypatch):
    monkeypatch.setattr("tumorseg.storage.dicom.write_seg.MOST_BYTES_WITH_EMPTY", 100)
    write_series(tmp_path / "image", np.zeros(SHAPE, np.int16), GRIDS["coronal"])
    segmentation = blobs()
    path = written(tmp_path, segmentation)
    assert np.array_equal(read_by_us(tmp_path, path), segmentation)
    assert pydicom.dcmread(path).NumberOfFrames == 5 + 4  # of six planes each


def test_many_segments_without_any_foreground_are_frames_of_one_plane(tmp_path, monkeypatch):
    monkeypatch.setattr("tumorseg.storage.dicom.write_seg.MOST_BYTES_WITH_EMPTY", 100)
    write_series(tmp_path / "image", np.zeros(SHAPE, np.int16), GRIDS["coronal"])
    path = written(tmp_path, np.zeros(SHAPE, np.uint8))
    assert not read_by_us(tmp_path, path).any()
    seg = pydicom.dcmread(path)
    assert seg.NumberOfFrames == len(SEGMENTS)
    assert len(seg.ReferencedSeriesSequence[0].ReferencedInstanceSequence) == len(SHAPE) * 2


def test_the_same_label_map_is_the_same_file(tmp_path):
    write_series(tmp_path / "image", np.zeros(SHAPE, np.int16))
    first = written(tmp_path, blobs()).read_bytes()
    assert written(tmp_path, blobs()).read_bytes() == first
    assert written(tmp_path, blobs().astype(np.uint8)).read_bytes() == first
    again = pydicom.dcmread(written(tmp_path, blobs()))
    assert again.SOPInstanceUID.is_valid
    assert again.file_meta.MediaStorageSOPInstanceUID == again.SOPInstanceUID
    for name, value in {"identity": ("other",), "algorithm": Algorithm("tumorseg Kidneys", "1.3")}.items():
        other = pydicom.dcmread(written(tmp_path, blobs(), description=DESCRIPTION._replace(**{name: value})))
        assert other.SOPInstanceUID != again.SOPInstanceUID
        assert other.SeriesInstanceUID != again.SeriesInstanceUID


def test_another_label_map_of_the_same_run_is_another_instance_of_the_same_series(tmp_path):
    write_series(tmp_path / "image", np.zeros(SHAPE, np.int16))
    first, other = (pydicom.dcmread(written(tmp_path, blobs(seed=seed))) for seed in (5, 6))
    assert first.SOPInstanceUID != other.SOPInstanceUID
    assert first.SeriesInstanceUID == other.SeriesInstanceUID


def test_kinds_are_instances_of_their_own(tmp_path):
    write_series(tmp_path / "image", np.zeros(SHAPE, np.int16))
    uids = {pydicom.dcmread(written(tmp_path, blobs(), kind=kind)).SOPInstanceUID for kind in KINDS}
    assert len(uids) == 2


def test_segments_are_described_in_coded_terms(tmp_path):
    write_series(tmp_path / "image", np.zeros(SHAPE, np.int16))
    unknown = Segment(4, "Größe " + "x" * 70)
    description = DESCRIPTION._replace(segments=(*SEGMENTS, unknown))
    kidney, tumour, other = pydicom.dcmread(written(tmp_path, blobs(), description=description)).SegmentSequence
    (type_of_kidney,) = kidney.SegmentedPropertyTypeCodeSequence
    assert type_of_kidney.CodeMeaning == "Kidney"
    assert type_of_kidney.SegmentedPropertyTypeModifierCodeSequence[0].CodeValue == "7771000"
    assert kidney.SegmentedPropertyCategoryCodeSequence[0].CodeMeaning == "Anatomical Structure"
    # Not stated with the label: the table knows what kind of thing a neoplasm is.
    assert tumour.SegmentedPropertyCategoryCodeSequence[0].CodeMeaning == "Morphologically Abnormal Structure"
    (region,) = tumour.AnatomicRegionSequence
    assert (region.CodeMeaning, region.AnatomicRegionModifierSequence[0].CodeMeaning) == ("Kidney", "Left")
    assert other.SegmentLabel == unknown.name[:64]
    assert other.SegmentDescription == unknown.name
    assert other.SegmentedPropertyTypeCodeSequence[0].CodeMeaning == "Tissue"
    assert kidney.SegmentAlgorithmName == "tumorseg Kidneys"


def test_dciodvfy_finds_no_fault_with_bit_maps(tmp_path):
    program = shutil.which("dciodvfy")
    if program is None:
        pytest.skip("dciodvfy is not installed")
    stated = {"StudyDate": "20240229", "StudyTime": "101112", "StudyID": "1"}
    write_series(tmp_path / "image", np.zeros(SHAPE, np.int16), GRIDS["oblique"], **stated)
    path = written(tmp_path, blobs())
    assert faults(program, path) == []
    broken = pydicom.dcmread(path)
    del broken.SegmentSequence[0].SegmentLabel
    broken.save_as(tmp_path / "broken.dcm")
    assert faults(program, tmp_path / "broken.dcm")


def faults(program, path):
    done = subprocess.run([program, str(path)], capture_output=True, text=True, check=False)
    assert "Segmentation" in done.stdout + done.stderr
    return [line for line in done.stderr.splitlines() if line.startswith(("Error", "Warning"))]


def test_what_has_no_place_in_a_series_is_refused(tmp_path):
    write_series(tmp_path / "image", np.zeros(SHAPE, np.int16))
    with pytest.raises(InputError, match=r"shape \(6, 9, 12\), expected \(6, 9, 13\)"):
        written(tmp_path, blobs()[:, :, 1:])
    with pytest.raises(InputError, match="found the value 5 in a label map, expected 0 and 7, 3"):
        written(tmp_path, np.full(SHAPE, 5, np.int16))
    with pytest.raises(InputError, match="found 0 labels"):
        written(tmp_path, blobs(), description=DESCRIPTION._replace(segments=()))
    assert not (tmp_path / "binary.dcm").exists()


def test_what_is_no_dicom_is_refused(tmp_path):
    (tmp_path / "image.nii").write_bytes(b"n" * 400)
    with pytest.raises(InputError, match="is no DICOM, expected a DICOM series"):
        written(tmp_path, blobs(), image="image.nii")


def test_planes_of_two_studies_are_no_series(tmp_path):
    files = write_series(tmp_path / "image", np.zeros(SHAPE, np.int16))
    rewrite(files[1], StudyInstanceUID="1.2.99")
    with pytest.raises(InputError, match="planes of 2 StudyInstanceUID"):
        written(tmp_path, blobs())


def test_a_missing_package_is_told_before_any_work(monkeypatch):
    monkeypatch.setitem(sys.modules, "highdicom", None)
    with pytest.raises(InputError, match=r"not installed; give `pip install 'tumorseg\[dicom\]'`"):
        require_highdicom()
