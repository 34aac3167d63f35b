"""Resampling of label maps: each voxel takes the label with the largest share of it.

A label's share of a voxel is what linear interpolation of the label's mask gives there, so it depends on the eight voxels
around the place only. Where these are all of one label, that label has the whole share. Only at borders are shares summed, and
there in float64 and in scipy's own order, for the last bit decides whether two shares are equal. So the cost follows the area of
the borders, and neither time nor memory the number of labels.

References:
    `resize_segmentation` of batchgenerators 0.25.5, as nnunetv2 2.8.1 calls it.
"""

import math
from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from tumorseg.ops.cropping import mask_box
from tumorseg.schema.targets import IGNORE
from tumorseg.types import FloatArray, Mask, Segmentation, Shape

T = TypeVar("T", bound=np.generic)

OUTSIDE = -2
"""Background outside the body: a label of its own while shares are compared, background in the result."""
SLAB = 1 << 21
"""Voxels that are looked at in one go."""
MOST_PLACES = 1 << 17
"""Voxels at borders whose shares are held at once."""
CLEAR = 0.5 + 1e-9
"""A share above this is the largest, whatever the last bits are."""

Places = tuple[NDArray[np.intp], ...]
"""Voxels (N) along each axis."""
Labels = NDArray[np.integer[Any]]
"""Label values (N)."""


class Axis(NamedTuple):
    """Neighbours, among the source's voxels, of each voxel of the result, along one axis."""

    lower: NDArray[np.intp]
    """The source's voxel at the place, or the last one before it."""
    upper: NDArray[np.intp]
    """The one after that, if there is one."""
    weight: FloatArray
    """Of `upper`; `lower` has the rest."""
    nearest: NDArray[np.intp]
    """The source's voxel that is nearest; of two the upper one."""


class _Corners(NamedTuple):
    """Labels and weights around some voxels of the result: one row per corner, in scipy's order."""

    labels: tuple[Labels, ...]
    weights: tuple[FloatArray, ...]


def place_axis(size: int, new_size: int, order: int) -> Axis:
    """Place the voxels of a result as scipy's zoom does with `grid_mode`, to the last bit; edges are extended.

    Args:
        size: voxels of the source.
        new_size: voxels of the result.
        order: 1 between the two voxels around a place, 0 at the nearest voxel.
    """
    places = (np.arange(new_size) + 0.5) * (size / new_size) - 0.5
    below = np.floor(places)
    lower, upper, nearest = (
        np.clip(index, 0, size - 1).astype(np.intp) for index in (below, below + 1, np.floor(places + 0.5))
    )
    if order == 0:
        return Axis(nearest, nearest, np.zeros(new_size), nearest)
    return Axis(lower, upper, places - below, nearest)


def take_largest_share(source: Segmentation, axes: Sequence[Axis]) -> Segmentation:
    """Give each voxel of the result to the label with the largest share of it.

    Of equal shares the nearest voxel's label wins; where that one is not among them, the label of the lowest value, the ignore
    label counting as the highest.

    Args:
        source: (Z, Y, X), integer; any values. `OUTSIDE` is compared as a label and becomes 0.
        axes: where the voxels of the result lie.
    """
    resampled = np.zeros([len(axis.lower) for axis in axes], source.dtype)
    box = mask_box(source != 0)
    if box is None:
        return resampled
    touched = [_touched(axis, *interval) for axis, interval in zip(axes, box, strict=True)]
    for slab in _slabs(touched, source.size, resampled.shape):
        under = [_under(axis, rows) for axis, rows in zip(axes, slab, strict=True)]
        parts = [_cut(axis, rows) for axis, rows in zip(axes, slab, strict=True)]
        resampled[slab] = _resample_slab(source[tuple(under)], parts)
    return resampled


def _touched(axis: Axis, lower: int, upper: int) -> slice:
    """Return which voxels of the result a part of the source may have a share in."""
    found = np.flatnonzero((axis.upper >= lower) & (axis.lower < upper))
    return slice(int(found[0]), int(found[-1]) + 1) if found.size else slice(0, 0)


