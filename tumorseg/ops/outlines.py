"""Masks to closed contours along the edges of pixels, the reverse of `ops.contours`.

Coordinates are in pixels, a centre being at integers, so corners lie at halves: at least half a pixel from every centre. What fills
contours by the centres inside, by whatever rule for edges, returns the mask.

References:
    DICOM PS3.3, C.8.8.6.3: keyholes.
"""

from itertools import chain
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tumorseg.types import Mask

RIGHT, DOWN, LEFT, UP = range(4)
STEPS = np.array([[1, 0], [0, 1], [-1, 0], [0, -1]])
"""x and y of an edge in each direction."""

Indices = NDArray[np.int64]


class _Edges(NamedTuple):
    """Edges between pixels inside and outside, of length 1, by ascending start; what is inside lies to their right."""

    first: Indices
    """Vertices are numbered row by row."""
    last: Indices
    direction: Indices


def trace_outlines(mask: Mask) -> list[NDArray[np.float64]]:
    """Return closed contours whose insides share no pixel and make up a mask.

    Each goes clockwise round pixels that are joined by edges (x to the right, y down), and from its left side through a channel of no width
    round each of their holes; pixels that touch at a corner only are apart. No contour crosses itself or another. Corners
    on a straight line are left out but at the ends of channels.

    Args:
        mask: (Y, X).

    Returns:
        (N, 2) each, corners x, y; the last is joined to the first. They are in the order of their topmost, leftmost corners.
    """
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not rows.size:
        return []
    top, left = rows[0], columns[0]
    # One pixel around it, so that every pixel inside has neighbours.
    padded = np.pad(mask[top : rows[-1] + 1, left : columns[-1] + 1], 1)
    width = padded.shape[1] + 1
    edges = _edges(padded)
    following = _following(edges)
    loops = _loops(following)
    holes = [loop[0] for loop in loops if edges.direction[loop[0]] == DOWN]
    if holes:
        _join_holes(following, edges, holes)
        loops = _loops(following)
    # From vertices of the padded window, whose first is the upper left corner of a pixel at -1.
    origin = np.array([left, top]) - 1.5
    return [origin + corners for corners in _corners(loops, edges, following, width=width)]


def _edges(padded: Mask) -> _Edges:
    """Return the edges in a mask that is surrounded by pixels outside."""
    num_columns = padded.shape[1]
    flat = padded.ravel()
    below = np.flatnonzero(flat[:-num_columns] != flat[num_columns:]) + num_columns
    beside = np.flatnonzero(flat[:-1] != flat[1:]) + 1
    # Of the two pixels the latter is inside where an edge leads to the right, or up.
    level, upright = np.where(flat[below], RIGHT, LEFT), np.where(flat[beside], UP, DOWN)
    direction = np.concatenate([level, upright])
    pixel = np.concatenate([below, beside])
    # A row has one vertex more than pixels; to the left and up an edge starts at its far end.
    vertex = pixel + pixel // num_columns
    first = vertex + (direction == LEFT) + (direction == UP) * (num_columns + 1)
    order = np.argsort(first * len(STEPS) + direction)
    first, direction = first[order], direction[order]
    return _Edges(first, first + _strides(num_columns + 1)[direction], direction)


def _strides(width: int) -> Indices:
    """Return from vertex to vertex by how much the number grows in each direction."""
    strides: Indices = STEPS @ np.array([1, width])
    return strides


def _following(edges: _Edges) -> Indices:
    """Return which edge each is followed by."""
    following = np.searchsorted(edges.first, edges.last)
    # Where pixels touch at a corner two edges leave; the one to the right keeps to the same pixel, so that loops touch and never cross.
    is_shared = np.append(edges.first[1:] == edges.first[:-1], False)[following]
    turned = (edges.direction + 1) % 4
    following[is_shared & (edges.direction[following] != turned)] += 1
    return following


def _loops(following: Indices) -> list[list[int]]:
    """Return the edges of each loop; the first has the topmost, leftmost start."""
    nexts = following.tolist()
    is_seen = bytearray(len(nexts))
    loops = []
    for start in range(len(nexts)):
        if is_seen[start]:
            continue
        loop, index = [], start
        while not is_seen[index]:
            is_seen[index] = True
            loop.append(index)
            index = nexts[index]
        loops.append(loop)
    return loops


def _join_holes(following: Indices, edges: _Edges, holes: list[int]) -> None:
    """Lead the loop that lies to the left of each hole round the hole.

    Left of a hole's topmost, leftmost corner the pixels above and below are inside up to the next vertex with edges. It belongs to a loop
    round the same pixels: to the outer one, or to a hole that begins further up or left. So none is joined in a ring.

    Args:
        following: is changed.
        edges: all.
        holes: the first edge of each.
    """
    # Starts are sorted, so the edge before the first of a corner starts at the vertex to its left.
    left = np.searchsorted(edges.first, edges.first[holes]) - 1
    before = _inverse(following)
    # At each of these vertices one edge ends and one starts, and no two channels share one.
    following[before[left]], following[before[holes]] = holes, left


def _inverse(following: Indices) -> Indices:
    """Return which edge each follows."""
    before = np.empty_like(following)
    before[following] = np.arange(len(following))
    return before


def _corners(loops: list[list[int]], edges: _Edges, following: Indices, *, width: int) -> list[NDArray[np.int64]]:
    """Return the corners (N, 2) of each loop, x and y from the first vertex."""
    order = np.fromiter(chain.from_iterable(loops), np.int64)
    before = _inverse(following)[order]
    is_channel = edges.last[before] != edges.first[order]
    is_corner = is_channel | (edges.direction[before] != edges.direction[order])
    # Before an edge behind a channel comes the channel's other end.
    corners = np.stack([edges.last[before], edges.first[order]], axis=1)
    kept = np.stack([is_channel, is_corner], axis=1)
    ends = np.cumsum(kept.sum(axis=1))[np.cumsum([len(loop) for loop in loops]) - 1]
    y, x = np.divmod(corners[kept], width)
    return np.split(np.stack([x, y], axis=1), ends[:-1])
