import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from matplotlib.path import Path as Outline

from tumorseg.ops.contours import Contour, Counts, fill_contours

SHAPE = (4, 9, 11)
SPACING = (3.5, 1.25, 0.75)
corner = st.floats(-3, 13, allow_nan=False, width=32)


def box(lower, upper, height=0.0):
    (x0, y0), (x1, y1) = lower, upper
    return np.array([[x0, y0, height], [x1, y0, height], [x1, y1, height], [x0, y1, height]], float)


def flat(corners, height=0.0):
    return np.array([(x, y, height) for x, y in corners], float)


def fill(*outlines, shape=SHAPE, is_xor=False, spacing=SPACING):
    return fill_contours([Contour(outline, is_xor) for outline in outlines], shape, spacing)


def pixels(lower, upper, shape=SHAPE):
    """Return the pixels of the first slice from lower to upper (x, y), both included."""
    mask = np.zeros(shape[1:], bool)
    mask[lower[1] : upper[1] + 1, lower[0] : upper[0] + 1] = True
    return mask


def around(lower, upper, height=0.0):
    """Return the outline of these pixels."""
    return box(np.array(lower) - 0.5, np.array(upper) + 0.5, height)


@given(st.lists(st.tuples(corner, corner), min_size=3, max_size=9))
@settings(deadline=None, max_examples=200)
def test_centres_are_inside_where_matplotlib_says(corners):
    polygon = np.array(corners)
    y, x = np.mgrid[: SHAPE[1], : SHAPE[2]]
    centres = np.stack([x.ravel(), y.ravel()], axis=1).astype(float)
    filled = fill(flat(corners))
    found = filled.mask[0].ravel()
    is_crossed = distance_to_edges(centres, polygon) < 1e-3
    winding = np.array([winding_number(centre, polygon) for centre in centres])
    is_simple = np.abs(winding) <= 1  # elsewhere even-odd and matplotlib's rule differ
    expected = Outline(polygon, closed=False).contains_points(centres)
    assert np.array_equal(found[~is_crossed & is_simple], expected[~is_crossed & is_simple])
    assert np.array_equal(found[~is_crossed], (winding % 2 == 1)[~is_crossed])
    if not is_crossed.any():
        assert filled.counts.wound == (np.abs(winding) == 2).any()


def distance_to_edges(points, polygon):
    start, way = polygon, np.roll(polygon, -1, axis=0) - polygon
    length = np.maximum((way**2).sum(1), 1e-30)
    share = np.clip(((points[:, None] - start) * way).sum(-1) / length, 0, 1)
    return np.linalg.norm(points[:, None] - start - share[..., None] * way, axis=-1).min(1)


def winding_number(point, polygon):
    angles = np.arctan2(polygon[:, 1] - point[1], polygon[:, 0] - point[0])
    turns = np.diff([*angles, angles[0]])
    return int(np.rint(((turns + np.pi) % (2 * np.pi) - np.pi).sum() / (2 * np.pi)))


def test_contours_with_a_common_edge_share_no_pixel_and_leave_none_out():
    left, right = box((1, 1), (4, 6)), box((4, 1), (8, 6))
    filled = [fill(outline).mask for outline in (left, right)]
    both = fill(left, right)
    assert not (filled[0] & filled[1]).any()
    assert np.array_equal(filled[0] | filled[1], both.mask)
    assert np.array_equal(both.mask, fill(box((1, 1), (8, 6))).mask)
    assert both.counts == Counts()
    assert filled[0].sum() == 3 * 5


def test_neighbours_that_overlap_by_rounding_are_both_filled_and_nothing_between_is_lost():
    # The pixels' centres at x = 4 are in both.
    filled = fill(box((0.5, 0.5), (4.05, 7.5)), box((3.95, 0.5), (8.5, 7.5)))
    assert np.array_equal(filled.mask[0], pixels((1, 1), (8, 7)))
    assert filled.counts == Counts()


