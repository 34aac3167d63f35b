import numpy as np
import pytest

from tumorseg.ops.polygons import MOST_POINTS, MOST_STEPS, _outline, count_corners, find_originals, nest

EDGE_MM = 0.8


def box(x0, y0, x1, y1):
    return np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1)], float)


def circle(x, y, radius, num_corners=90):
    turn = np.linspace(0, 2 * np.pi, num_corners, endpoint=False)
    return np.stack([x + radius * np.cos(turn), y + radius * np.sin(turn)], axis=1)


def nested(*polygons):
    return [(sorted(cluster.members), cluster.depth) for cluster in nest(polygons, EDGE_MM).clusters]


def test_what_has_nothing_to_do_with_each_other_is_a_cluster_each():
    assert nested() == []
    assert nested(box(0, 0, 5, 5), box(9, 0, 12, 5)) == [([0], 0), ([1], 0)]
    within_the_bounds_only = np.array([(0.0, 0), (20, 0), (20, 20), (19, 20), (19, 1), (0, 1)])
    assert nested(within_the_bounds_only, box(2, 5, 9, 12)) == [([0], 0), ([1], 0)]


@pytest.mark.parametrize("overlap", [-0.05, 0.0, 0.05])
def test_polygons_that_touch_from_outside_within_rounding_stay_apart(overlap):
    assert nested(box(0, 0, 5, 5), box(5 - overlap, 1, 9, 8)) == [([0], 0), ([1], 0)]
    assert nested(box(0, 0, 5, 5), box(5 - overlap, 0, 9, 5)) == [([0], 0), ([1], 0)]


@pytest.mark.parametrize("over", [-0.05, 0.0, 0.05])
def test_what_touches_from_inside_within_rounding_is_inside(over):
    assert nested(box(-over, 1, 4, 3), box(0, 0, 9, 8)) == [([1], 0), ([0], 1)]
    assert nested(box(0, 0, 9, 8), box(-over, -over, 9 + over, 3)) == [([0], 0), ([1], 1)]


def test_points_level_with_a_corner_beside_them_are_not_inside():
    # On a grid of pixels most points are level with corners of others, and 0.9 is no binary fraction.
    pixel = 0.9
    corners = [(3.5, -2.5), (4.5, -2.5), (4.5, 0.5), (5.5, 0.5), (5.5, 10.5), (-0.5, 10.5), (-0.5, 9.5), (3.5, 9.5)]
    found = nest([box(0.5, -1.5, 1.5, 8.5) * pixel, np.array(corners) * pixel], pixel)
    assert found.clusters == [([0], 0), ([1], 0)]


def test_crossing_is_found_without_a_corner_in_the_other():
    assert nested(box(0, 4, 20, 4.3), box(7, 0, 7.3, 20)) == [([0, 1], 0)]
    assert nested(box(0, 0, 5, 5), box(4.8, 0, 9, 5)) == [([0, 1], 0)]
    # A bar across the opening of a horseshoe, and one across its arms, whose corners are in the arms.
    shoe = np.array([(0.0, 0), (10, 0), (10, 10), (7, 10), (7, 3), (3, 3), (3, 10), (0, 10)])
    assert nested(shoe, box(1, 8, 9, 12)) == [([0, 1], 0)]
    assert nested(shoe, box(1, 7, 9, 8)) == [([0, 1], 0)]
    assert nested(shoe, box(4, 4, 6, 8)) == [([0], 0), ([1], 0)]


def test_chains_of_crossing_polygons_are_one_cluster_and_hold_one_depth():
    chain = [circle(6 * number, 0, 4) for number in range(4)]
    assert nested(*chain, circle(6, 0, 1), box(-10, -10, 40, 10)) == [([5], 0), ([0, 1, 2, 3], 1), ([4], 2)]
    in_both = circle(3, 0, 0.5)
    assert nested(chain[0], in_both, chain[1]) == [([0, 2], 0), ([1], 1)]


