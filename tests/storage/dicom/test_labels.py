"""SEG and RTSTRUCT on the grid of their image."""

import warnings

import numpy as np
import pydicom
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.uid import RLELossless
from scipy.spatial.transform import Rotation

from tests.dicoms import Grid, box_contour, header, rewrite, save, write_rtstruct, write_seg, write_series
from tumorseg.errors import InputError
from tumorseg.schema.cases import CaseReading
from tumorseg.schema.dataset import ImageFile
from tumorseg.storage.dicom.labels import summarize_label
from tumorseg.storage.formats.stored import Geometry
from tumorseg.storage.images import read_geometry, read_reference
from tumorseg.storage.named_labels import label_names

SHAPE = (6, 9, 13)
VALUES = {"GTV": 3, "node": 7}
OBLIQUE = Grid(Rotation.from_euler("xyz", (20, -35, 50), degrees=True).as_matrix())
SAGITTAL = Grid(np.array([[0, 0, -1], [1, 0, 0], [0, -1, 0]], float))


@pytest.fixture
def series(tmp_path):
    return write_series(tmp_path / "image", np.zeros(SHAPE, np.int16), OBLIQUE)


@pytest.fixture
def grid(series):
    return read_geometry(str(series[0].parent))


def boxes():
    """Return two masks, neither on the first two planes nor on the last."""
    masks = {name: np.zeros(SHAPE, bool) for name in VALUES}
    masks["GTV"][2:4, 1:5, 2:9] = True
    masks["node"][3:5, 6:8, 1:12] = True
    masks["node"][4, 7, 5] = False
    return masks


def painted(masks, values=VALUES):
    found = np.zeros(SHAPE, np.int16)
    for name, mask in masks.items():
        found[mask] = values[name]
    return found


def read(path, grid, values=VALUES):
    return read_reference([str(path)], grid, values)


@pytest.mark.parametrize("kind", ["BINARY", "FRACTIONAL", "LABELMAP"])
@pytest.mark.parametrize("keep_empty", [False, True])
def test_segments_lie_where_highdicom_put_them(tmp_path, series, grid, kind, keep_empty):
    masks = boxes()
    write_seg(
        tmp_path / "seg.dcm", series[::-1], {n: m[::-1] for n, m in masks.items()}, kind=kind, keep_empty=keep_empty
    )
    found = read(tmp_path / "seg.dcm", grid)
    assert np.array_equal(found.array, painted(masks))
    assert np.array_equal(found.affine, grid.affine)
    assert label_names([str(tmp_path / "seg.dcm")]) == set(VALUES)


def test_fractions_from_a_half_on_count(tmp_path, series, grid):
    shares = np.zeros(SHAPE, np.float32)
    shares[2, 3, 4:8] = [0.2, 0.49, 0.51, 1.0]
    write_seg(tmp_path / "seg.dcm", series, {"GTV": shares}, kind="FRACTIONAL")
    assert read(tmp_path / "seg.dcm", grid).array[2, 3, 4:8].tolist() == [0, 0, 3, 3]


@pytest.mark.parametrize("grid_of", [Grid(), OBLIQUE, SAGITTAL])
def test_contours_fill_the_pixels_that_they_enclose(tmp_path, grid_of):
    series = write_series(tmp_path / "image", np.zeros(SHAPE, np.int16), grid_of)
    contours = {
        "GTV": [box_contour(grid_of, index, (2, 1), (8, 4)) for index in (2, 3)],
        "node": [box_contour(grid_of, index, (1, 6), (11, 7)) for index in (3, 4)],
    }
    contours["node"].append(box_contour(grid_of, 4, (5, 7), (5, 7)))  # a hole
    write_rtstruct(tmp_path / "rt.dcm", series, contours)
    grid = read_geometry(str(tmp_path / "image"))
    assert np.array_equal(read(tmp_path / "rt.dcm", grid).array, painted(boxes()))
    assert summarize_label(str(tmp_path / "rt.dcm")).series == ("1.2.1.1",)
    assert summarize_label(str(tmp_path / "rt.dcm")).frames_of_reference == ("1.2.1.9",)


