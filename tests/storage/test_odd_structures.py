"""Odd files of named structures: each is read right, or refused in one line that names it."""

import re

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset

from tests.dicoms import Grid, box_contour, rewrite, save, write_rtstruct, write_seg, write_series
from tests.storage.segments import described, write_seg_nrrd
from tumorseg.errors import InputError
from tumorseg.storage.formats.stored import Geometry
from tumorseg.storage.images import read_reference
from tumorseg.storage.named_labels import label_names

SHAPE = (4, 7, 9)
PLACE = Grid()
GRID = Geometry(SHAPE, PLACE.affine, 1)
VALUES = {"GTV": 3, "node": 7}


def masks():
    found = {name: np.zeros(SHAPE, bool) for name in VALUES}
    found["GTV"][1:3, 1:4, 2:7] = True
    found["node"][2:4, 5:7, 1:8] = True
    return found


def numbered(values=VALUES):
    array = np.zeros(SHAPE, np.uint8)
    for name, value in values.items():
        array[masks()[name]] = value
    return array


EXPECTED = numbered()
STORED = numbered({"GTV": 1, "node": 2})
NAMED = described(["GTV", "node"])


def read(path):
    return read_reference([str(path)], GRID, VALUES).array


def refuse(path, message):
    with pytest.raises(InputError, match=message) as caught:
        read(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.fixture
def series(tmp_path):
    return write_series(tmp_path / "image", np.zeros(SHAPE, np.int16), PLACE)


# 3D Slicer's segments


def test_header_lines_of_windows_numbers_with_gaps_and_wrong_extents_do_not_matter(tmp_path):
    path = write_seg_nrrd(tmp_path / "a.seg.nrrd", STORED, PLACE.affine, [])
    header, data = path.read_bytes().split(b"\n\n", 1)
    lines = ["# Segment0_Name:=seed", "Segment12_Name:=node", "Segment12_LabelValue:= 2", "Segment3_LabelValue:=1"]
    lines += [
        "Segment3_Name:=GTV",
        "Segment3_Layer:=0",
        "Segment3_Extent:=90 0 -5 7",
        "Segmentation_ReferenceImageExtentOffset:=40 0 -9",
    ]
    path.write_bytes("\r\n".join([*header.decode().splitlines(), *lines, "", ""]).encode() + data)
    assert label_names([str(path)]) == set(VALUES)
    assert np.array_equal(read(path), EXPECTED)


def test_layers_may_be_the_last_axis_of_a_file(tmp_path):
    path = tmp_path / "a.seg.nrrd"
    layers = np.stack([masks()["GTV"], masks()["node"]]).astype(np.uint8)
    segments = [{"Name": "GTV", "LabelValue": 1, "Layer": 0}, {"Name": "node", "LabelValue": 1, "Layer": 1}]
    header, _ = write_seg_nrrd(path, layers, PLACE.affine, segments).read_bytes().split(b"\n\n", 1)
    text = (
        header.decode()
        .replace("sizes: 2 9 7 4", "sizes: 9 7 4 2")
        .replace("kinds: list domain domain domain", "kinds: domain domain domain list")
    )
    text = re.sub("directions: none (.*)", r"directions: \1 none", text).replace("gzip", "raw")
    path.write_bytes(text.encode() + b"\n\n" + layers.tobytes())
    assert np.array_equal(read(path), EXPECTED)


def test_values_stored_as_real_numbers_are_read_if_they_are_integers(tmp_path):
    path = write_seg_nrrd(tmp_path / "a.seg.nrrd", STORED.astype(np.float64), PLACE.affine, NAMED)
    assert np.array_equal(read(path), EXPECTED)
    for odd in (0.5, np.nan, np.inf):
        refuse(
            write_seg_nrrd(path, np.where(STORED == 1, odd, STORED), PLACE.affine, NAMED),
            f"found the value {odd:g}, expected integers",
        )


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"Layer": 2}, r"GTV: found no layer 2: the file has 1 layer\(s\)"),
        ({"Layer": -1}, "GTV: found no layer -1"),
        ({"LabelValue": 0}, "GTV: found the label value 0, which is the background"),
        ({"LabelValue": "one"}, "found Segment0_LabelValue 'one', expected an integer"),
        ({"LabelValue": ""}, "found Segment0_LabelValue '', expected an integer"),
        ({"LabelValue": 2}, "node and GTV are the same in all 28 voxels"),
    ],
)
def test_segments_that_contradict_their_file_are_refused(tmp_path, changed, message):
    refuse(write_seg_nrrd(tmp_path / "a.seg.nrrd", STORED, PLACE.affine, [NAMED[0] | changed, NAMED[1]]), message)