def test_nesting_alternates_from_level_to_level():
    levels = [((1, 1), (9, 7)), ((3, 2), (7, 6)), ((4, 3), (6, 5)), ((5, 4), (5, 4))]
    expected = np.zeros(SHAPE[1:], bool)
    for number, level in enumerate(levels):
        expected[pixels(*level)] = number % 2 == 0
        for order in (1, -1):
            filled = fill(*[around(*level) for level in levels[: number + 1]][::order])
            assert np.array_equal(filled.mask[0], expected)
            assert filled.counts == Counts(holes=(number + 1) // 2)
    assert not filled.mask[1:].any()
    assert (filled.num_dropped, filled.widest_gap) == (0, 1)


def test_a_hole_may_touch_the_border_from_inside_and_islands_may_touch_a_hole():
    hole, island = ((1, 3), (6, 7)), ((3, 5), (6, 7))
    filled = fill(around((1, 1), (9, 7)), around(*hole), around(*island))
    expected = pixels((1, 1), (9, 7)) & ~pixels(*hole) | pixels(*island)
    assert np.array_equal(filled.mask[0], expected)
    assert filled.counts == Counts(holes=1)
    # Rounding takes the hole .05 mm over the border.
    over = fill(around((1, 1), (9, 7)), box((0.5 - 0.05 / 0.75, 2.5), (6.5, 7.5 + 0.05 / 1.25)), around(*island))
    assert np.array_equal(over.mask, filled.mask)


def test_contours_that_cross_are_united_and_told():
    cross = [around((1, 3), (9, 5)), around((4, 1), (6, 7))]  # no corner of one in the other
    filled = fill(*cross)
    assert np.array_equal(filled.mask[0], pixels((1, 3), (9, 5)) | pixels((4, 1), (6, 7)))
    assert filled.counts == Counts(crossing=2)


@pytest.mark.parametrize("hole", [((4, 4), (5, 5)), ((2, 4), (3, 5)), ((7, 4), (8, 4))])
def test_a_hole_in_united_contours_is_a_hole_wherever_it_lies(hole):
    lobes = [((1, 2), (6, 7)), ((4, 3), (9, 6))]
    expected = (pixels(*lobes[0]) | pixels(*lobes[1])) & ~pixels(*hole)
    filled = fill(around(*hole), *[around(*lobe) for lobe in lobes])
    assert np.array_equal(filled.mask[0], expected)
    assert filled.counts == Counts(crossing=2, holes=1)


def test_holes_that_cross_are_one_hole():
    holes = [((2, 2), (5, 4)), ((4, 3), (8, 6))]
    filled = fill(*[around(*one) for one in [((1, 1), (9, 7)), *holes]])
    assert np.array_equal(filled.mask[0], pixels((1, 1), (9, 7)) & ~pixels(*holes[0]) & ~pixels(*holes[1]))
    assert filled.counts == Counts(crossing=2, holes=2)


KEYHOLE_OUTER, KEYHOLE_INNER = box((0.5, 0.5), (8.5, 7.5)), box((2.5, 2.5), (5.5, 5.5))


def keyhole(inner=KEYHOLE_INNER[::-1]):
    return np.concatenate([KEYHOLE_OUTER, KEYHOLE_OUTER[:1], inner, inner[:1], KEYHOLE_OUTER[:1]])


@pytest.mark.parametrize("outline", [keyhole(), keyhole()[::-1], np.roll(keyhole(), 4, axis=0)])
def test_a_keyhole_keeps_its_hole_and_leaves_no_trace(outline):
    filled = fill(outline)
    assert np.array_equal(filled.mask, fill(KEYHOLE_OUTER, KEYHOLE_INNER).mask)
    assert filled.mask.sum() == 8 * 7 - 3 * 3
    assert filled.counts == Counts()
    assert np.array_equal(fill(outline, is_xor=True).mask, filled.mask)


def test_a_keyhole_whose_hole_is_drawn_in_the_same_direction_keeps_it_and_is_told():
    filled = fill(keyhole(KEYHOLE_INNER))
    assert np.array_equal(filled.mask, fill(keyhole()).mask)
    assert filled.counts == Counts(wound=1)


def test_what_lies_in_the_hole_of_a_keyhole_is_filled_and_a_copy_of_one_counts_once():
    island = around((4, 4), (5, 4))
    filled = fill(keyhole(), island, np.round(np.roll(keyhole()[::-1], 3, axis=0) * 10, 0) / 10)
    assert np.array_equal(filled.mask, fill(KEYHOLE_OUTER, KEYHOLE_INNER, island).mask)
    assert filled.counts == Counts(copies=1)


def test_both_loops_of_an_eight_are_filled_and_a_loop_gone_round_twice_is_told():
    eight = flat([(0.5, 0.5), (0.5, 4.5), (8.5, 0.5), (8.5, 4.5)])
    assert fill(eight).mask[0].sum(axis=0).tolist() == [0, 4, 2, 2, 0, 0, 2, 2, 4, 0, 0]
    assert fill(eight).counts == Counts()
    # Drawn by hand, past its own beginning: what lies in both is left out, as in a keyhole, but not in silence.
    seam = flat([(0.5, 0.5), (8.5, 0.5), (8.5, 7.5), (0.5, 7.5), (0.5, -0.5), (3.5, -0.5), (3.5, 2.5), (0.5, 2.5)])
    assert fill(seam).counts == Counts(wound=1)


def variants(outline):
    """Return the same outline as other programs write it."""
    middles = (outline + np.roll(outline, -1, axis=0)) / 2
    rng = np.random.default_rng(3)
    return {
        "bytes": outline.copy(),
        "another corner": np.roll(outline, -1, axis=0),
        "closed": np.concatenate([outline, outline[:1]]),
        "reversed": outline[::-1],
        "repeated corners": np.repeat(outline, 2, axis=0),
        "corners along edges": np.stack([outline, middles], axis=1).reshape(-1, 3),
        "rounded": outline + rng.uniform(-0.05, 0.05, outline.shape) / [SPACING[2], SPACING[1], SPACING[0]],
        "all": np.concatenate([np.stack([outline, middles], axis=1).reshape(-1, 3)[::-1], middles[-1:]]) + 0.02,
        "a little off its plane": outline + np.array([0, 0, 0.05]),
    }


@pytest.mark.parametrize("is_xor", [False, True])
@pytest.mark.parametrize("times", [2, 3])
def test_a_contour_that_goes_round_its_own_loop_again_counts_once(times, is_xor):
    outline = around((1, 1), (8, 6))
    filled = fill(np.tile(outline, (times, 1)), is_xor=is_xor)
    assert filled.counts == Counts(copies=1)
    assert np.array_equal(filled.mask[0], pixels((1, 1), (8, 6)))


@pytest.mark.parametrize("is_xor", [False, True])
@pytest.mark.parametrize("way", variants(box((0, 0), (1, 1))))
@pytest.mark.parametrize("kind", ["box", "ellipse", "keyhole"])
def test_a_contour_that_stands_twice_counts_once(kind, way, is_xor):
    turn = np.linspace(0, 2 * np.pi, 60, endpoint=False)
    outlines = {
        "box": around((1, 1), (8, 6)),
        "ellipse": np.stack([5.1 + 4 * np.cos(turn), 4.2 + 3 * np.sin(turn), 0 * turn], axis=1),
        "keyhole": keyhole(),
    }
    outline = outlines[kind]
    expected = fill(outline, is_xor=is_xor).mask
    for order in (1, -1):
        filled = fill(*[outline, variants(outline)[way]][::order], is_xor=is_xor)
        assert filled.counts == Counts(copies=1)
        # The copy that comes first may put an edge on the other side of a centre, by rounding.
        assert (filled.mask ^ expected).sum() <= (0 if kind == "box" or order == 1 else 2)
    thrice = fill(outline, variants(outline)[way], outline[::-1], is_xor=is_xor)
    assert thrice.counts == Counts(copies=2)


def test_a_copy_that_is_off_by_more_than_rounding_is_united_or_told():
    outline, thinned = circle((5, 4), 3.9, 200), circle((5, 4), 3.9, 12)
    moved = fill(outline, outline + np.array([0.3, 0.2, 0]))
    assert np.array_equal(moved.mask[0] | fill(outline).mask[0], moved.mask[0])
    assert moved.counts == Counts(crossing=2)
    # Of fewer corners on the same circle it lies inside.
    inscribed = fill(outline, thinned, spacing=(3.0, 2.0, 2.0))
    assert (inscribed.counts.holes, inscribed.counts.rims) == (1, 1)


def test_contours_close_together_that_are_no_copies_stay_what_they_are():
    inside = (around((1, 1), (8, 6)), around((1, 1), (8, 5)))
    assert np.array_equal(fill(*inside).mask[0], pixels((1, 6), (8, 6)))
    crossed = flat([(0.5, 0.5), (0.5, 4.5), (8.5, 0.5), (8.5, 4.5)])  # the corners of a box in another order
    filled = fill(crossed, box((0.5, 0.5), (8.5, 4.5)))
    assert filled.counts.copies == 0


@pytest.mark.parametrize("wall_mm", [0.12, 0.3, 0.6])
def test_thin_rings_stay_rings_on_any_grid(wall_mm):
    outer, inner = circle((10.3, 9.6), 6.0, 300), circle((10.3, 9.6), 6.0 - wall_mm, 300)
    for edge in (0.1, 0.25, 1.0, 3.0):
        shape = (1, int(20 / edge), int(22 / edge))
        scaled = [outline / [edge, edge, 1] for outline in (outer, inner)]
        filled = fill(*scaled, shape=shape, spacing=(1.0, edge, edge))
        y, x = np.mgrid[: shape[1], : shape[2]] * edge
        radius = np.hypot(x - 10.3, y - 9.6)
        is_clear = (np.abs(radius - 6) > 2e-3) & (np.abs(radius - 6 + wall_mm) > 2e-3)
        assert np.array_equal(filled.mask[0][is_clear], ((radius < 6) & (radius > 6 - wall_mm))[is_clear])
        assert filled.counts.holes == 1
        assert filled.counts.rims == (wall_mm < edge / 2)
        assert filled.counts.lost == (not filled.mask.any())


def circle(centre, radius, num_corners):
    turn = np.linspace(0, 2 * np.pi, num_corners, endpoint=False)
    return np.stack([centre[0] + radius * np.cos(turn), centre[1] + radius * np.sin(turn), 0 * turn], axis=1)


def test_filled_contours_that_leave_no_voxel_are_counted():
    small, line = box((2.1, 2.1), (2.9, 2.9)), flat([(1, 1), (7, 1), (4, 1)])
    seen = around((5, 5), (6, 6))
    filled = fill(small, line, seen)
    assert np.array_equal(filled.mask, fill(seen).mask)
    assert filled.counts == Counts(lost=2)
    # A small hole loses nothing; one that takes all does.
    assert fill(small, around((1, 1), (8, 6))).counts == Counts(holes=1)
    assert fill(around((1, 1), (2, 2)), box((0.6, 0.6), (2.4, 2.4))).counts == Counts(holes=1, rims=1, lost=1)
    assert fill(small, seen, is_xor=True).counts == Counts(lost=1)


def test_contours_of_the_kind_xor_toggle_whatever_they_enclose():
    boxes = [((1, 1), (6, 6)), ((4, 3), (9, 7)), ((5, 4), (5, 4))]
    filled = fill(*[around(*one) for one in boxes], is_xor=True)
    expected = pixels(*boxes[0]) ^ pixels(*boxes[1]) ^ pixels(*boxes[2])
    assert np.array_equal(filled.mask[0], expected)
    assert filled.counts == Counts()


def test_both_kinds_in_a_plane_are_combined_by_exclusive_or_and_told():
    planar, hole, beside = ((1, 1), (6, 6)), ((3, 3), (8, 4)), ((8, 6), (9, 7))
    crossing = ((5, 2), (7, 5))
    contours = [Contour(around(*hole), is_xor=True), Contour(around(*planar)), Contour(around(*crossing))]
    contours.append(Contour(around(*beside), is_xor=True))
    filled = fill_contours(contours, SHAPE, SPACING)
    expected = (pixels(*planar) | pixels(*crossing)) ^ pixels(*hole) ^ pixels(*beside)
    assert np.array_equal(filled.mask[0], expected)
    assert filled.counts == Counts(crossing=2, mixed=2)


def test_each_plane_has_its_own_kind():
    contours = [Contour(around((1, 1), (6, 6), height), is_xor=height == 1) for height in (0.0, 1.0)]
    assert fill_contours(contours, SHAPE, SPACING).counts == Counts()


def test_of_copies_of_both_kinds_the_exclusive_or_stays():
    ring = [Contour(around((1, 1), (6, 6))), Contour(around((2, 2), (4, 4)))]
    for number in (0, 1):
        contours = [*ring, ring[number]._replace(is_xor=True)]
        filled = fill_contours(contours, SHAPE, SPACING)
        assert np.array_equal(filled.mask[0], pixels((1, 1), (6, 6)) & ~pixels((2, 2), (4, 4)))
        assert filled.counts.copies == 1
        assert filled.counts.mixed == 1


def test_a_slice_takes_the_plane_that_is_nearest():
    heights = (0.3, 0.9, 1.2, 2.0, 2.02, 3.49)
    outlines = [box((0.5, 0.5), (1.5 + number, 1.5), height) for number, height in enumerate(heights)]
    filled = fill(*outlines)
    # 1.2 gives way to .9; 2.0 and 2.02 are one plane, in which the smaller is a hole of the larger
    assert filled.mask.sum(axis=(1, 2)).tolist() == [1, 2, 1, 6]
    assert (filled.num_dropped, filled.widest_gap) == (1, 1)
    assert fill(outlines[0], box((0, 0), (2, 2), 2.1)).widest_gap == 2


def test_what_lies_beyond_the_grid_is_cut_off():
    assert fill(box((-50, -50), (50, 50))).mask[0].all()
    assert not fill(box((20, 1), (30, 5)), box((1, -30), (5, -20))).mask.any()
    far = fill(box((-1e7, -1e7), (1e7, 1e7)), around((2, 2), (4, 4)))
    assert np.array_equal(far.mask[0], ~pixels((2, 2), (4, 4)))


@pytest.mark.parametrize("outlines", [[], [np.zeros((3, 3))]])
def test_nothing_encloses_nothing(outlines):
    filled = fill(*outlines)
    assert not filled.mask.any()
    assert filled.counts == Counts(lost=len(outlines))


def test_lobes_of_one_slice_that_are_a_little_apart_are_both_filled():
    found = fill(box((0.5, 1), (3.5, 4), 2.0), box((5.5, 1), (8.5, 4), 2.06), shape=(5, 6, 10))
    assert found.num_dropped == 0
    assert found.mask[2].any(axis=0).tolist() == [False, True, True, True, False, False, True, True, True, False]


def test_noise_of_affines_does_not_fray_an_edge_through_centres():
    rng = np.random.default_rng(0)
    corners = [(1.0, y) for y in range(1, 9)] + [(8.0, y) for y in range(8, 0, -1)]
    outline = flat(corners, 1.0)
    clean = fill(outline, shape=(3, 10, 10)).mask
    assert clean.sum() == 49
    for _ in range(5):
        noisy = outline + rng.normal(0, 1e-8, outline.shape)
        np.testing.assert_array_equal(fill(noisy, shape=(3, 10, 10)).mask, clean)


side = st.tuples(st.integers(0, 10), st.integers(0, 10)).map(sorted)
pixel_box = st.tuples(side, side).map(lambda sides: tuple(zip(*sides, strict=True)))
boxes = st.lists(pixel_box, min_size=1, max_size=7)


def set_rule(masks):
    """Return what masks make together by the words of the rule, and how many cross; they are no copies."""
    cluster = list(range(len(masks)))
    for _ in masks:  # as often as the longest chain
        for one, first in enumerate(masks):
            for other, second in enumerate(masks):
                common = (first & second).sum()
                if 0 < common < min(first.sum(), second.sum()):
                    cluster[one] = cluster[other] = min(cluster[one], cluster[other])
    depths = {
        number: len(
            {
                cluster[j]
                for i, a in enumerate(masks)
                if cluster[i] == number
                for j, b in enumerate(masks)
                if not (a & ~b).any()
            }
            - {number}
        )
        for number in cluster
    }
    united = np.zeros(masks[0].shape, bool)
    for number in sorted(depths, key=depths.get):
        for index in np.flatnonzero(np.array(cluster) == number):
            united[masks[index]] = depths[number] % 2 == 0
    return united, sum(cluster.count(number) > 1 for number in cluster)


@given(boxes, st.integers(0, 2**32 - 1))
@settings(deadline=None, max_examples=100)
def test_boxes_of_pixels_are_filled_by_the_rule_of_their_sets(placed, seed):
    shape, rng = (1, 11, 11), np.random.default_rng(seed)
    once = list(dict.fromkeys(placed))
    expected, num_crossing = set_rule([pixels(*one, shape) for one in once])
    outlines = [list(variants(around(*one)).values())[rng.integers(6)] for one in placed]
    noise_mm = [rng.uniform(-0.03, 0.03, outline.shape) for outline in outlines]
    noisy = [outline + noise / SPACING[::-1] for outline, noise in zip(outlines, noise_mm, strict=True)]
    for drawn in (outlines, noisy):
        filled = fill(*drawn, shape=shape)
        assert np.array_equal(filled.mask[0], expected)
        assert filled.counts.copies == len(placed) - len(once)
        assert filled.counts.crossing == num_crossing


@given(boxes)
@settings(deadline=None, max_examples=100)
def test_boxes_of_the_kind_xor_are_filled_where_an_odd_number_of_them_is(placed):
    masks = [pixels(*one, (1, 11, 11)) for one in dict.fromkeys(placed)]
    filled = fill(*[around(*one) for one in placed], shape=(1, 11, 11), is_xor=True)
    assert np.array_equal(filled.mask[0], np.sum(masks, axis=0) % 2 == 1)


@given(st.lists(st.tuples(corner, corner, st.floats(0.4, 7)), min_size=1, max_size=6))
@settings(deadline=None, max_examples=60)
def test_circles_are_filled_by_the_rule_of_their_radii(circles):
    """The rule is that of sets on a fine grid; circles that nearly touch are left to the tests of touching."""
    centres, radii = np.array(circles)[:, :2], np.array(circles)[:, 2]
    for one in range(len(circles)):
        for other in range(one):
            apart = np.linalg.norm(centres[one] - centres[other])
            assume(min(abs(apart - abs(radii[one] - radii[other])), abs(apart - radii[one] - radii[other])) > 0.3)
    fine = np.mgrid[-100:200, -100:200] / 10 + 0.05
    masks = [np.hypot(fine[1] - x, fine[0] - y) < radius for x, y, radius in circles]
    filled = fill(
        *[circle((x, y), radius, 180) for x, y, radius in circles], shape=(1, 10, 10), spacing=(2.0, 1.0, 1.0)
    )
    expected, num_crossing = set_rule(masks)
    y, x = np.mgrid[:10, :10]
    edges = np.abs(np.hypot(x[..., None] - centres[:, 0], y[..., None] - centres[:, 1]) - radii).min(axis=2)
    at_centres = expected[100:200:10, 100:200:10]
    assert np.array_equal(filled.mask[0][edges > 0.1], at_centres[edges > 0.1])
    assert filled.counts.crossing == num_crossing
