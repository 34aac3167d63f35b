"""Resampling between voxel grids as one matrix product per axis.

Spline interpolation on a regular grid is separable: along each axis the result is a fixed matrix (spline prefilter
included) times the data. The matrices come from scipy's own spline code, applied once to the identity, so results equal
`skimage.transform.resize(order, mode="edge", anti_aliasing=False)` as nnU-Net calls it, at the price of three matrix
products rather than 64 taps per voxel.
"""

import math
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tumorseg.ops.cropping import mask_box
from tumorseg.ops.labels import count_values
from tumorseg.types import FloatArray, Image, Mask, Segmentation, Shape, Spacing

BLOCK = 64
"""Rows of a matrix that are multiplied together."""
NEGLIGIBLE = 1e-7
"""Weights below this are nothing in float32: a spline's matrix is a band, for its prefilter dies away within some 15 voxels."""


TIE = 1e-5
"""Shares of a label this close to a half, more than float32 is off, are summed anew in float64: there the last bit decides."""


class AxisOrders(NamedTuple):
    """Spline order along each of the three axes, and the axis that is handled slice by slice."""

    orders: tuple[int, int, int]
    separate_axis: int | None


def resampled_shape(shape: Shape, spacing_mm: Spacing, new_spacing_mm: Spacing) -> tuple[int, ...]:
    """Return the voxels of the same extent on another spacing, at least 1 per axis."""
    sizes = (size * old / new for size, old, new in zip(shape, spacing_mm, new_spacing_mm, strict=True))
    return tuple(max(1, round(size)) for size in sizes)


def separate_axis(spacing_mm: Spacing, new_spacing_mm: Spacing, ratio: float = 3.0) -> int | None:
    """Return the coarse axis that must not be mixed with the fine ones, or None.

    Decided by the present spacing, else by the new one; where several axes tie for the coarsest, none is separate.

    References:
        nnU-Net's rule, with its `ANISO_THRESHOLD` of 3.
    """
    for spacing in (tuple(spacing_mm), tuple(new_spacing_mm)):
        if max(spacing) / min(spacing) > ratio:
            coarsest = [axis for axis, edge in enumerate(spacing) if math.isclose(edge, max(spacing), rel_tol=1e-6)]
            return coarsest[0] if len(coarsest) == 1 else None
    return None


def axis_orders(order: int, separate: int | None, separate_order: int) -> AxisOrders:
    """Return the spline order of each axis."""
    orders = [separate_order if axis == separate else order for axis in range(3)]
    return AxisOrders((orders[0], orders[1], orders[2]), separate)


@lru_cache(maxsize=12)
def axis_matrix(size: int, new_size: int, order: int, dtype: type[np.floating[Any]] = np.float32) -> FloatArray:
    """Return the matrix (new_size, size) that resamples along one axis; edges are extended."""
    if size == 1:
        return np.ones((new_size, 1), dtype)
    from scipy import ndimage  # takes a third of a second, which data that need no resampling are spared

    identity = np.eye(size)
    matrix = ndimage.zoom(identity, (new_size / size, 1), order=order, mode="nearest", grid_mode=True)
    return np.ascontiguousarray(matrix, dtype=dtype)


def resample_image(image: Image, new_shape: Shape, orders: AxisOrders) -> Image:
    """Resample intensities to a new grid over the same extent.

    Args:
        image: (C, Z, Y, X), float32.
        new_shape: voxels (Z, Y, X).
        orders: as from `axis_orders`.

    Returns:
        (C, *new_shape), kept within each channel's own range (slice by slice where an axis is separate).
    """
    if tuple(image.shape[1:]) == tuple(new_shape):
        return image
    matrices = [
        axis_matrix(old, new, order) for old, new, order in zip(image.shape[1:], new_shape, orders.orders, strict=True)
    ]
    resampled = np.empty((len(image), *new_shape), np.float32)
    for channel, target in zip(image, resampled, strict=True):
        target[...] = _resample_channel(channel, matrices, orders.separate_axis)
    return resampled


def _resample_channel(channel: Image, matrices: Sequence[FloatArray], separate: int | None) -> Image:
    planes = tuple(axis for axis in range(3) if axis != separate)
    in_plane = [matrix if axis in planes else None for axis, matrix in enumerate(matrices)]
    low = channel.min(axis=planes, keepdims=True)
    high = channel.max(axis=planes, keepdims=True)
    resampled = apply_matrices(channel, in_plane)
    resampled = np.clip(resampled, low, high, out=None if resampled is channel else resampled)
    if separate is None:
        return resampled
    return apply_matrices(resampled, [matrix if axis == separate else None for axis, matrix in enumerate(matrices)])


def apply_matrices(array: Image, matrices: Sequence[FloatArray | None]) -> Image:
    """Multiply the last three axes of an array (..., Z, Y, X) by a matrix of its dtype each, where there is one.

    Axes that shrink go first, so that the later products are smaller.
    """
    given = [(axis, matrix) for axis, matrix in enumerate(matrices) if matrix is not None and not _is_identity(matrix)]
    for axis, matrix in sorted(given, key=lambda item: item[1].shape[0] / item[1].shape[1]):
        array = _multiply_axis(array, matrix, axis)
    return array


