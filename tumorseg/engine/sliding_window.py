"""Whole images through a network of patches, in slabs.

Tiles are visited slab by slab along the first axis. As soon as no later tile touches a slice, its logits are handed on
and forgotten, so memory grows with classes times one tile's depth, never with classes times the volume.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import product
from typing import NamedTuple

import torch
from torch import Tensor

from tumorseg.schema.plan import Configuration

PLANES_PER_PASS = 8
"""Slices that a network of two axes sees in one batch."""

Forward = Callable[[Tensor], Tensor]
"""A batch of tiles (B, C, Z, Y, X) to its logits (B, K, Z, Y, X); device and precision are the forward's own affair."""

LEAST_WEIGHT = 6e-9
"""Of a tile's corners, as a share of the weight in its middle: the least that nnU-Net's half precision holds."""


class Tiling(NamedTuple):
    """Size, overlap and weights of tiles, and how many go through the network at once."""

    patch_size: tuple[int, int, int]
    """Voxels of a tile; the first may be a stack of planes for a network of two axes."""
    overlap: float
    """Share of a tile that the next one covers again; planes are never covered twice."""
    gaussian_sigma: float
    """Width of a tile's weights as a share of its edge."""
    is_planar: bool
    """Whether the network sees planes, so that only Y and X are weighted and overlap."""
    batch_size: int = 1
    """Tiles in one pass; stacks of planes where `is_planar`."""


def tiling_of(configuration: Configuration) -> Tiling:
    """Return how images are cut for a configuration."""
    inference = configuration.inference
    is_planar = configuration.num_axes == 2
    patch = (*((PLANES_PER_PASS,) if is_planar else ()), *configuration.patch_size)
    return Tiling((patch[0], patch[1], patch[2]), inference.overlap, inference.gaussian_sigma, is_planar)


class Slab(NamedTuple):
    """Finished logits of consecutive slices."""

    start: int
    """First slice along the first axis."""
    logits: Tensor
    """(K, D, Y, X), float32, weighted mean of all tiles."""


def tile_starts(size: int, tile: int, overlap: float) -> list[int]:
    """Return where tiles begin along an axis: evenly spread, covering all, as far apart as the overlap allows.

    References:
        nnU-Net's `compute_steps_for_sliding_window`.
    """
    if size <= tile:
        return [0]
    # At least 2, as the axis is longer than a tile.
    num_steps = math.ceil((size - tile) / (tile * (1 - overlap))) + 1
    return [round((size - tile) / (num_steps - 1) * step) for step in range(num_steps)]


def gaussian_weights(tile: Sequence[int], sigma: float) -> Tensor:
    """Return the weight of each voxel of a tile, float32: 1 in the middle, never 0.

    Of two middle voxels the second one counts, so that a network of nnU-Net gives what it gives there.

    References:
        nnU-Net's `compute_gaussian`.
    """
    weights = torch.ones(())
    for size in tile:
        position = torch.arange(size, dtype=torch.float32) - size // 2
        # However narrow the weights are, the middle is divided by more than 0.
        weights = weights[..., None] * torch.exp(-0.5 * (position / max(size * sigma, 1e-6)) ** 2)
    return weights.clamp(min=LEAST_WEIGHT)


def predict_slabs(image: Tensor, forward: Forward, tiling: Tiling, *, num_outputs: int) -> Iterator[Slab]:
    """Yield the logits of an image from the first slice to the last.

    Args:
        image: (C, Z, Y, X); smaller than a tile is padded with 0, evenly on both sides.
        forward: tiles to logits, on any device.
        tiling: how the image is cut.
        num_outputs: K.

    Yields:
        Slabs without gaps or overlaps; logits on the device of the forward's result.
    """
    padded, offset = _pad(image, tiling)
    shape = image.shape[1:]
    stop = offset[0] + shape[0]
    inner = (slice(None), slice(offset[1], offset[1] + shape[1]), slice(offset[2], offset[2] + shape[2]))
    for start, logits in _slabs(padded, forward, tiling, num_outputs):
        first, last = max(start, offset[0]), min(start + logits.shape[1], stop)
        # Some slabs are padding alone.
        if first < last:
            yield Slab(first - offset[0], logits[:, first - start : last - start][(slice(None), *inner)])


