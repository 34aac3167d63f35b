"""Thumbnails of images: small arrays that show how a channel looks, wherever it lies and whatever its unit."""

import base64
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from tumorseg.types import Box, FloatArray

Counts = NDArray[np.int64]
"""Voxels at each position along an axis."""

SIZE = 10
"""Cells along each axis: enough to tell left from right, few enough to be learned from some cases."""
LIMIT = 3.0
"""Cells are cut off at so many standard deviations of the thumbnail."""
STEPS = 40.0
"""Stored steps of one standard deviation: 3 of them fit a byte."""


def make_thumbnail(plane_at: Callable[[int], FloatArray], box: Box) -> FloatArray | None:
    """Return an image's means over equal cells of a box, with mean 0 and standard deviation 1.

    Voxels count in each cell by the part of them that lies in it, so that the thumbnail of a mirrored image is the mirrored
    thumbnail: what comes from the grid must not look like a side.

    Args:
        plane_at: returns the slice (Y, X) of the image at a position along Z; one at a time, as a copy of a large CT takes half a GB.
        box: within the image.

    Returns:
        (SIZE, SIZE, SIZE) float32 within ±LIMIT; None where all cells are alike.
    """
    depth, down, across = (_cell_weights(high - low) for low, high in box)
    first, rows, columns = (slice(low, high) for low, high in box)
    cells = np.zeros((SIZE, SIZE, SIZE))
    for weights, position in zip(depth.T, range(first.start, first.stop), strict=True):
        # Not by BLAS, whose threads would wait for those of the network.
        rows_of_cells = np.einsum("iy,yx->ix", down, plane_at(position)[rows, columns])
        cells += weights[:, None, None] * np.einsum("ix,jx->ij", rows_of_cells, across)
    spread = float(cells.std())
    # Rounding alone makes equal cells differ in the last digits.
    if spread <= 1e-6 * max(1.0, float(np.abs(cells).max())):
        return None
    thumbnail: FloatArray = np.clip((cells - cells.mean()) / spread, -LIMIT, LIMIT).astype(np.float32)
    return thumbnail


def _cell_weights(size: int) -> FloatArray:
    """Return the share (SIZE, size) of each voxel of an axis in the mean of each cell."""
    edges = np.arange(SIZE + 1) * (size / SIZE)
    voxels = np.arange(size)
    overlap = np.minimum(edges[1:, None], voxels + 1) - np.maximum(edges[:-1, None], voxels)
    shares: FloatArray = np.maximum(overlap, 0) / (size / SIZE)
    return shares


def body_box(counts: Sequence[Counts], share: float) -> Box:
    """Return the box between the voxels that leave at most a small share of a mask outside at each end of each axis.

    Args:
        counts: voxels of the mask at each position along each axis.
        share: of the mask, left outside; so that single voxels of noise do not move the box.

    Returns:
        The whole extent where the mask is empty.
    """
    box = []
    for along in counts:
        # Whole numbers, counted from either end, so that a mirrored mask has the mirrored box.
        most = share * int(along.sum())
        first = int(np.argmax(np.cumsum(along) > most))
        last = int(np.argmax(np.cumsum(along[::-1]) > most))
        box.append((first, len(along) - last))
    return tuple(box)


def encode_thumbnail(thumbnail: FloatArray) -> str:
    """Return a thumbnail as text: base64 of bytes in steps of 1 / STEPS."""
    return base64.b64encode(np.round(thumbnail * STEPS).astype(np.int8).tobytes()).decode("ascii")


def decode_thumbnail(text: str) -> FloatArray:
    """Return the thumbnail (SIZE, SIZE, SIZE), float32, of such text."""
    stored = np.frombuffer(base64.b64decode(text), np.int8).reshape(SIZE, SIZE, SIZE)
    thumbnail: FloatArray = stored.astype(np.float32) / np.float32(STEPS)
    return thumbnail


def encode_numbers(values: FloatArray) -> str:
    """Return numbers as text: base64 of float32, little endian."""
    # Rounded to what another processor computes, too.
    rounded = np.array([float(f"{value:.5g}") for value in values.ravel()], "<f4")
    return base64.b64encode(rounded.tobytes()).decode("ascii")


def decode_numbers(text: str) -> FloatArray:
    """Return the numbers (N,) of such text, float64."""
    return np.frombuffer(base64.b64decode(text), "<f4").astype(np.float64)