@given(
    angles=st.tuples(*[st.floats(-180, 180)] * 3),
    centre=st.tuples(st.floats(3, 9), st.floats(3, 6)),
    radius=st.floats(1, 5),
)
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_circle_is_filled_in_any_orientation(tmp_path, angles, centre, radius):
    grid_of = Grid(Rotation.from_euler("xyz", angles, degrees=True).as_matrix(), spacing=(1.0, 1.0, 3.5))
    turn = np.linspace(0, 2 * np.pi, 720, endpoint=False)
    circle = np.stack(
        [centre[0] + radius * np.cos(turn), centre[1] + radius * np.sin(turn), 2 + 0 * turn, 1 + 0 * turn], 1
    )
    for old in (tmp_path / "image").glob("*"):
        old.unlink()
    series = write_series(tmp_path / "image", np.zeros(SHAPE, np.int16), grid_of)
    write_rtstruct(tmp_path / "rt.dcm", series, {"GTV": [(circle @ grid_of.affine.T)[:, :3]]})
    found = read(tmp_path / "rt.dcm", read_geometry(str(tmp_path / "image"))).array
    y, x = np.mgrid[: SHAPE[1], : SHAPE[2]]
    distance = np.hypot(x - centre[0], y - centre[1])
    is_clear = np.abs(distance - radius) > 1e-3
    assert np.array_equal((found[2] == 3)[is_clear], (distance < radius)[is_clear])
    assert not found[[0, 1, 3, 4, 5]].any()


def test_numbers_and_order_of_structures_do_not_matter(tmp_path, series, grid):
    masks = boxes()
    write_seg(tmp_path / "a.dcm", series, masks)
    write_seg(tmp_path / "b.dcm", series, dict(reversed(masks.items())))
    assert np.array_equal(read(tmp_path / "a.dcm", grid).array, read(tmp_path / "b.dcm", grid).array)


@pytest.mark.parametrize("values", [{"GTV": 1, "CTV": 2, "PTV": 3}, {"PTV": 1, "CTV": 2, "GTV": 3}])
@pytest.mark.parametrize("kind", ["SEG", "RTSTRUCT"])
def test_targets_in_each_other_are_painted_from_the_outermost_and_told(tmp_path, series, grid, kind, values, caplog):
    bounds = {"PTV": (1, 5, 1, 10, 7), "CTV": (1, 4, 2, 8, 6), "GTV": (2, 3, 4, 6, 5)}
    masks = {}
    for name, (first, last, low, high, bottom) in bounds.items():
        masks[name] = np.zeros(SHAPE, bool)
        masks[name][first : last + 1, low : bottom + 1, low : high + 1] = True
    path = tmp_path / "a.dcm"
    if kind == "SEG":
        write_seg(path, series, masks)
    else:
        outlines = {
            name: [box_contour(OBLIQUE, z, (low, low), (high, bottom)) for z in range(first, last + 1)]
            for name, (first, last, low, high, bottom) in bounds.items()
        }
        write_rtstruct(path, series, outlines)
    assert np.array_equal(read(path, grid, values).array, painted(masks, values))
    lines = [record.getMessage() for record in caplog.records if "paint" in record.getMessage()]
    assert lines == [
        f"{path}: GTV lies in CTV (100 % of it) and is painted over it in {masks['GTV'].sum()} voxels",
        f"{path}: CTV lies in PTV (100 % of it) and is painted over it in {masks['CTV'].sum()} voxels",
        f"{path}: GTV lies in PTV (100 % of it) and is painted over it in {masks['GTV'].sum()} voxels",
    ]
    assert "each whole is predicted with --regions FILE (CTV = CTV + GTV, PTV = PTV + CTV + GTV)" in caplog.text


