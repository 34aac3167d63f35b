from collections import defaultdict
from itertools import chain, pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from scipy import ndimage
from skimage.draw import polygon2mask

from tumorseg.ops.contours import Contour, Counts, fill_contours
from tumorseg.ops.outlines import trace_outlines

SPACING = (3.0, 0.8, 1.1)

masks = arrays(bool, array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=9), elements=st.booleans())


def drawn(*lines):
    """Return the mask of a drawing, in which # is inside."""
    return np.array([[letter == "#" for letter in line] for line in lines])


DRAWINGS = {
    "one pixel": drawn("#"),
    "all of the image": np.ones((3, 5), bool),
    "a hole": drawn("####", "#..#", "####"),
    "two holes side by side": drawn("#####", "#.#.#", "#####"),
    "a hole below another": drawn("####", "#.##", "####", "##.#", "####"),
    "holes that touch at a corner": drawn("####", "#.##", "##.#", "####"),
    "a hole that touches the outside at a corner": drawn(".###", "#.##", "####"),
    "an island in a hole in an island": drawn(
        "#######", "#.....#", "#.###.#", "#.#.#.#", "#.###.#", "#.....#", "#######"
    ),
    "an island that touches its hole at a corner": drawn("#####", "#..##", "#.#.#", "##..#", "#####"),
    "diagonal pixels": drawn("#..", ".#.", "#.#"),
    "a ring that is closed by a corner only": drawn(".##.", "#..#", "####"),
    "a chessboard": np.indices((6, 7)).sum(axis=0) % 2 == 1,
}


def fill(outlines, shape):
    contours = [Contour(np.column_stack([outline, np.zeros(len(outline))])) for outline in outlines]
    return fill_contours(contours, (1, *shape), SPACING)


def steps_of(outline):
    """Return the vertices of a closed contour at steps of length 1."""
    vertices = []
    for first, last in pairwise([*outline, outline[0]]):
        count = int(np.abs(last - first).sum())
        vertices += [tuple(first + (last - first) * number / count) for number in range(count)]
    return vertices


def straight_passes(outline):
    """Yield where a contour goes straight on, and whether along x."""
    steps = np.array(steps_of(outline))
    before, after = np.roll(steps, 1, axis=0), np.roll(steps, -1, axis=0)
    for index in np.flatnonzero((before != after).sum(axis=1) == 1):
        yield tuple(steps[index]), bool(before[index, 0] != after[index, 0])


@given(masks)
@settings(deadline=None, max_examples=150)
def test_filling_the_outlines_returns_the_mask_and_our_reader_finds_nothing_to_tell(mask):
    outlines = trace_outlines(mask)
    if not mask.any():
        assert outlines == []
        return
    filled = fill(outlines, mask.shape)
    assert np.array_equal(filled.mask[0], mask)
    # No crossing, no hole by nesting, nothing gone round twice: each contour stands for itself.
    assert filled.counts == Counts()


@given(masks)
@settings(deadline=None, max_examples=100)
def test_outlines_share_no_pixel_so_union_exclusive_or_and_even_odd_agree(mask):
    parts = [polygon2mask(mask.shape, outline[:, ::-1]).astype(int) for outline in trace_outlines(mask)]
    assert np.array_equal(sum(parts, np.zeros(mask.shape, int)), mask)
    assert len(parts) == ndimage.label(mask)[1]


@given(masks)
@settings(deadline=None, max_examples=100)
def test_outlines_cross_neither_themselves_nor_others(mask):
    directions = defaultdict(set)
    for at, is_level in chain.from_iterable(straight_passes(outline) for outline in trace_outlines(mask)):
        directions[at].add(is_level)
    assert not [at for at, found in directions.items() if len(found) > 1]


@pytest.mark.parametrize("name", DRAWINGS)
def test_shapes_that_are_known_to_be_hard_come_back(name):
    mask = np.pad(DRAWINGS[name], ((1, 0), (2, 3)))
    filled = fill(trace_outlines(mask), mask.shape)
    assert np.array_equal(filled.mask[0], mask)
    assert filled.counts == Counts()


def test_a_box_has_four_corners_on_the_edges_of_its_pixels():
    mask = np.zeros((6, 8), bool)
    mask[1:4, 2:7] = True
    (outline,) = trace_outlines(mask)
    assert outline.dtype == np.float64
    assert outline.tolist() == [[1.5, 0.5], [6.5, 0.5], [6.5, 3.5], [1.5, 3.5]]


def test_a_hole_is_reached_from_the_left_through_a_channel_of_no_width():
    (outline,) = trace_outlines(drawn("#####", "##.##", "#####"))
    outer, hole = (
        [[-0.5, -0.5], [4.5, -0.5], [4.5, 2.5], [-0.5, 2.5]],
        [[1.5, 0.5], [1.5, 1.5], [2.5, 1.5], [2.5, 0.5], [1.5, 0.5]],
    )
    assert outline.tolist() == [*outer, [-0.5, 0.5], *hole, [-0.5, 0.5]]


def test_pixels_that_touch_at_a_corner_only_are_apart():
    outlines = trace_outlines(drawn("#.", ".#"))
    assert [outline.tolist()[0] for outline in outlines] == [[-0.5, -0.5], [0.5, 0.5]]
    assert [len(outline) for outline in outlines] == [4, 4]


def test_outlines_go_clockwise_on_the_screen():
    for outline in trace_outlines(DRAWINGS["an island in a hole in an island"]):
        x, y = outline.T
        # With y down the shoelace formula is positive for it.
        assert (x * np.roll(y, -1) - y * np.roll(x, -1)).sum() > 0


def test_corners_on_a_straight_line_are_left_out():
    mask = np.zeros((64, 64), bool)
    mask[10:50, 5:60] = True
    mask[20:30, 20:30] = False
    (outline,) = trace_outlines(mask)
    assert (
        len(outline) == 4 + 5 + 2
    )  # the box, the hole and back to where it began, both ends of the channel at the box
