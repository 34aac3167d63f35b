"""Relations between polygons of one plane: copies, crossings, one inside another.

Decided by points along their outlines, in mm, never by the voxels that they enclose: two outlines may enclose the same voxels and
yet be a ring. What lies within rounding of the other outline speaks for neither side.
"""

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

ROUNDING_MM = 0.1
"""Text of one decimal moves a corner by up to 0.087 mm; a copy may be off by that on average, a common edge everywhere."""
MOST_ROUNDING = 0.25
"""Of the pixel's shorter edge: in fine images rounding must not swallow what a pixel shows."""
MOST_OF_ROUNDING = 2.0
"""Times the above, where a copy is off most."""
STEP = 0.5
"""Of the pixel's shorter edge: from one point along an outline to the next. A rim that is thinner is doubtful."""
MOST_ALONG = 0.75
"""Of its points; a hole with more of them along what is around it may be a copy that was changed."""
MOST_STEPS = 4096
"""Along one edge: a corner far off the image must not take all memory."""
MOST_POINTS = 1 << 15
"""Along an outline, unless it has more corners: twice the pixels around an image of 4096 x 4096."""
BLOCK = 128
"""Neighbouring points that are held against edges together: few edges are near to all of them."""

Polygon = NDArray[np.float64]
"""(N, 2), corners x, y in mm; the last is joined to the first."""

Pair = tuple[int, int]


class Cluster(NamedTuple):
    """Polygons that cross one another, to be filled as one."""

    members: list[int]
    """Indices of the polygons."""
    depth: int
    """Clusters that surround it: a hole where odd."""


class Nesting(NamedTuple):
    """Polygons of one plane, grouped by nesting."""

    clusters: list[Cluster]
    """From the outermost on."""
    num_rims: int
    """Holes that run along what is around them for most of their length, less than half a pixel away."""


class _Outline(NamedTuple):
    """A polygon's edges, and points along them; (N, 2) each."""

    first: Polygon
    way: Polygon
    """From an edge's first corner to its last."""
    lower: Polygon
    """Least x and y of each edge."""
    upper: Polygon
    points: Polygon
    """Corners, and between them points at most a step apart."""
    banks: NDArray[np.float64]
    """(N, 2, 2): left and right of the line between a point and the next, as far off as rounding goes."""


def count_corners(polygon: Polygon, edge_mm: float) -> int:
    """Return how many corners make one round of a polygon: fewer than all if it goes the same way, within rounding, several times.

    Args:
        polygon: in mm.
        edge_mm: shorter edge of a pixel.
    """
    # A round may be closed by its first corner, which then stands there twice.
    kept = np.flatnonzero((polygon != np.roll(polygon, -1, axis=0)).any(axis=1))
    corners, tolerance = polygon[kept], _rounding(edge_mm)
    is_back = (np.abs(corners - corners[:1]) <= tolerance).all(axis=1)
    for count in np.flatnonzero(is_back).tolist():
        if count > 2 and len(corners) % count == 0:
            rounds = corners.reshape(-1, count, 2)
            if (np.abs(rounds - rounds[0]) <= tolerance).all():
                return int(kept[count - 1]) + 1
    return len(polygon)


def find_originals(polygons: Sequence[Polygon], edge_mm: float) -> list[int]:
    """Return the indices of polygons that are no copies, within rounding, of an earlier one.

    The first corner, the direction, repeated corners and corners along an edge make no difference.

    Args:
        polygons: in one plane.
        edge_mm: shorter edge of a pixel.
    """
    most = MOST_OF_ROUNDING * _rounding(edge_mm)
    bounds = _bounds(polygons)
    is_original = np.ones(len(polygons), np.bool_)
    for index in range(1, len(polygons)):
        is_close = (np.abs(bounds[:index] - bounds[index]) <= most).all(axis=1)
        others = np.flatnonzero(is_close & is_original[:index]).tolist()
        is_original[index] = not any(_is_copy(polygons[index], polygons[other], edge_mm) for other in others)
    return [int(index) for index in np.flatnonzero(is_original)]