def test_segments_without_label_values_need_a_layer_each(tmp_path):
    path = tmp_path / "a.seg.nrrd"
    refuse(
        write_seg_nrrd(path, STORED, PLACE.affine, [{"Name": "GTV"}]),
        "GTV: found the values 1, 2 in its layer and no label value of its own",
    )
    refuse(
        write_seg_nrrd(path, STORED, PLACE.affine, [{"Name": "GTV"}, {"Name": "node"}]),
        "node: found no layer 1, nor a label value in another",
    )


def test_a_fractional_labelmap_is_refused(tmp_path):
    field = "Segmentation_MasterRepresentation:=Fractional labelmap"
    refuse(
        write_seg_nrrd(tmp_path / "a.seg.nrrd", STORED, PLACE.affine, NAMED, fields=[field]),
        "found a fractional labelmap",
    )


def test_voxels_without_a_place_in_the_world_are_refused(tmp_path):
    path = write_seg_nrrd(tmp_path / "a.seg.nrrd", STORED, PLACE.affine, NAMED, drop=["space"])
    refuse(path, "expected segments on the image's own voxels|the header names no space")


def test_a_damaged_file_is_refused(tmp_path):
    path = write_seg_nrrd(tmp_path / "a.seg.nrrd", STORED, PLACE.affine, NAMED)
    whole = path.read_bytes()
    path.write_bytes(whole[:-20])
    refuse(path, "cannot be read as NRRD")
    path.write_bytes(whole[: whole.index(b"space origin")])
    refuse(path, "cannot be read as NRRD")
    path.write_bytes(b"")
    refuse(path, "copy or download it again")


# DICOM SEG


def test_segments_of_one_label_and_planes_that_stand_twice_are_united(tmp_path, series):
    path = write_seg(tmp_path / "a.dcm", series, masks())
    dataset = pydicom.dcmread(path)
    dataset.SegmentSequence[1].SegmentLabel = " GTV\t"
    save(dataset, path)
    assert np.array_equal(read(path) == 3, EXPECTED > 0)
    for frame in dataset.PerFrameFunctionalGroupsSequence:
        frame.SegmentIdentificationSequence[0].ReferencedSegmentNumber = 1
    save(dataset, path)
    assert np.array_equal(read(path) == 3, EXPECTED > 0)


def test_frames_of_segments_that_nothing_describes_are_left_out(tmp_path, series, caplog):
    path = write_seg(tmp_path / "a.dcm", series, masks())
    dataset = pydicom.dcmread(path)
    del dataset.SegmentSequence[1]
    save(dataset, path)
    assert np.array_equal(read(path), np.where(EXPECTED == 3, 3, 0))
    assert f"{path}: segments that nothing describes are left out: 2" in caplog.text


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"NumberOfFrames": 9}, "found places of 4 of its 9 frames"),
        ({"BitsAllocated": None}, "cannot be read as DICOM"),
        ({"SegmentSequence": None}, "found the structures none, expected one of GTV, node"),
        ({"Rows": 70}, "cannot be read as DICOM|outside the image|off the image"),
        ({"PixelData": None}, "cannot be read as DICOM"),
        ({"PerFrameFunctionalGroupsSequence": None}, "found 4 frames without a place each"),
    ],
)
def test_segmentations_that_contradict_themselves_are_refused(tmp_path, series, changed, message):
    path = write_seg(tmp_path / "a.dcm", series, masks())
    dataset = pydicom.dcmread(path)
    for name, value in changed.items():
        if value is None:
            delattr(dataset, name)
        else:
            setattr(dataset, name, value)
    dataset.save_as(path)
    refuse(path, message)


