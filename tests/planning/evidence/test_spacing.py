"""Target spacing, axis order, median shape."""

import numpy as np
import pytest

from tests.planning.measured import case, equal_cases, fingerprint
from tumorseg.planning.evidence.spacing import axis_order, target_grid


def decided(*cases):
    """Return the grid of cases, and the rule of its spacing."""
    found = target_grid(fingerprint([case(str(number), *measured) for number, measured in enumerate(cases)]))
    return found.value, found.reasons["spacing_mm"].rule


def grid_of(*cases):
    return decided(*cases)[0]


def test_the_target_is_the_median_of_each_axis():
    grid, rule = decided(
        ((1.0, 0.9, 2.0), (10, 20, 30)), ((1.2, 0.8, 2.0), (10, 20, 30)), ((3.0, 0.1, 2.0), (10, 20, 30))
    )
    assert grid.spacing_mm == (1.2, 0.8, 2.0)
    assert rule == "median spacing of the cases"


def test_the_median_shape_is_that_of_the_cases_on_the_target_grid():
    grid = grid_of(((2.0, 1.0, 1.0), (10, 20, 30)), ((1.0, 1.0, 1.0), (10, 20, 30)), ((1.0, 1.0, 0.5), (10, 20, 30)))
    assert grid.spacing_mm == (1.0, 1.0, 1.0)
    assert grid.median_shape == (10, 20, 30)
    assert grid_of(((2.0, 1.0, 1.0), (10, 20, 30)), ((4.0, 1.0, 1.0), (10, 20, 30))).median_shape == (10, 20, 30)


def test_a_coarse_axis_with_few_slices_takes_the_10th_percentile():
    edges = [4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0, 10.0, 10.0, 10.0, 10.0]
    grid, rule = decided(*(((edge, 1.0, 1.0), (12, 100, 100)) for edge in edges))
    assert rule.endswith("of the coarse axis the 10th percentile")
    assert grid.spacing_mm == (np.percentile(edges, 10), 1.0, 1.0) == (5.0, 1.0, 1.0)


def test_the_coarse_axis_gets_no_finer_than_the_others():
    grid, rule = decided(*(((edge, 1.0, 1.0), (12, 100, 100)) for edge in (0.5, 0.5, 8.0, 8.0, 8.0)))
    assert grid.spacing_mm == (1.0 + 1e-5, 1.0, 1.0)
    assert rule.endswith("but no finer than the other axes")


@pytest.mark.parametrize(
    ("spacing_mm", "shape"),
    [((3.0, 1.0, 1.0), (12, 100, 100)), ((5.0, 1.0, 2.0), (12, 100, 100)), ((5.0, 1.0, 1.0), (34, 100, 102))],
    ids=["3 times", "against the coarser other axis", "many slices"],
)
def test_an_axis_that_is_not_coarse_enough_keeps_its_median(spacing_mm, shape):
    grid, rule = decided(((1.5, 1.0, 1.0), shape), (spacing_mm, shape), (spacing_mm, shape))
    assert rule == "median spacing of the cases"
    assert grid.spacing_mm[0] == spacing_mm[0]


def test_the_cropped_shape_counts():
    cropped = case("a", (5.0, 1.0, 1.0), (90, 100, 100), cropped=(12, 80, 90))
    assert target_grid(fingerprint([cropped])).value.median_shape == (12, 80, 90)


@pytest.mark.parametrize(
    ("spacing_mm", "transpose"),
    [
        ((1.0, 1.0, 1.0), (0, 1, 2)),
        ((5.0, 1.0, 1.0), (0, 1, 2)),
        ((1.0, 5.0, 1.0), (1, 0, 2)),
        ((0.7, 1.0, 5.0), (2, 0, 1)),
    ],
)
def test_the_coarsest_axis_comes_first(spacing_mm, transpose):
    grid = target_grid(fingerprint(equal_cases(2, spacing_mm, (20, 30, 40)))).value
    assert grid.transpose == transpose
    in_order = grid.in_plan_order()
    assert in_order.spacing_mm == tuple(spacing_mm[axis] for axis in transpose)
    assert in_order.median_shape == tuple((20, 30, 40)[axis] for axis in transpose)
    assert in_order.spacing_mm[0] == max(spacing_mm)


@pytest.mark.parametrize(
    ("shape", "transpose"), [((1, 9, 9), (0, 1, 2)), ((9, 1, 9), (1, 0, 2)), ((9, 9, 1), (2, 0, 1))]
)
def test_of_flat_images_the_flat_axis_comes_first_whatever_its_spacing(shape, transpose):
    assert axis_order(np.array([2.0, 1.0, 3.0]), np.array([shape, shape])) == transpose


def test_mostly_flat_images_have_the_flat_axis_first():
    shapes = np.array([[100, 1, 100]] * 9 + [[100, 3, 100]])
    assert axis_order(np.array([1.0, 1.0, 2.0]), shapes) == (1, 0, 2)