def test_what_surrounds_the_hole_of_a_ring_is_not_inside_the_ring():
    ring = np.concatenate([box(0, 0, 12, 12), box(0, 0, 12, 12)[:1], box(4, 4, 8, 8)[::-1], box(4, 4, 8, 8)[3:]])
    assert nested(ring, box(2, 2, 10, 10)) == [([0, 1], 0)]
    assert nested(ring, box(5, 5, 7, 7)) == [([0], 0), ([1], 0)]
    assert nested(ring, box(4, 4, 8, 8)) == [([0], 0), ([1], 0)]
    # Around the channel, which is no border.
    assert nested(ring, box(1, 1, 3, 3)) == [([0], 0), ([1], 1)]
    assert nested(box(1, 1, 3, 3), ring + np.array([0, 0.02])) == [([1], 0), ([0], 1)]


def test_many_holes_and_islands_are_told_apart():
    holes = [circle(x, y, 2.5, 12) for x in range(10, 90, 8) for y in range(10, 90, 8)]
    islands = [circle(*hole.mean(axis=0), 1, 9) for hole in holes]
    found = nested(*islands, box(0, 0, 100, 100), *holes)
    assert [depth for _, depth in found] == [0] + [1] * len(holes) + [2] * len(islands)


def test_copies_are_of_the_first_and_fine_images_have_less_rounding():
    one, other = circle(5, 5, 4), circle(5.05, 5, 4)
    assert find_originals([one, box(0, 0, 3, 3), other, one[::-1]], EDGE_MM) == [0, 1]
    assert find_originals([one, other], 0.1) == [0, 1]
    assert find_originals([], EDGE_MM) == []
    assert find_originals([one, circle(5, 5, 3.85)], EDGE_MM) == [0, 1]


def test_polygons_without_area_are_read_too():
    point, line = np.zeros((3, 2)), np.array([(1.0, 1), (5, 5), (3, 3)])
    assert find_originals([point, line, line[::-1], point], EDGE_MM) == [0, 1]
    assert nested(point, line, box(-1, -1, 9, 9)) == [([0], 0), ([1], 0), ([2], 0)]


def test_a_changed_copy_is_a_hole_but_told():
    changed = np.concatenate([circle(0, 0, 20)[:80], circle(0, 0, 23)[80:84], circle(0, 0, 20)[84:]])
    nesting = nest([changed, circle(0, 0, 20)], EDGE_MM)
    assert nesting.num_rims == 1
    assert nest([circle(0, 0, 20), circle(0, 0, 19)], EDGE_MM).num_rims == 0


@pytest.mark.parametrize("times", [1, 2, 3])
def test_one_round_is_told_from_several(times):
    once = circle(3, 4, 5, num_corners=12)
    closed = np.concatenate([once, once[:1]])
    noise = np.random.default_rng(2).uniform(-0.04, 0.04, (12 * times, 2))
    assert count_corners(np.tile(once, (times, 1)) + noise, 1.0) == 12
    assert count_corners(np.tile(closed, (times, 1)), 1.0) == (13 if times == 1 else 12)
    assert count_corners(np.concatenate([np.tile(once, (times, 1)), once[:1]]), 1.0) == (13 if times == 1 else 12)


def test_what_goes_round_in_two_ways_or_encloses_nothing_is_left_whole():
    loops = np.concatenate([box(0, 0, 8, 8), box(0, 0, 4, 4)])
    assert count_corners(loops, 1.0) == 8
    assert count_corners(np.zeros((5, 2)), 1.0) == 5
    assert count_corners(np.concatenate([box(0, 0, 8, 8), box(0, 0, 8, 8)[::-1]]), 1.0) == 8


def test_an_outline_of_many_far_corners_has_few_points():
    corners = np.random.default_rng(1).uniform(-1e5, 1e5, (300, 2))
    assert len(_outline(corners, 0.7).points) <= MOST_POINTS
    few = _outline(np.concatenate([box(0, 0, 50, 60), [[1e5, 1e5]]]), 0.7).points
    assert len(few) > 2 * MOST_STEPS
