"""Histograms flattened, of a channel as a whole or around each voxel.

Tables are made on the CPU of whole numbers, so that they are the same for all devices.

References:
    Pizer et al., Adaptive histogram equalization and its variations, Comput Vision Graph 1987.
    Zuiderveld, Contrast limited adaptive histogram equalization, Graphics Gems IV, 1994.
"""

import math
from collections.abc import Sequence
from itertools import product
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from tumorseg.augmentation.dice import Dice, draw_channels, draw_each
from tumorseg.augmentation.parts import parts
from tumorseg.augmentation.picking import picked
from tumorseg.augmentation.samples import Sample
from tumorseg.schema.transforms.base import PatchFacts
from tumorseg.schema.transforms.histograms import Clahe, HistogramEqualization

BINS, TILE_BINS = 1024, 128
"""Bins of a channel's histogram, and of a tile's."""
TAIL = 0.005
"""Share of voxels at either end that is left alone: a few bright vessels would else press all others together."""


class EqualizationDraw(NamedTuple):
    """How far the histogram of each channel is flattened."""

    channels: tuple[int, ...]
    strengths: tuple[float, ...]


class ClaheDraw(NamedTuple):
    """Tiles and clipping for each channel."""

    channels: tuple[int, ...]
    tiles: tuple[int, ...]
    """Along the longest axis."""
    clip_limits: tuple[float, ...]
    """Most that a bin holds, as a multiple of the mean."""


def draw_equalization(transform: HistogramEqualization, facts: PatchFacts, dice: Dice) -> EqualizationDraw | None:
    """Decide the channels and the strengths."""
    channels = draw_channels(transform, facts, dice)
    strengths = draw_each(transform, channels, lambda: dice.uniform(transform.strength))
    return EqualizationDraw(channels, strengths) if channels else None


def apply_equalization(sample: Sample, draw: EqualizationDraw, facts: PatchFacts) -> Sample:
    """Blend each channel with itself equalised."""
    for channel, strength in zip(draw.channels, draw.strengths, strict=True):
        values = _stack(sample.image[channel])
        window = _window_of(values)
        if window is not None:
            _flatten(values, window, strength)
    return sample


def draw_clahe(transform: Clahe, facts: PatchFacts, dice: Dice) -> ClaheDraw | None:
    """Decide the channels, their tiles and limits."""
    channels = draw_channels(transform, facts, dice)
    pairs = draw_each(transform, channels, lambda: (dice.integer(transform.tiles), dice.uniform(transform.clip_limit)))
    tiles, limits = tuple(count for count, _ in pairs), tuple(limit for _, limit in pairs)
    return ClaheDraw(channels, tiles, limits) if channels else None


def apply_clahe(sample: Sample, draw: ClaheDraw, facts: PatchFacts) -> Sample:
    """Equalise each channel around each voxel."""
    for channel, count, limit in zip(draw.channels, draw.tiles, draw.clip_limits, strict=True):
        values = _stack(sample.image[channel])
        window = _window_of(values)
        if window is not None:
            longest = max(values.shape)
            tiles = [max(1, round(count * size / longest)) for size in values.shape]
            _flatten_locally(values, window, tiles, limit=limit)
    return sample


class _Window(NamedTuple):
    """Part of a channel's intensities that is equalised; 0 and the channel's least value, the background, are no part of any."""

    low: float
    high: float

    def located(self, values: Tensor, num_bins: int) -> tuple[Tensor, Tensor]:
        """Return the bin of each value, and how far it lies from the bin's upper edge, in bins.

        Bins 1 to `num_bins` are inside, each with its upper edge; 0 is below and for the background, one more above.
        """
        places = values.sub(self.low).mul_(num_bins / (self.high - self.low))
        bins = places.ceil().clamp_(0, num_bins + 1)
        # A factor of 0 where the value is 0, in operations that are many times as fast as those on masks.
        bins.mul_(values.sign().abs_())
        return bins.int(), places.sub_(bins)

    def changes(self, shares: Tensor, strength: float) -> tuple[Tensor, Tensor]:
        """Return what is added to values, in each bin a line, from the share of values up to each edge.

        Args:
            shares: (…, bins + 1), from 0 to 1.
            strength: factor of what is added; 1 maps a value to its share of the window.

        Returns:
            What is added at each bin's upper edge, and how much more in a bin (…, bins + 2); nothing outside the window.
        """
        size = self.high - self.low
        added = (shares - torch.linspace(0, 1, shares.shape[-1], dtype=shares.dtype)) * (size * strength)
        return F.pad(added[..., 1:], (1, 1)), F.pad(torch.diff(added), (1, 1))


def _stack(values: Tensor) -> Tensor:
    """Return a view of a channel as planes (planes, H, W), one of them in 2D."""
    return values.reshape(-1, *values.shape[-2:])


def _window_of(values: Tensor) -> _Window | None:
    """Return what of a channel (planes, H, W) is equalised; None where it holds nothing but background."""
    low, high = (float(limit) for limit in values.aminmax())
    if low == high:
        return None
    counts = _counts(values, _Window(low, high), (1, 1, 1), num_bins=BINS).flatten()
    if not counts.any():
        return None
    shares = counts.cumsum(0) / counts.sum()
    # The last edge of a bin with no more than the tail below it, and the first with no more above it.
    first = int((shares <= TAIL).sum())
    last = BINS - int((shares >= 1 - TAIL).sum()) + 1
    step = (high - low) / BINS
    return _Window(low + first * step, low + last * step)