def _multiply_axis(array: Image, matrix: FloatArray, axis: int) -> Image:
    """Multiply one of the last three axes, block by block of the matrix's rows, by the columns that such a block touches."""
    lead = array.ndim - 3
    shape = (*array.shape[: lead + axis], matrix.shape[0], *array.shape[lead + axis + 1 :])
    product = np.empty(shape, matrix.dtype)
    before = (slice(None),) * (lead + axis)
    for rows, columns in _band(matrix):
        weights, source, target = matrix[rows, columns], array[(*before, columns)], product[(*before, rows)]
        if axis == 2:
            np.matmul(source, weights.T, out=target)
        elif axis == 1:
            np.matmul(weights, source, out=target)
        else:
            planes = (*source.shape[: lead + 1], math.prod(source.shape[lead + 1 :]))
            target[...] = (weights @ source.reshape(planes)).reshape(target.shape)
    return product


def _band(matrix: FloatArray) -> Iterator[tuple[slice, slice]]:
    """Yield blocks of rows, and the columns outside which they hold nothing."""
    for start in range(0, len(matrix), BLOCK):
        rows = slice(start, min(start + BLOCK, len(matrix)))
        touched = np.flatnonzero(np.abs(matrix[rows]).max(axis=0) > NEGLIGIBLE)
        yield rows, slice(int(touched[0]), int(touched[-1]) + 1) if touched.size else slice(0, 1)


def _is_identity(matrix: FloatArray) -> bool:
    return matrix.shape[0] == matrix.shape[1] and bool(np.allclose(matrix, np.eye(len(matrix)), atol=1e-6))


def resample_segmentation(segmentation: Segmentation, new_shape: Shape, orders: AxisOrders) -> Segmentation:
    """Resample a label map label by label: each mask is interpolated and kept from 0.5, later labels winning.

    Every label is handled within its own box, slab by slab, so no one-hot volume is ever held. A border often falls right between
    two voxels; there the last bit decides, and is the one that scipy (and with it nnU-Net) gets.

    Args:
        segmentation: (Z, Y, X), integer; any values.
        new_shape: voxels (Z, Y, X).
        orders: as from `axis_orders`.

    Returns:
        new_shape, same dtype; voxels that no label claims are 0.
    """
    if segmentation.shape == tuple(new_shape):
        return segmentation
    resampled = np.zeros(tuple(new_shape), segmentation.dtype)
    matrices = [
        axis_matrix(old, new, order, np.float64)
        for old, new, order in zip(segmentation.shape, new_shape, orders.orders, strict=True)
    ]
    values = count_values(segmentation)[0]
    for label in values:
        if label != 0 or values[0] < 0:  # the background wins over negative values only
            _paint_label(resampled, segmentation, label, matrices)
    return resampled


def _paint_label(target: Segmentation, source: Segmentation, label: int, matrices: Sequence[FloatArray]) -> None:
    """Paint one label of `source` into `target`, looking only at the label's own box."""
    box = mask_box(source == label)
    if box is None:
        return
    parts, starts = [], []
    for matrix, (lower, upper) in zip(matrices, box, strict=True):
        touched = np.flatnonzero((matrix[:, lower:upper] != 0).any(axis=1))
        first, last = (int(touched[0]), int(touched[-1]) + 1) if touched.size else (0, 0)
        parts.append(matrix[first:last, lower:upper])
        starts.append(first)
    inside = tuple(slice(start, start + len(part)) for start, part in zip(starts[1:], parts[1:], strict=True))
    held = source[tuple(slice(lower, upper) for lower, upper in box)]
    for rows, columns in _band(parts[0]):
        mask = held[columns] == label
        weights = [parts[0][rows, columns], *parts[1:]]
        shares = apply_matrices(mask.astype(np.float32), [np.asarray(part, np.float32) for part in weights])
        claimed = shares >= 0.5
        ties = np.nonzero(np.abs(shares - 0.5) < TIE)
        claimed[ties] = _exact_shares(mask, weights, ties) >= 0.5
        target[starts[0] + rows.start : starts[0] + rows.stop, *inside][claimed] = label


def _exact_shares(mask: Mask, matrices: Sequence[FloatArray], places: tuple[NDArray[np.intp], ...]) -> FloatArray:
    """Return what a mask's interpolation is at some places of the result, summed in scipy's order, bit for bit.

    Args:
        mask: (Z, Y, X).
        matrices: one per axis, of linear or nearest interpolation: two weights a row at most.
        places: indices (N) along each axis of the result.
    """
    columns, weights = [], []
    for matrix, index in zip(matrices, places, strict=True):
        rows = matrix[index]
        first = np.argmax(rows != 0, axis=1)
        second = np.minimum(first + 1, matrix.shape[1] - 1)
        low, high = (np.take_along_axis(rows, column[:, None], axis=1)[:, 0] for column in (first, second))
        columns.append((first, second))
        weights.append((low, np.where(second > first, high, 0.0)))
    total = np.zeros(len(places[0]))
    for z, y, x in np.ndindex(2, 2, 2):
        found = mask[columns[0][z], columns[1][y], columns[2][x]]
        total += found * weights[0][z] * weights[1][y] * weights[2][x]
    return total