def _slabs(box: Sequence[slice], source_size: int, shape: Shape) -> Iterator[tuple[slice, ...]]:
    """Cut a box of the result into slabs that are small, as are the parts of the source under them."""
    if any(rows.start == rows.stop for rows in box):
        return
    voxels_per_row = max(math.prod(shape[1:]), source_size // shape[0])
    step = max(1, SLAB // voxels_per_row)
    for start in range(box[0].start, box[0].stop, step):
        yield (slice(start, min(start + step, box[0].stop)), *box[1:])


def _under(axis: Axis, rows: slice) -> slice:
    """Return the source's voxels from which some of the result are made."""
    return slice(int(axis.lower[rows.start]), int(axis.upper[rows.stop - 1]) + 1)


def _cut(axis: Axis, rows: slice) -> Axis:
    """Return a part of an axis, the source's voxels counted from the first that is used."""
    start = axis.lower[rows.start]
    return Axis(
        lower=axis.lower[rows] - start,
        upper=axis.upper[rows] - start,
        weight=axis.weight[rows],
        nearest=axis.nearest[rows] - start,
    )


def _resample_slab(held: Segmentation, axes: Sequence[Axis]) -> Segmentation:
    """Take the nearest labels, then ask for shares where several labels meet."""
    resampled = _look_up(held, [axis.nearest for axis in axes])
    mixed = _look_up(_mixed(held, axes), [axis.lower for axis in axes])
    found = np.nonzero(mixed)
    for start in range(0, len(found[0]), MOST_PLACES):
        places = tuple(index[start : start + MOST_PLACES] for index in found)
        resampled[places] = _vote(resampled[places], _corners(held, axes, places))
    resampled[resampled == OUTSIDE] = 0
    return resampled


def _look_up(array: NDArray[T], columns: Sequence[NDArray[np.intp]]) -> NDArray[T]:
    for number, index in enumerate(columns):
        array = array.take(index, number)
    return array


def _mixed(held: Segmentation, axes: Sequence[Axis]) -> Mask:
    """Return before which voxels of the source several labels meet, along the axes that are interpolated."""
    mixed = np.zeros(held.shape, np.bool_)
    for number, axis in enumerate(axes):
        if axis.weight.any():
            # A cell of eight voxels is mixed if any two differ: each axis joins what the ones before have found.
            here, ahead = ((slice(None),) * number + (part,) for part in (slice(None, -1), slice(1, None)))
            mixed[here] |= mixed[ahead] | (held[here] != held[ahead])
    return mixed


def _corners(held: Segmentation, axes: Sequence[Axis], places: Places) -> _Corners:
    """Return the labels around some voxels of the result, and their weights in linear interpolation."""
    columns = []
    for axis, index in zip(axes, places, strict=True):
        weight = axis.weight[index]
        column = [(axis.lower[index], 1 - weight)]
        # An axis that keeps its voxels has one neighbour, which halves the corners.
        if axis.weight.any():
            column.append((axis.upper[index], weight))
        columns.append(column)
    around = list(product(*columns))
    labels = tuple(held[z, y, x] for (z, _), (y, _), (x, _) in around)
    return _Corners(labels, tuple(down * across * along for (_, down), (_, across), (_, along) in around))


def _vote(nearest: Labels, corners: _Corners) -> Labels:
    """Return the labels with the largest shares, the nearest ones where these have over half."""
    share = _share(nearest, corners)
    unsure = np.flatnonzero(share <= CLEAR)
    labels = tuple(row[unsure] for row in corners.labels)
    few = _Corners(labels, tuple(row[unsure] for row in corners.weights))
    winner = nearest.copy()
    winner[unsure] = _largest(nearest[unsure], share[unsure], few)
    return winner


def _share(label: Labels, corners: _Corners) -> FloatArray:
    """Sum a label's weights; a label per voxel."""
    total = np.zeros(len(label))
    for found, weight in zip(*corners, strict=True):
        total += (found == label) * weight
    return total


def _largest(nearest: Labels, share: FloatArray, corners: _Corners) -> Labels:
    """Return the labels with the largest shares: of equal ones the nearest, else the lowest."""
    best, winner = share.copy(), nearest.copy()
    for label in corners.labels:
        found = _share(label, corners)
        # As long as the nearest label's share is the best, no equal one takes its place.
        is_lower = (best > share) & (_rank(label) < _rank(winner))
        wins = (found > best) | (found == best) & is_lower
        best[wins], winner[wins] = found[wins], label[wins]
    return winner


def _rank(label: Labels) -> NDArray[np.int64]:
    """Order labels by value, the ignore label, which has nnU-Net's highest, last."""
    return np.where(label == IGNORE, np.iinfo(np.int64).max, label.astype(np.int64))


def take_over_half(source: Segmentation, axis: Axis, number: int) -> Segmentation:
    """Give each voxel of the result to the label of over half of it along one axis, of two halves to the background.

    Args:
        source: (Z, Y, X), integer.
        axis: where the voxels of the result lie along the axis.
        number: of the axis.
    """
    lower, upper = source.take(axis.lower, number), source.take(axis.upper, number)
    weight = axis.weight.reshape([-1 if other == number else 1 for other in range(3)])
    taken = np.where(weight > 0.5, upper, np.where(1 - weight > 0.5, lower, 0))
    return np.where(lower == upper, lower, taken)
