"""Resampling between voxel grids as one matrix product per axis.

Spline interpolation on a regular grid is separable: along each axis the result is a fixed matrix (spline prefilter
included) times the data. The matrices come from scipy's own spline code, applied once to the identity, so results equal
`skimage.transform.resize(order, mode="edge", anti_aliasing=False)` as nnU-Net calls it, at the price of three matrix
products rather than 64 taps per voxel. Labels go by their shares instead (shares.py).
"""

import math
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from tumorseg.ops.shares import place_axis, take_largest_share, take_over_half
from tumorseg.types import FloatArray, Image, Segmentation, Shape, Spacing

BLOCK = 64
"""Rows of a matrix that are multiplied together."""
NEGLIGIBLE = 1e-7
"""Weights below this are nothing in float32: a spline's matrix is a band, for its prefilter dies away within some 15 voxels."""


class AxisOrders(NamedTuple):
    """Spline order along each of the three axes, and the axis that is handled slice by slice."""

    orders: tuple[int, int, int]
    separate_axis: int | None


def resampled_shape(shape: Shape, spacing_mm: Spacing, new_spacing_mm: Spacing) -> tuple[int, ...]:
    """Return the voxels of the same extent on another spacing, at least 1 per axis.

    Computed in nnU-Net's order, for a last bit decides where the extent is a whole number of voxels and a half.
    """
    sizes = (old / new * size for size, old, new in zip(shape, spacing_mm, new_spacing_mm, strict=True))
    return tuple(max(1, round(size)) for size in sizes)


def separate_axis(spacing_mm: Spacing, new_spacing_mm: Spacing, ratio: float = 3.0) -> int | None:
    """Return the coarse axis that must not be mixed with the fine ones, or None.

    Decided by the present spacing, else by the new one; where several axes tie for the coarsest, none is separate.

    References:
        nnU-Net's rule, with its `ANISO_THRESHOLD` of 3.
    """
    for spacing in (tuple(spacing_mm), tuple(new_spacing_mm)):
        if max(spacing) / min(spacing) > ratio:
            # The last digits of a header must not decide a tie.
            coarsest = [axis for axis, edge in enumerate(spacing) if math.isclose(edge, max(spacing), rel_tol=1e-6)]
            return coarsest[0] if len(coarsest) == 1 else None
    return None


def axis_orders(order: int, separate: int | None, separate_order: int) -> AxisOrders:
    """Return the spline order of each axis."""
    orders = [separate_order if axis == separate else order for axis in range(3)]
    return AxisOrders((orders[0], orders[1], orders[2]), separate)


# Cases of one scanner share sizes; a matrix of 512 x 512 takes 1 MB.
@lru_cache(maxsize=12)
def axis_matrix(size: int, new_size: int, order: int, dtype: type[np.floating[Any]] = np.float32) -> FloatArray:
    """Return the matrix (new_size, size) that resamples along one axis; edges are extended."""
    if size == 1:
        return np.ones((new_size, 1), dtype)
    # Takes a third of a second, which data that need no resampling are spared.
    from scipy import ndimage

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
    # Splines overshoot. Not in place where nothing was resampled: that array is the caller's.
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
            # The first axis of the three is multiplied as one wide matrix.
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
    """Resample a label map: the label with the largest share of a voxel takes it, as `take_largest_share` says.

    Args:
        segmentation: (Z, Y, X), integer; any values. `OUTSIDE` is compared as a label and becomes 0.
        new_shape: voxels (Z, Y, X).
        orders: as from `axis_orders`, 0 or 1; order 0 takes the nearest label. A separate axis follows after the two others, and of
            order 1 it gives a voxel to the label of over half of it, of two halves to the background.

    Returns:
        new_shape, same dtype.

    References:
        `resample_data_or_seg` of nnunetv2 2.8.1 with `is_seg`.
    """
    if segmentation.shape == tuple(new_shape):
        return segmentation
    axes = [place_axis(*one) for one in zip(segmentation.shape, new_shape, orders.orders, strict=True)]
    number = orders.separate_axis
    if number is None:
        return take_largest_share(segmentation, axes)
    size = segmentation.shape[number]
    along, axes[number] = axes[number], place_axis(size, size, 0)
    planes = take_largest_share(segmentation, axes)
    is_blended = orders.orders[number] == 1 and size != new_shape[number]
    return take_over_half(planes, along, number) if is_blended else planes.take(along.nearest, number)