def nest(polygons: Sequence[Polygon], edge_mm: float) -> Nesting:
    """Find which polygons cross, and how deep they are inside others.

    What touches a polygon from inside is inside it; what touches it from outside has nothing to do with it. Of a polygon that crosses
    or touches itself, inside is what the even-odd rule says.

    Args:
        polygons: in one plane, without copies.
        edge_mm: shorter edge of a pixel.
    """
    bounds = _bounds(polygons)
    pairs = list(_overlapping(bounds))
    # Most contours meet no other, and need no points along them.
    concerned = set(chain.from_iterable(pairs))
    outlines = {index: _outline(polygons[index], edge_mm) for index in concerned}
    roots = list(range(len(polygons)))
    inside: list[Pair] = []
    for one, other in pairs:
        is_inner, is_outer = _relation(outlines[one], outlines[other], _rounding(edge_mm))
        if is_inner and is_outer:
            roots[_root(roots, one)] = _root(roots, other)
        elif is_inner or is_outer:
            inside.append((one, other) if is_inner else (other, one))
    clusters = _clusters(roots, inside)
    holes: set[int] = set()
    for cluster in clusters:
        if cluster.depth % 2:
            holes.update(cluster.members)
    kept = [pair for pair in inside if pair[0] in holes]
    rims = {inner for inner, outer in kept if _is_rim(outlines[inner], outlines[outer], STEP * edge_mm)}
    return Nesting(clusters, len(rims))


def _rounding(edge_mm: float) -> float:
    return min(ROUNDING_MM, MOST_ROUNDING * edge_mm)


def _bounds(polygons: Sequence[Polygon]) -> NDArray[np.float64]:
    """Return (polygons, 4): the least x and y, and the largest."""
    return np.array([[*polygon.min(axis=0), *polygon.max(axis=0)] for polygon in polygons]).reshape(-1, 4)


def _overlapping(bounds: NDArray[np.float64]) -> Iterator[Pair]:
    """Yield the pairs whose bounds meet."""
    # From left to right: whatever begins before one ends stands right behind it.
    order = np.argsort(bounds[:, 0], kind="stable")
    left = bounds[order, 0]
    for place, index in enumerate(order[:-1], start=1):
        others = order[place : np.searchsorted(left, bounds[index, 2], side="right")]
        meets = (bounds[others, 1] <= bounds[index, 3]) & (bounds[others, 3] >= bounds[index, 1])
        yield from ((int(index), int(other)) for other in others[meets])


def _clusters(roots: list[int], inside: Sequence[Pair]) -> list[Cluster]:
    """Return polygons that cross as clusters, from the outermost on."""
    found = [_root(roots, index) for index in range(len(roots))]
    around: dict[int, set[int]] = {root: set() for root in found}
    for inner, outer in inside:
        if found[inner] != found[outer]:
            around[found[inner]].add(found[outer])
    clusters = {root: Cluster([], len(outer)) for root, outer in around.items()}
    for index, root in enumerate(found):
        clusters[root].members.append(index)
    return sorted(clusters.values(), key=lambda cluster: cluster.depth)


def _root(roots: list[int], index: int) -> int:
    """Return the polygon that stands for all that cross."""
    while roots[index] != index:
        # Halves the way for the next search.
        roots[index] = roots[roots[index]]
        index = roots[index]
    return index


def _relation(one: _Outline, other: _Outline, tolerance: float) -> tuple[bool, bool]:
    """Return whether one is inside the other and whether the other is inside it; both: they cross."""
    one_enters, one_leaves = _sides(one, other, tolerance)
    other_enters, other_leaves = _sides(other, one, tolerance)
    is_crossing = (one_enters and (one_leaves or other_enters)) or (other_enters and other_leaves)
    return one_enters or is_crossing, other_enters or is_crossing


def _sides(outline: _Outline, other: _Outline, tolerance: float) -> tuple[bool, bool]:
    """Return whether any of an outline is clearly inside the other, and whether any is clearly outside."""
    lower, upper = other.lower.min(axis=0) - tolerance, other.upper.max(axis=0) + tolerance
    is_around = ((outline.points >= lower) & (outline.points <= upper)).all(axis=1)
    # What is beyond the other's bounds is outside, and is not measured.
    enters, leaves = False, _is_border(outline, np.flatnonzero(~is_around))
    for block in _blocks(np.flatnonzero(is_around)):
        is_inside = _is_inside(outline.points[block], other)
        # Distances are asked for only where they can change the answer.
        doubtful = np.where(is_inside, not enters, not leaves)
        is_clear = _distances(outline.points[block[doubtful]], other, tolerance) > tolerance
        clear, inside = block[doubtful][is_clear], is_inside[doubtful][is_clear]
        enters = enters or _is_border(outline, clear[inside])
        leaves = leaves or _is_border(outline, clear[~inside])
    return enters, leaves


def _is_border(outline: _Outline, indices: NDArray[np.int64]) -> bool:
    """Return whether, at any of the points, one side is inside and the other not: the channel to a keyhole's hole is no border."""
    banks = (outline.banks[block] for block in _blocks(indices))
    return any((_is_inside(bank[:, 0], outline) != _is_inside(bank[:, 1], outline)).any() for bank in banks)


