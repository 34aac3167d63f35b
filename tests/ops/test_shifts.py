import numpy as np
import pytest

from tumorseg.ops.shifts import Measure, MeasuredImage, case_figures, spreads

SPACING = (3.0, 0.5, 0.8)


@pytest.fixture
def case():
    image = np.zeros((2, 4, 5, 7), np.float32)
    image[0, 1:3, 2, :] = np.arange(1, 15).reshape(2, 7)
    indices = np.zeros((4, 5, 7), np.int16)
    indices[0, :2, :3] = 1
    indices[1, 0, :5] = 2
    return MeasuredImage(image, SPACING, indices)


def test_sizes_are_voxels_times_their_edges(case):
    figures = case_figures(case, ["T1", "T2"], {})
    assert figures[Measure("spacing", "Z", "mm")] == 3.0
    assert figures[Measure("size", "Y", "mm")] == 5 * 0.5
    assert figures[Measure("size", "X", "mm")] == pytest.approx(7 * 0.8)


def test_intensities_leave_the_background_out(case):
    figures = case_figures(case, ["T1", "T2"], {})
    assert figures[Measure("intensity, median", "T1", "")] == 7.5
    assert Measure("intensity, median", "T2", "") not in figures  # it is the same everywhere


def test_volumes_of_regions_join_their_labels_and_absent_ones_are_left_out(case):
    figures = case_figures(case, ["T1", "T2"], {"whole": (1, 2), "core": (2,), "cyst": (3,)})
    voxel_ml = 3.0 * 0.5 * 0.8 / 1000
    assert figures[Measure("volume", "whole", "ml")] == pytest.approx(11 * voxel_ml)
    assert figures[Measure("volume", "core", "ml")] == pytest.approx(5 * voxel_ml)
    assert Measure("volume", "cyst", "ml") not in figures


def test_quantiles_are_over_the_cases_that_have_the_measurement():
    spacing, volume = Measure("spacing", "Z", "mm"), Measure("volume", "core", "ml")
    cases = [{spacing: float(number)} for number in range(5)]
    cases[3][volume] = 2.5
    first, second = spreads(cases)
    assert (first.what, first.of, first.unit, first.num) == ("spacing", "Z", "mm", 5)
    assert first.quantiles == {"5": 0.2, "25": 1.0, "50": 2.0, "75": 3.0, "95": 3.8}
    assert (second.num, second.quantiles["50"]) == (1, 2.5)