def _flatten(values: Tensor, window: _Window, strength: float) -> None:
    """Blend a channel with itself equalised, in place."""
    counts = _counts(values, window, (1, 1, 1), num_bins=BINS).flatten()
    # No bin holds as many times the mean as there are bins: nothing is clipped.
    tables = window.changes(_cumulated(counts, limit=BINS), strength)
    heights, slopes = (table.to(values) for table in tables)
    for part in parts(values):
        bins, beyond = window.located(part, BINS)
        part += picked(heights, bins).addcmul_(picked(slopes, bins), beyond)


def _flatten_locally(values: Tensor, window: _Window, tiles: Sequence[int], *, limit: float) -> None:
    """Equalise a channel by tables of tiles, interpolated between their middles, in place."""
    shares = _cumulated(_counts(values, window, tiles, num_bins=TILE_BINS), limit)
    heights, slopes = (table.to(values) for table in window.changes(shares, 1.0))
    layers, rows, columns = (
        _Between.of(count, size, values.device) for count, size in zip(tiles, values.shape, strict=True)
    )
    # Of each place in a plane the tables around it, and their weights.
    around = [
        (((row[:, None] * tiles[2] + column) * heights.shape[-1]).int(), down[:, None] * right)
        for (row, down), (column, right) in product(rows.ends(), columns.ends())
    ]
    pieces = parts(values)
    starts = torch.arange(len(pieces[0]), dtype=torch.int32, device=values.device)[:, None, None] * heights[0].numel()
    for number, part in enumerate(pieces):
        here = layers.part(number * len(starts), len(part))
        # Tables of each plane, between those of the tiles before and behind it.
        own = [here.blended(table) for table in (heights, slopes)]
        bins, beyond = window.located(part, TILE_BINS)
        bins += starts[: len(part)]
        height, slope = torch.zeros_like(part), torch.zeros_like(part)
        for table, weight in around:
            index = bins + table
            height.addcmul_(picked(own[0], index), weight)
            slope.addcmul_(picked(own[1], index), weight)
        part += height.addcmul_(slope, beyond)


class _Between(NamedTuple):
    """Where the voxels of an axis lie between the middles of its tiles."""

    lower: Tensor
    """(size,) int64: the tile before each voxel, the first also for those before its middle."""
    upper: Tensor
    """(size,) int64: the tile behind it."""
    weight: Tensor
    """(size,) of the tile behind, from 0 to 1."""

    @classmethod
    def of(cls, count: int, size: int, device: torch.device) -> "_Between":
        """Return those of an axis of so many tiles and voxels."""
        middles = (torch.arange(size, dtype=torch.float32, device=device) + 0.5) * (count / size) - 0.5
        places = middles.clamp_(0, count - 1)
        lower = places.long()
        return cls(lower, (lower + 1).clamp_(max=count - 1), places - lower)

    def part(self, start: int, length: int) -> "_Between":
        """Return those of some voxels."""
        return _Between(*(values.narrow(0, start, length) for values in self))

    def ends(self) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
        """Return the tiles before and behind with their weights."""
        return (self.lower, 1 - self.weight), (self.upper, self.weight)

    def blended(self, tables: Tensor) -> Tensor:
        """Return (size, …): tables (tiles, …) blended for each voxel."""
        return torch.lerp(tables[self.lower], tables[self.upper], self.weight.reshape(-1, *[1] * (tables.ndim - 1)))


def _counts(values: Tensor, window: _Window, tiles: Sequence[int], *, num_bins: int) -> Tensor:
    """Return the histogram of each tile.

    Args:
        values: (planes, H, W).
        window: of the values that count.
        tiles: along each axis.
        num_bins: of each histogram.

    Returns:
        (*tiles, bins) float64 on the CPU.
    """
    layers, rows, columns = (
        torch.arange(size, dtype=torch.int32, device=values.device) * count // size
        for count, size in zip(tiles, values.shape, strict=True)
    )
    width = num_bins + 2
    plane = (rows[:, None] * tiles[2] + columns) * width
    layers = (layers * (tiles[1] * tiles[2] * width))[:, None, None]
    counts = torch.zeros(math.prod(tiles) * width, dtype=torch.int64, device=values.device)
    pieces = parts(values)
    for part, layer in zip(pieces, torch.split(layers, len(pieces[0])), strict=True):
        bins = window.located(part, num_bins)[0].add_(plane).add_(layer)
        counts += torch.bincount(bins.flatten(), minlength=len(counts))
    # The first and the last bin hold what is not in the window.
    return counts.cpu().double().reshape(*tiles, width)[..., 1:-1]


def _cumulated(counts: Tensor, limit: float) -> Tensor:
    """Return the cumulative shares (…, bins + 1) of histograms whose peaks are clipped at a multiple of the mean, 1 or more."""
    num_bins = counts.shape[-1]
    sums = counts.sum(-1, keepdim=True)
    most = limit * sums / num_bins
    clipped = torch.minimum(counts, most)
    # What is cut off fills the room below the limit, everywhere by the same share of it, so that no bin is above it after.
    rooms = most - clipped
    filled = (sums - clipped.sum(-1, keepdim=True)) / rooms.sum(-1, keepdim=True).clamp(min=1e-12)
    # A tile of nothing but background leaves values as they are.
    shares = torch.where(sums > 0, (clipped + filled * rooms) / sums.clamp(min=1), 1 / num_bins)
    return F.pad(shares.cumsum(-1), (1, 0))
