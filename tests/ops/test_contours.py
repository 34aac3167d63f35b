import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.path import Path as Outline

from tumorseg.ops.contours import fill_contours, fill_polygons

SHAPE = (4, 9, 11)
corner = st.floats(-3, 13, allow_nan=False, width=32)


def box(lower, upper, height=0.0):
    (x0, y0), (x1, y1) = lower, upper
    return np.array([[x0, y0, height], [x1, y0, height], [x1, y1, height], [x0, y1, height]], float)


@given(st.lists(st.tuples(corner, corner), min_size=3, max_size=9))
@settings(deadline=None, max_examples=200)
def test_centres_are_inside_where_matplotlib_says(corners):
    polygon = np.array(corners)
    y, x = np.mgrid[: SHAPE[1], : SHAPE[2]]
    centres = np.stack([x.ravel(), y.ravel()], axis=1).astype(float)
    found = fill_polygons([polygon], SHAPE[1:]).ravel()
    is_crossed = distance_to_edges(centres, polygon) < 1e-4
    winding = np.array([winding_number(centre, polygon) for centre in centres])
    is_simple = np.abs(winding) <= 1  # elsewhere even-odd and matplotlib's rule differ
    expected = Outline(polygon, closed=False).contains_points(centres)
    assert np.array_equal(found[~is_crossed & is_simple], expected[~is_crossed & is_simple])
    assert np.array_equal(found[~is_crossed], (winding % 2 == 1)[~is_crossed])


def distance_to_edges(points, polygon):
    start, way = polygon, np.roll(polygon, -1, axis=0) - polygon
    length = np.maximum((way**2).sum(1), 1e-30)
    share = np.clip(((points[:, None] - start) * way).sum(-1) / length, 0, 1)
    return np.linalg.norm(points[:, None] - start - share[..., None] * way, axis=-1).min(1)


def winding_number(point, polygon):
    angles = np.arctan2(polygon[:, 1] - point[1], polygon[:, 0] - point[0])
    turns = np.diff([*angles, angles[0]])
    return int(np.rint(((turns + np.pi) % (2 * np.pi) - np.pi).sum() / (2 * np.pi)))


def test_polygons_with_a_common_edge_share_no_pixel_and_leave_none_out():
    left, right = box((1, 1), (4, 6))[:, :2], box((4, 1), (8, 6))[:, :2]
    filled = [fill_polygons([polygon], SHAPE[1:]) for polygon in (left, right)]
    assert not (filled[0] & filled[1]).any()
    assert np.array_equal(filled[0] | filled[1], fill_polygons([box((1, 1), (8, 6))[:, :2]], SHAPE[1:]))
    assert filled[0].sum() == 3 * 5


def test_a_contour_in_another_is_a_hole_and_one_in_that_an_island():
    nested = [box((0.5, 0.5), (9.5, 7.5)), box((2.5, 2.5), (6.5, 6.5)), box((3.5, 3.5), (5.5, 5.5))]
    filled = fill_contours(nested, SHAPE)
    assert filled.mask[0].sum() == 9 * 7 - 4 * 4 + 2 * 2
    assert not filled.mask[1:].any()
    assert (filled.num_dropped, filled.widest_gap) == (0, 1)


def test_a_keyhole_leaves_no_trace():
    outer, inner = box((0.5, 0.5), (8.5, 7.5))[:, :2], box((2.5, 2.5), (5.5, 5.5))[::-1, :2]
    keyhole = np.concatenate([outer, outer[:1], inner, inner[:1], outer[:1]])
    both = fill_polygons([outer, inner], SHAPE[1:])
    assert np.array_equal(fill_polygons([keyhole], SHAPE[1:]), both)
    assert both.sum() == 8 * 7 - 3 * 3


def test_a_slice_takes_the_plane_that_is_nearest():
    heights = (0.3, 0.9, 1.2, 2.0, 2.02, 3.49)
    contours = [box((0.5, 0.5), (1.5 + number, 1.5), height) for number, height in enumerate(heights)]
    filled = fill_contours(contours, SHAPE)
    # 1.2 gives way to .9; 2.0 and 2.02 are one plane, of which the even-odd rule leaves the difference
    assert filled.mask.sum(axis=(1, 2)).tolist() == [1, 2, 1, 6]
    assert (filled.num_dropped, filled.widest_gap) == (1, 1)
    assert fill_contours([contours[0], box((0, 0), (2, 2), 2.1)], SHAPE).widest_gap == 2


def test_what_lies_beyond_the_grid_is_cut_off():
    assert fill_polygons([box((-50, -50), (50, 50))[:, :2]], SHAPE[1:]).all()
    assert not fill_polygons([box((20, 1), (30, 5))[:, :2], box((1, -30), (5, -20))[:, :2]], SHAPE[1:]).any()


@pytest.mark.parametrize("contours", [[], [np.zeros((3, 3))]])
def test_nothing_encloses_nothing(contours):
    assert not fill_contours(contours, SHAPE).mask.any()


def test_lobes_of_one_slice_that_are_a_little_apart_are_both_filled():
    def box(x, z):
        return np.array([(x, 1.0, z), (x + 3, 1.0, z), (x + 3, 4.0, z), (x, 4.0, z)])

    found = fill_contours([box(0.5, 2.0), box(5.5, 2.06)], (5, 6, 10))
    assert found.num_dropped == 0
    assert found.mask[2].any(axis=0).tolist() == [False, True, True, True, False, False, True, True, True, False]


def test_noise_of_affines_does_not_fray_an_edge_through_centres():
    rng = np.random.default_rng(0)
    corners = [(1.0, y) for y in range(1, 9)] + [(8.0, y) for y in range(8, 0, -1)]
    polygon = np.array([(x, y, 1.0) for x, y in corners])
    clean = fill_contours([polygon], (3, 10, 10)).mask
    assert clean.sum() == 49
    for _ in range(5):
        noisy = polygon + rng.normal(0, 1e-8, polygon.shape)
        np.testing.assert_array_equal(fill_contours([noisy], (3, 10, 10)).mask, clean)