def test_structures_that_touch_are_painted_and_told_and_others_ask_for_an_order(tmp_path, series, grid, caplog):
    masks = boxes()
    masks["node"][3, 4, 1:3] = True
    path = write_seg(tmp_path / "a.dcm", series, masks)
    expected = painted({"GTV": masks["GTV"], "node": masks["node"]})
    expected[masks["GTV"] & masks["node"]] = 7
    masks["node"][3, 2:4, 4:8] = True
    asks = write_seg(tmp_path / "b.dcm", series, masks)
    assert np.array_equal(read(path, grid).array, expected)
    assert f"{path}: node touches GTV (2.22 % of it) and is painted over it in 1 voxel" in caplog.text
    with pytest.raises(
        InputError, match=r"b.dcm: GTV and node overlap in 9 voxels, 17 % of node; .* --paint-order GTV,node"
    ):
        read(asks, grid)
    for order in (["GTV", "node"], ["node", "GTV"]):
        found = read_reference([str(asks)], grid, VALUES, CaseReading(paint_order=(*order, "liver"))).array
        assert np.array_equal(found, painted({name: masks[name] for name in order}))
    assert "GTV lies over node (16.1 % of it) and is, by the stated order, painted over it" in caplog.text
    assert np.array_equal(read(asks, grid, {"GTV": 3}).array == 3, masks["GTV"])


def test_a_structure_of_which_nothing_is_left_never_passes_in_silence(tmp_path, series, grid, caplog):
    masks = boxes()
    masks["tumour"] = masks["GTV"] | masks["node"]
    path, values = write_seg(tmp_path / "a.dcm", series, masks), VALUES | {"tumour": 1}
    with pytest.raises(InputError, match=r"a.dcm: tumour is hidden: .* --regions FILE \(tumour = GTV \+ node\)"):
        read(path, grid, values)
    found = read_reference([str(path)], grid, values, CaseReading(paint_order=("tumour", "node", "GTV"))).array
    assert np.array_equal(found, painted(boxes()))
    assert f"{path}: nothing is left of tumour, by the stated order, under GTV, node" in caplog.text


def test_several_files_make_one_reference_and_a_folder_stands_for_its_files(tmp_path, series, grid):
    masks = boxes()
    for name, mask in masks.items():
        write_seg(tmp_path / "segs" / f"{name}.dcm", series, {name: mask})
    (tmp_path / "segs" / "notes.txt").write_text("drawn on Tuesday")
    files = [str(tmp_path / "segs" / f"{name}.dcm") for name in masks]
    for paths in (files, [str(tmp_path / "segs")]):
        assert np.array_equal(read_reference(paths, grid, VALUES).array, painted(masks))
        assert label_names(paths) == set(VALUES)
    write_seg(tmp_path / "segs" / "again.dcm", series, {"node": masks["node"]})
    with pytest.raises(InputError, match="found two files with structures called node, expected one"):
        read_reference([str(tmp_path / "segs")], grid, VALUES)


def test_structures_without_a_value_are_left_out_and_told(tmp_path, series, grid, caplog):
    write_seg(tmp_path / "a.dcm", series, boxes())
    assert np.array_equal(read(tmp_path / "a.dcm", grid, {"GTV": 3}).array, painted({"GTV": boxes()["GTV"]}))
    assert "structures that are no labels of the dataset are left out: node" in caplog.text
    with pytest.raises(InputError, match="found the structures GTV, node, expected one of liver"):
        read(tmp_path / "a.dcm", grid, {"liver": 1})


def test_a_background_is_no_structure_and_a_nameless_one_has_its_number(tmp_path, series, grid):
    masks = {"Background": ~boxes()["GTV"], "GTV": boxes()["GTV"]}
    path = write_seg(tmp_path / "a.dcm", series, masks)
    assert np.array_equal(read(path, grid).array, painted({"GTV": masks["GTV"]}))
    dataset = pydicom.dcmread(path)
    dataset.SegmentSequence[1].SegmentLabel = ""
    save(dataset, path)
    assert label_names([str(path)]) == {"segment 2"}


