"""Whole images through a network of patches, in slabs.

Tiles are visited slab by slab along the first axis. As soon as no later tile touches a slice, its logits are handed on
and forgotten, so memory grows with classes times one tile's depth, never with classes times the volume.
"""

import math
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import product
from typing import NamedTuple

import torch
from torch import Tensor

from tumorseg.schema.plan import Configuration

PLANES_PER_PASS = 8
"""Slices that a network of two axes sees in one batch."""

Forward = Callable[[Tensor], Tensor]
"""A batch of tiles (B, C, Z, Y, X) to its logits (B, K, Z, Y, X); device and precision are the forward's own affair."""


class BegunForward(ABC):
    """A `Forward` that computes while its caller does something else."""

    @property
    @abstractmethod
    def num_ahead(self) -> int:
        """Return how many batches should be begun beside the one that is asked for next."""

    @abstractmethod
    def begin(self, tiles: Tensor) -> Callable[[], Tensor]:
        """Begin a batch (B, C, Z, Y, X); what is returned waits for its logits (B, K, Z, Y, X)."""

    @abstractmethod
    def __call__(self, tiles: Tensor) -> Tensor:
        """Return the logits of a batch."""


BYTES_PER_SLAB = 64 * 2**20
"""Of the slices that are handed on at once, at least one: they come beside the sums, and are copied on their way."""
LARGE_SUMS_BYTES = 2 * 2**30
"""From here on half as many bytes are spent on the logits of a row of tiles: means in half precision, as nnU-Net always does."""
LARGEST_HALF = 65504.0
"""Of half precision."""
CLASSES_AT_ONCE = 8
"""Of which means are brought up to date at once, so that copies in float32 stay small."""

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
    is_exact: bool = False
    """Whether sums are float32 however large they are."""


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