def _pad(image: Tensor, tiling: Tiling) -> tuple[Tensor, list[int]]:
    """Return the image, padded to a tile at least, and where it begins in it; stacks of planes are not padded."""
    wanted = list(tiling.patch_size)
    if tiling.is_planar:
        wanted[0] = 1
    missing = [max(0, tile - size) for tile, size in zip(wanted, image.shape[1:], strict=True)]
    before = [width // 2 for width in missing]
    widths: list[int] = []
    # torch pads from the last axis to the first.
    for low, width in zip(reversed(before), reversed(missing), strict=True):
        widths += [low, width - low]
    return torch.nn.functional.pad(image, widths), before


def _slabs(image: Tensor, forward: Forward, tiling: Tiling, num_outputs: int) -> Iterator[tuple[int, Tensor]]:
    depth = min(tiling.patch_size[0], image.shape[1])
    tile = (depth, *tiling.patch_size[1:])
    rows = _row_starts(image.shape[1], depth, tiling)
    columns = list(_plane_starts(image.shape[2:], tile[1:], tiling.overlap))
    corners = [(start, y, x) for start, (y, x) in product(rows, columns)]
    tile_logits = _tile_logits(image, forward, corners, tile=tile, batch_size=tiling.batch_size)
    # A network of planes sees each slice of a stack by itself, so none of them weighs less.
    plane = gaussian_weights(tile[1:] if tiling.is_planar else tile, tiling.gaussian_sigma)
    weights = plane.expand(tile)
    sums, norm, base = None, None, 0
    for start, following in zip(rows, [*rows[1:], image.shape[1]], strict=True):
        for y, x in columns:
            logits = next(tile_logits)
            # Only the first logits tell the device.
            if sums is None or norm is None:
                sums = logits.new_zeros((num_outputs, depth, *image.shape[2:]))
                norm = logits.new_zeros((depth, *image.shape[2:]))
                weights = weights.to(logits.device)
            if base != start:
                sums, norm, base = _advance(sums, start - base), _advance(norm[None], start - base)[0], start
            window = (slice(None), slice(y, y + tile[1]), slice(x, x + tile[2]))
            sums[(slice(None), *window)] += logits * weights
            norm[window] += weights
        if sums is not None and norm is not None:
            # No later tile touches the slices before the next row's first one.
            finished = min(following - start, depth)
            yield start, sums[:, :finished] / norm[:finished]


def _tile_logits(
    image: Tensor, forward: Forward, corners: Sequence[tuple[int, int, int]], *, tile: Sequence[int], batch_size: int
) -> Iterator[Tensor]:
    """Yield the logits (K, *tile) at each corner, computed batch by batch when the first of a batch is asked for."""
    for first in range(0, len(corners), batch_size):
        windows = [_window(corner, tile) for corner in corners[first : first + batch_size]]
        parts = [image[window] for window in windows]
        batch = torch.stack(parts) if len(parts) > 1 else parts[0][None]  # of one tile no copy is made
        yield from forward(batch).float()


def _window(corner: Sequence[int], tile: Sequence[int]) -> tuple[slice, ...]:
    """Return the index of a tile in an image (C, Z, Y, X)."""
    return (slice(None), *(slice(start, start + size) for start, size in zip(corner, tile, strict=True)))


def _row_starts(size: int, depth: int, tiling: Tiling) -> list[int]:
    """Return the first slices of rows of tiles; stacks of planes follow each other, the last one moved back."""
    if not tiling.is_planar:
        return tile_starts(size, depth, tiling.overlap)
    return sorted({min(start, size - depth) for start in range(0, size, depth)})


def _plane_starts(size: Sequence[int], tile: Sequence[int], overlap: float) -> Iterator[tuple[int, int]]:
    y_starts = tile_starts(size[0], tile[0], overlap)
    return product(y_starts, tile_starts(size[1], tile[1], overlap))


def _advance(buffer: Tensor, steps: int) -> Tensor:
    """Forget the first slices of a buffer (K, D, Y, X) and make room for as many at its end."""
    return torch.cat([buffer[:, steps:], torch.zeros_like(buffer[:, :steps])], dim=1)
