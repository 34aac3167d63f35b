"""Contours of RTSTRUCT files: which count, which are holes, and what is said of them."""

import logging
import re

import numpy as np
import pydicom
import pytest
from pydicom.config import disable_value_validation
from scipy.spatial.transform import Rotation

from tests.dicoms import Grid, box_contour, save, write_rtstruct, write_series
from tumorseg.errors import InputError
from tumorseg.storage.images import read_geometry, read_reference

SHAPE = (5, 11, 13)
GRIDS = {
    "axial": Grid(),
    "sagittal": Grid(np.array([[0, 0, -1], [1, 0, 0], [0, -1, 0]], float)),
    "oblique": Grid(Rotation.from_euler("xyz", (20, -35, 50), degrees=True).as_matrix()),
    "thin slices": Grid(Rotation.from_euler("xyz", (-7, 12, 3), degrees=True).as_matrix(), spacing=(2.5, 0.9, 0.8)),
}


@pytest.fixture(params=GRIDS)
def grid_of(request):
    return GRIDS[request.param]


@pytest.fixture
def draw(tmp_path, grid_of):
    """Return a function that writes contours of one structure and returns its mask."""
    series = write_series(tmp_path / "image", np.zeros(SHAPE, np.int16), grid_of)

    def write_and_read(contours, *, xor=()):
        path = write_rtstruct(tmp_path / "rt.dcm", series, {"GTV": contours})
        dataset = pydicom.dcmread(path)
        for number in xor:
            dataset.ROIContourSequence[0].ContourSequence[number].ContourGeometricType = "CLOSEDPLANAR_XOR"
        save(dataset, path)
        return read_reference([str(path)], read_geometry(str(tmp_path / "image")), {"GTV": 1}).array == 1

    return write_and_read


def pixels(index, lower, upper):
    """Return the pixels of a slice from lower to upper (x, y), both included."""
    mask = np.zeros(SHAPE, bool)
    mask[index, lower[1] : upper[1] + 1, lower[0] : upper[0] + 1] = True
    return mask


OUTER, HOLE, ISLAND = ((1, 1), (11, 9)), ((3, 3), (8, 9)), ((4, 5), (6, 7))
"""The hole touches the border from inside."""

COPIES = {
    "another corner": lambda points: np.roll(points, -1, axis=0),
    "closed": lambda points: np.concatenate([points, points[:1]]),
    "reversed": lambda points: points[::-1],
    "one decimal": lambda points: np.round(points, 1),
    "whole thousandths, reversed, closed": lambda points: np.round(np.concatenate([points, points[:1]])[::-1], 3),
}


@pytest.mark.parametrize("way", COPIES)
@pytest.mark.parametrize("xor", [(), range(7)])
def test_a_contour_that_stands_twice_in_a_plane_counts_once(draw, grid_of, way, xor, caplog):
    whole = [box_contour(grid_of, index, *OUTER) for index in range(5)]
    expected = draw(whole)
    assert expected.sum() == 5 * 11 * 9
    assert np.array_equal(draw([*whole, COPIES[way](whole[2]), COPIES[way](whole[0])], xor=xor), expected)
    assert "rt.dcm: contours that stand twice count once: GTV (2)" in caplog.text


def test_nesting_alternates_and_holes_are_no_warning(draw, grid_of, caplog):
    with caplog.at_level(logging.DEBUG, logger="tumorseg.storage.dicom.contours"):
        found = draw([box_contour(grid_of, 2, *one) for one in (ISLAND, HOLE, OUTER)])
    assert np.array_equal(found, pixels(2, *OUTER) & ~pixels(2, *HOLE) | pixels(2, *ISLAND))
    assert [record.levelno for record in caplog.records] == [logging.DEBUG]
    assert "rt.dcm: GTV: 1 contours lie inside others and are holes" in caplog.text


def test_crossing_contours_are_united_with_a_hole_left_open(draw, grid_of, caplog):
    lobes, hole = [((1, 1), (7, 6)), ((4, 3), (11, 9))], ((5, 4), (6, 5))
    found = draw([box_contour(grid_of, 1, *one) for one in [*lobes, hole]])
    assert np.array_equal(found, (pixels(1, *lobes[0]) | pixels(1, *lobes[1])) & ~pixels(1, *hole))
    assert "rt.dcm: GTV: 2 contours cross and were united" in caplog.text


def test_the_kind_xor_is_kept_from_the_file(draw, grid_of, caplog):
    boxes = [((1, 1), (7, 6)), ((4, 3), (11, 9))]
    contours = [box_contour(grid_of, 1, *one) for one in boxes]
    assert np.array_equal(draw(contours, xor=(0, 1)), pixels(1, *boxes[0]) ^ pixels(1, *boxes[1]))
    assert not caplog.records
    assert np.array_equal(draw(contours, xor=(1,)), pixels(1, *boxes[0]) ^ pixels(1, *boxes[1]))
    assert "1 contours are CLOSEDPLANAR_XOR among CLOSED_PLANAR ones and were combined" in caplog.text


def test_contours_that_leave_no_voxel_are_told(draw, grid_of, caplog):
    seen = box_contour(grid_of, 2, (2, 2), (2, 2))
    between_centres = box_contour(grid_of, 2, (5.5, 5.5), (5.5, 5.5)) * 0.8
    between_centres += 0.2 * (between_centres / 0.8).mean(axis=0)
    assert np.array_equal(draw([seen, between_centres]), pixels(2, (2, 2), (2, 2)))
    assert "rt.dcm: GTV: 1 contours leave no voxel: they enclose no voxel's centre" in caplog.text
    assert "empty" not in caplog.text
    assert not draw([between_centres]).any()
    assert "rt.dcm: GTV: no voxel is inside, the structure is empty" in caplog.text


def test_a_hole_that_takes_what_is_around_it_is_told(draw, grid_of, caplog):
    outer = box_contour(grid_of, 2, (2, 2), (5, 5))
    assert not draw([outer, outer.mean(axis=0) + 0.93 * (outer - outer.mean(axis=0))]).any()
    assert "rt.dcm: GTV: 1 contours were taken for holes but run, for most of their length, within half" in caplog.text
    assert "rt.dcm: GTV: 1 contours leave no voxel" in caplog.text


def test_what_a_contour_goes_round_twice_is_left_out_and_told(draw, grid_of, caplog):
    loops = [((1, 1), (8, 8)), ((1, 1), (4, 4))]
    found = draw([np.concatenate([box_contour(grid_of, 2, *loop) for loop in loops])])
    assert np.array_equal(found, pixels(2, *loops[0]) & ~pixels(2, *loops[1]))
    assert "rt.dcm: GTV: 1 contours go round some voxels twice" in caplog.text


@pytest.mark.parametrize("value", ["nan", "inf", "1e+300", "-100001"])
def test_corners_that_are_no_numbers_or_out_of_reach_are_refused(tmp_path, value):
    series = write_series(tmp_path / "image", np.zeros(SHAPE, np.int16))
    path = write_rtstruct(tmp_path / "rt.dcm", series, {"GTV": [box_contour(Grid(), 2, *OUTER)]})
    dataset = pydicom.dcmread(path)
    contour = dataset.ROIContourSequence[0].ContourSequence[0]
    with disable_value_validation():
        contour.ContourData = [value, *contour.ContourData[1:]]
        save(dataset, path)
    with pytest.raises(InputError, match=rf"rt\.dcm: GTV: found the coordinate {re.escape(value)} in a contour"):
        read_reference([str(path)], read_geometry(str(tmp_path / "image")), {"GTV": 1})