def test_planes_of_a_segment_off_the_grid_are_refused(tmp_path, series, grid):
    write_seg(tmp_path / "a.dcm", series, boxes())
    shifted = grid.affine.copy()
    shifted[:3, 3] += 0.3 * shifted[:3, 2]
    with pytest.raises(
        InputError, match=r"found a plane 1.05 mm off the image's voxels \(at most 0.375 mm, half a voxel\)"
    ):
        read(tmp_path / "a.dcm", Geometry(SHAPE, shifted, 1))
    coarser = grid.affine @ np.diag([2, 2, 1, 1])
    with pytest.raises(InputError, match="off the image's voxels"):
        read(tmp_path / "a.dcm", Geometry(SHAPE, coarser, 1))
    with pytest.raises(InputError, match=r"GTV: found 14 voxels of a plane outside the image|GTV: found 28 voxels"):
        read(tmp_path / "a.dcm", Geometry((3, 9, 13), grid.affine, 1))


def test_a_segmentation_lies_right_on_a_grid_whose_axes_run_otherwise(tmp_path, series, grid):
    write_seg(tmp_path / "a.dcm", series, boxes())
    expected = painted(boxes())
    flip = np.diag([-1.0, 1, -1, 1])
    flip[:3, 3] = [SHAPE[2] - 1, 0, SHAPE[0] - 1]
    flipped = read(tmp_path / "a.dcm", Geometry(SHAPE, grid.affine @ flip, 1)).array
    assert np.array_equal(flipped[::-1, :, ::-1], expected)
    swap = np.eye(4)[[2, 1, 0, 3]]
    swapped = read(tmp_path / "a.dcm", Geometry(SHAPE[::-1], grid.affine @ swap, 1)).array
    assert np.array_equal(swapped.transpose(2, 1, 0), expected)


def test_contours_beyond_the_slices_or_aslant_are_refused(tmp_path, series, grid):
    write_rtstruct(tmp_path / "a.dcm", series, {"GTV": [box_contour(OBLIQUE, 6, (2, 1), (8, 4))]})
    with pytest.raises(
        InputError, match=r"found a contour 3.5 mm beyond the outer slices \(at most half a slice, 1.75 mm\)"
    ):
        read(tmp_path / "a.dcm", grid)
    aslant = box_contour(OBLIQUE, 2, (2, 1), (8, 4))
    aslant[:2] += 4 * OBLIQUE.rotation[:, 2]
    write_rtstruct(tmp_path / "a.dcm", series, {"GTV": [aslant]})
    with pytest.raises(InputError, match=r"points are 2 mm off its plane .* expected contours parallel to the slices"):
        read(tmp_path / "a.dcm", grid)


def test_contours_between_slices_go_to_the_nearest_and_gaps_are_told(tmp_path, series, grid, caplog):
    contours = [box_contour(OBLIQUE, index, (2, 1), (8, 4)) for index in (1.4, 3.2, 3.4, 5.0)]
    contours.append(box_contour(OBLIQUE, 5, (-3, 1), (8, 4)))
    write_rtstruct(tmp_path / "a.dcm", series, {"GTV": contours})
    found = read(tmp_path / "a.dcm", grid).array
    assert (found > 0).any(axis=(1, 2)).tolist() == [False, True, False, True, False, True]
    for text in ("1 planes of contours lie between slices", "every 2. slice only", "reach beyond the image"):
        assert text in caplog.text