def _is_rim(inner: _Outline, outer: _Outline, width: float) -> bool:
    is_along = [_distances(block, outer, width) <= width for block in _blocks(inner.points)]
    return bool(np.concatenate(is_along).mean() > MOST_ALONG)


def _is_copy(one: Polygon, other: Polygon, edge_mm: float) -> bool:
    if np.array_equal(one, other):
        return True
    tolerance = _rounding(edge_mm)
    length = float(np.linalg.norm(np.roll(one, -1, axis=0) - one, axis=1).sum())
    # A strip as wide as the tolerance all along is the most by which areas of copies differ; this is quick to see.
    if abs(_area(one) - _area(other)) > tolerance * length:
        return False
    first, second = _outline(one, edge_mm), _outline(other, edge_mm)
    return _is_along(first.points, second, tolerance) and _is_along(second.points, first, tolerance)


def _is_along(points: Polygon, outline: _Outline, tolerance: float) -> bool:
    """Return whether points lie on edges, within rounding."""
    blocks = [_distances(block, outline, MOST_OF_ROUNDING * tolerance) for block in _blocks(points)]
    return bool(np.concatenate(blocks).mean() <= tolerance)


def _area(polygon: Polygon) -> float:
    # Far from the origin the products would lose the digits that matter.
    moved = polygon - polygon[0]
    following = np.roll(moved, -1, axis=0)
    return abs(float((moved[:, 0] * following[:, 1] - moved[:, 1] * following[:, 0]).sum())) / 2


def _outline(polygon: Polygon, edge_mm: float) -> _Outline:
    following = np.roll(polygon, -1, axis=0)
    way = following - polygon
    length = np.linalg.norm(way, axis=1)
    counts = np.clip(np.ceil(length / (STEP * edge_mm)), 1, MOST_STEPS).astype(np.int64)
    if counts.sum() > MOST_POINTS:
        counts = np.minimum(counts, max(1, MOST_POINTS // len(polygon)))
    edge = np.repeat(np.arange(len(polygon)), counts)
    part = way[edge] / counts[edge, None]
    points = polygon[edge] + (np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts))[:, None] * part
    # The normal of an edge; a repeated corner has none.
    across = _rounding(edge_mm) * way[:, ::-1] * [-1, 1] / np.where(length == 0, 1, length)[:, None]
    banks = (points + part / 2)[:, None] + np.stack([across, -across], axis=1)[edge]
    return _Outline(polygon, way, np.minimum(polygon, following), np.maximum(polygon, following), points, banks)


def _blocks(along: NDArray[Any]) -> Iterator[NDArray[Any]]:
    return (along[start : start + BLOCK] for start in range(0, len(along), BLOCK))


def _is_inside(points: Polygon, outline: _Outline) -> NDArray[np.bool_]:
    """Return which of a block of points are inside by the even-odd rule."""
    (left, lowest), (_, highest) = points.min(axis=0), points.max(axis=0)
    is_level = (outline.lower[:, 1] <= highest) & (outline.upper[:, 1] > lowest)
    is_beside = is_level & (outline.upper[:, 0] >= left)
    first, way = outline.first[is_beside], outline.way[is_beside]
    # By the corners themselves: differences would be rounded, and a point level with a corner may pass both edges there, or none.
    is_above = points[:, 1, None] >= outline.lower[is_beside, 1]
    is_passed = is_above & (points[:, 1, None] < outline.upper[is_beside, 1])
    # A level edge is never passed, whatever it is divided by.
    rise = np.where(way[:, 1] == 0, 1, way[:, 1])
    is_left = points[:, 0, None] < first[:, 0] + (points[:, 1, None] - first[:, 1]) * (way[:, 0] / rise)
    return np.asarray((is_passed & is_left).sum(axis=1) % 2 == 1)


def _distances(points: Polygon, outline: _Outline, most: float) -> NDArray[np.float64]:
    """Return how far each of a block of points is from the nearest edge; infinite if farther than the most that matters."""
    if not len(points):
        return np.zeros(0)
    lower, upper = points.min(axis=0) - most, points.max(axis=0) + most
    is_close = ((outline.lower <= upper) & (outline.upper >= lower)).all(axis=1)
    first, way = outline.first[is_close], outline.way[is_close]
    away = points[:, None] - first
    # A repeated corner is an edge of length 0, of which the first end is the nearest point.
    length = np.maximum((way**2).sum(axis=1), np.finfo(np.float64).tiny)
    share = np.clip((away * way).sum(axis=2) / length, 0, 1)
    squares = ((away - share[..., None] * way) ** 2).sum(axis=2).min(axis=1, initial=np.inf)
    return np.where(squares <= most**2, np.sqrt(squares), np.inf)