def test_planes_with_rows_in_another_order_lie_where_they_are(tmp_path):
    turned = Grid(np.diag([-1.0, -1.0, 1.0]), PLACE.spacing, (PLACE.affine @ [SHAPE[2] - 1, SHAPE[1] - 1, 0, 1])[:3])
    series = write_series(tmp_path / "turned", np.zeros(SHAPE, np.int16), turned)
    path = write_seg(tmp_path / "a.dcm", series, {name: mask[:, ::-1, ::-1] for name, mask in masks().items()})
    assert np.array_equal(read(path), EXPECTED)


# RTSTRUCT


def outlines():
    return {
        "GTV": [box_contour(PLACE, z, (2, 1), (6, 3)) for z in (1, 2)],
        "node": [box_contour(PLACE, z, (1, 5), (7, 6)) for z in (2, 3)],
    }


def test_structures_are_found_by_their_numbers_whatever_the_order(tmp_path, series):
    path = write_rtstruct(tmp_path / "a.dcm", series, outlines())
    dataset = pydicom.dcmread(path)
    dataset.ROIContourSequence = dataset.ROIContourSequence[::-1]
    dataset.StructureSetROISequence[0].ROIName = " GTV \n"
    save(dataset, path)
    assert np.array_equal(read(path), EXPECTED)
    dataset.ROIContourSequence[0].ReferencedROINumber = 99
    save(dataset, path)
    assert label_names([str(path)]) == {"GTV", "ROI 99"}
    assert np.array_equal(read(path), np.where(EXPECTED == 3, 3, 0))


@pytest.mark.parametrize("missing", ["ROIContourSequence", "ContourSequence"])
def test_structures_that_were_never_drawn_are_empty(tmp_path, series, missing):
    path = write_rtstruct(tmp_path / "a.dcm", series, outlines())
    dataset = pydicom.dcmread(path)
    for item in [dataset] if missing in dataset else dataset.ROIContourSequence:
        delattr(item, missing)
    save(dataset, path)
    assert not read(path).any()
    assert label_names([str(path)]) == set()


@pytest.mark.parametrize("odd", [b"    nan", b"    inf", b"7,77777", b"7\\77777"])
def test_contours_that_are_no_points_in_space_are_refused(tmp_path, series, odd):
    contours = outlines()
    contours["GTV"][0][0, 2] = 7.77777
    path = write_rtstruct(tmp_path / "a.dcm", series, contours)
    assert path.read_bytes().count(b"7.77777") == 1
    path.write_bytes(path.read_bytes().replace(b"7.77777", odd))
    refuse(path, "cannot be read as DICOM|found")


def test_a_structure_that_was_copied_under_another_name_is_refused(tmp_path, series):
    contours = outlines()
    path = write_rtstruct(tmp_path / "a.dcm", series, {"GTV": contours["GTV"], "node": contours["GTV"]})
    refuse(path, "node and GTV are the same in all 30 voxels; .* leave one of the two out of the labels, or state")


def test_an_outline_of_the_body_lies_under_everything(tmp_path, series):
    body = [box_contour(PLACE, z, (0, 0), (8, 6)) for z in range(4)]
    path = write_rtstruct(tmp_path / "a.dcm", series, {"A body": body, **outlines(), "Z body": body})
    found = read_reference([str(path)], GRID, VALUES | {"Z body": 9}).array
    assert np.array_equal(found, np.where(EXPECTED, EXPECTED, 9))


def test_a_file_of_another_kind_or_without_a_kind_is_refused(tmp_path, series):
    path = write_rtstruct(tmp_path / "a.dcm", series, outlines())
    refuse(rewrite(path, Modality="CT", SOPClassUID="1.2.840.10008.5.1.4.1.1.2"), "found another kind of DICOM")
    empty = Dataset()
    empty.file_meta = pydicom.dcmread(path).file_meta
    empty.save_as(path)
    refuse(path, "found another kind of DICOM|cannot be read as DICOM")