def test_points_and_open_contours_are_left_out_and_told(tmp_path, series, grid, caplog):
    path = write_rtstruct(tmp_path / "a.dcm", series, {"GTV": [box_contour(OBLIQUE, 2, (2, 1), (8, 4))], "seed": []})
    dataset = pydicom.dcmread(path)
    points = write_rtstruct(tmp_path / "b.dcm", series, {"seed": [[(1, 2, 3)]]}, kind="POINT")
    dataset.ROIContourSequence[1].ContourSequence = pydicom.dcmread(points).ROIContourSequence[0].ContourSequence
    save(dataset, path)
    assert label_names([str(path)]) == {"GTV"}
    assert "points and open contours enclose nothing and are left out: seed (1)" in caplog.text
    assert (read(path, grid).array == 3).sum() == 28
    with pytest.raises(InputError, match="found the structures seed, expected one of GTV, node"):
        read(points, grid)


def test_rle_segments_are_read(tmp_path, series, grid):
    path = write_seg(tmp_path / "a.dcm", series, boxes(), kind="LABELMAP")
    dataset = pydicom.dcmread(path)
    dataset.compress(RLELossless)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dataset.save_as(path)
    assert np.array_equal(read(path, grid).array, painted(boxes()))


def test_damage_and_other_files_are_named(tmp_path, series, grid):
    path = write_seg(tmp_path / "a.dcm", series, boxes())
    dataset = pydicom.dcmread(path)
    dataset.PixelData = dataset.PixelData[:20]
    dataset.save_as(path)
    with pytest.raises(InputError, match=r"cannot be read as DICOM .the file ends in plane 2 of 4"):
        read(path, grid)
    for file in dataset.PerFrameFunctionalGroupsSequence:
        del file.PlanePositionSequence
    dataset.save_as(path)
    with pytest.raises(InputError, match="found no ImagePositionPatient"):
        read(path, grid)
    save(header("SR"), tmp_path / "report.dcm")
    with pytest.raises(InputError, match="found another kind of DICOM, expected SEG or RTSTRUCT"):
        read(tmp_path / "report.dcm", grid)
    with pytest.raises(InputError, match="no such file"):
        read(tmp_path / "none.dcm", grid)
    rewrite(write_rtstruct(tmp_path / "rt.dcm", series, {"GTV": []}), StructureSetROISequence=None)
    with pytest.raises(InputError, match="found the structures none"):
        read(tmp_path / "rt.dcm", grid)


def test_labels_as_numbers_are_read_as_ever(tmp_path, grid):
    from tumorseg.storage.image_writing import write_segmentation

    write_series(tmp_path / "like", np.zeros(SHAPE, np.int16), OBLIQUE)
    write_segmentation(tmp_path / "a.nii.gz", painted(boxes()), like=ImageFile(path=str(tmp_path / "like")))
    assert np.array_equal(read(tmp_path / "a.nii.gz", grid).array, painted(boxes()))


def test_structures_of_one_name_are_joined_and_repeated_contours_count_once(tmp_path, series, grid, caplog):
    whole = [box_contour(OBLIQUE, 2, (2, 1), (8, 4))]
    path = write_rtstruct(
        tmp_path / "a.dcm", series, {"GTV": whole, "other": [box_contour(OBLIQUE, 2, (4, 1), (10, 4))]}
    )
    alone = read(path, grid).array == 3
    dataset = pydicom.dcmread(path)
    dataset.StructureSetROISequence[1].ROIName = "GTV"
    contours = dataset.ROIContourSequence[0].ContourSequence
    contours.append(contours[0])
    save(dataset, path)
    joined = read(path, grid).array == 3
    assert joined.sum() == alone.sum() + 8
    assert joined[alone].all()
    assert "contours that stand twice count once: GTV (1)" in caplog.text


def test_a_structure_without_contours_is_empty_rather_than_missing(tmp_path, series, grid):
    path = write_rtstruct(tmp_path / "a.dcm", series, {"GTV": []})
    assert not read(path, grid).array.any()
    assert label_names([str(path)]) == set()