def num_patches(shape: Sequence[int], tiling: Tiling) -> int:
    """Return how many patches of an image one view of one network sees; planes count one by one.

    Args:
        shape: voxels (Z, Y, X) on the network's grid.
        tiling: how the image is cut.
    """
    wanted = _least_shape(tiling)
    padded = [max(size, least) for size, least in zip(shape, wanted, strict=True)]
    depth = min(tiling.patch_size[0], padded[0])
    rows = _row_starts(padded[0], depth, tiling)
    # Never listed: of a small patch and a large image there are millions.
    plane = zip(padded[1:], tiling.patch_size[1:], strict=True)
    num_tiles = len(rows) * math.prod(len(tile_starts(size, tile, tiling.overlap)) for size, tile in plane)
    return num_tiles * depth if tiling.is_planar else num_tiles


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
    missing = [max(0, tile - size) for tile, size in zip(_least_shape(tiling), image.shape[1:], strict=True)]
    if not any(missing):
        return image, [0, 0, 0]  # padding by nothing would still copy
    before = [width // 2 for width in missing]
    widths: list[int] = []
    # torch pads from the last axis to the first.
    for low, width in zip(reversed(before), reversed(missing), strict=True):
        widths += [low, width - low]
    return torch.nn.functional.pad(image, widths), before


def _least_shape(tiling: Tiling) -> tuple[int, int, int]:
    """Return the voxels to which smaller images are padded."""
    return (1, *tiling.patch_size[1:]) if tiling.is_planar else tiling.patch_size


def _slabs(image: Tensor, forward: Forward, tiling: Tiling, num_outputs: int) -> Iterator[tuple[int, Tensor]]:
    depth = min(tiling.patch_size[0], image.shape[1])
    tile = (depth, *tiling.patch_size[1:])
    rows = _row_starts(image.shape[1], depth, tiling)
    columns = list(_plane_starts(image.shape[2:], tile[1:], tiling.overlap))
    corners = [(start, y, x) for start, (y, x) in product(rows, columns)]
    tile_logits = _tile_logits(image, forward, corners, tile=tile, batch_size=tiling.batch_size)
    # A network of planes sees each slice of a stack by itself, so none of them weighs less.
    plane = gaussian_weights(tile[1:] if tiling.is_planar else tile, tiling.gaussian_sigma)
    sums = _Sums((num_outputs, depth, *image.shape[2:]), plane.expand(tile), is_exact=tiling.is_exact)
    for start, following in zip(rows, [*rows[1:], image.shape[1]], strict=True):
        for y, x in columns:
            sums.add(next(tile_logits), y, x)
        # No later tile touches the slices before the next row's first one.
        finished = min(following - start, depth)
        for first in range(0, finished, sums.slices_per_slab):
            yield start + first, sums.mean(first, min(first + sums.slices_per_slab, finished))
        # Of tiles of one or two voxels two rows may begin at one slice.
        if start < following < image.shape[1]:
            sums.advance(following - start)


class _Sums:
    """Weighted sums of logits over one row of tiles, and of their weights.

    Where they are large, running means in half precision take their place: a sum would leave its range in the corners of tiles,
    where weights are tiny, and a mean stays within that of the logits.
    """

    def __init__(self, shape: tuple[int, ...], weights: Tensor, *, is_exact: bool) -> None:
        """Hold no memory before the first tile, which tells the device.

        Args:
            shape: (K, D, Y, X) of a row.
            weights: (D, tile Y, tile X).
            is_exact: whether it takes float32 however large it is.
        """
        bytes_per_slice = 4 * math.prod((shape[0], *shape[2:]))
        self.slices_per_slab = max(1, BYTES_PER_SLAB // max(1, bytes_per_slice))
        """Slices that are handed on at once."""
        self._shape = shape
        self._weights = weights
        self._holds_means = not is_exact and bytes_per_slice * shape[1] > LARGE_SUMS_BYTES
        self._logits: Tensor | None = None
        self._norm: Tensor | None = None

    def add(self, logits: Tensor, y: int, x: int) -> None:
        """Add the logits (K, D, tile Y, tile X) of the tile that begins at a row and a column."""
        if self._logits is None or self._norm is None:
            dtype = torch.float16 if self._holds_means else torch.float32
            self._logits = logits.new_zeros(self._shape, dtype=dtype)
            self._norm = logits.new_zeros(self._shape[1:])
            self._weights = self._weights.to(logits.device)
        tile = self._weights.shape[1:]
        window = (slice(None), slice(y, y + tile[0]), slice(x, x + tile[1]))
        held, norm = self._logits[(slice(None), *window)], self._norm[window]
        norm += self._weights
        if self._holds_means:
            _draw_towards(held, logits, self._weights / norm)
        else:
            held += logits * self._weights

    def mean(self, first: int, last: int) -> Tensor:
        """Return the weighted mean (K, slices, Y, X) of some slices."""
        assert self._logits is not None
        assert self._norm is not None
        held = self._logits[:, first:last]
        return held.float() if self._holds_means else held / self._norm[first:last]

    def advance(self, steps: int) -> None:
        """Forget the first slices and make room for as many at the end."""
        assert self._logits is not None
        assert self._norm is not None
        _advance(self._logits, steps)
        _advance(self._norm[None], steps)


def _draw_towards(means: Tensor, logits: Tensor, share: Tensor) -> None:
    """Bring running means (K, D, Y, X), half precision, up to date in place; `share` is the new logits' of all weight so far."""
    for first in range(0, len(means), CLASSES_AT_ONCE):
        part = slice(first, first + CLASSES_AT_ONCE)
        drawn = torch.lerp(means[part].float(), logits[part], share)
        # What is beyond the range is as certain at its end; infinity would be taken for a damaged network.
        means[part] = torch.where(drawn.isfinite(), drawn.clamp(-LARGEST_HALF, LARGEST_HALF), drawn)


def _tile_logits(
    image: Tensor, forward: Forward, corners: Sequence[tuple[int, int, int]], *, tile: Sequence[int], batch_size: int
) -> Iterator[Tensor]:
    """Yield the logits (K, *tile) at each corner, a batch at a time, some of which may be begun before they are asked for."""
    num_ahead = forward.num_ahead if isinstance(forward, BegunForward) else 0
    begun: deque[Callable[[], Tensor]] = deque()
    for first in range(0, len(corners), batch_size):
        windows = [_window(corner, tile) for corner in corners[first : first + batch_size]]
        parts = [image[window] for window in windows]
        batch = torch.stack(parts) if len(parts) > 1 else parts[0][None]  # of one tile no copy is made
        begun.append(forward.begin(batch) if isinstance(forward, BegunForward) else partial(forward, batch))
        if len(begun) > num_ahead:
            yield from begun.popleft()().float()
    while begun:
        yield from begun.popleft()().float()


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


def _advance(buffer: Tensor, steps: int) -> None:
    """Forget the first slices of a buffer (K, D, Y, X) and make room for as many at its end, in place."""
    kept = buffer.shape[1] - steps
    # In blocks that do not overlap what they are copied to: a copy of the buffer would double the memory.
    for first in range(0, kept, steps):
        width = min(steps, kept - first)
        buffer[:, first : first + width] = buffer[:, first + steps : first + steps + width]
    buffer[:, max(kept, 0) :].zero_()
