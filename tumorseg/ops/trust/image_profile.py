"""The profile of an image: a few kB by which it can be compared with a training's images.

Intensities are those of at most `MOST_VOXELS` voxels, evenly spread, so that percentiles of a large CT take no longer than those of a small
MR.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import combinations
from typing import NamedTuple, TypeVar

import numpy as np

from tumorseg.ops.trust.thumbnails import Counts, body_box, encode_thumbnail, make_thumbnail
from tumorseg.schema.dataset import ChannelKind
from tumorseg.schema.trust import LEVEL_PERCENTILES, ChannelProfile, ImageProfile
from tumorseg.types import Box, FloatArray, Image, Mask, Spacing

T = TypeVar("T")

MOST_VOXELS = 500_000
"""Whose intensities are looked at of a channel."""
BODY_LEVEL = 0.1
"""Background is below this part of the way from the least intensity to percentile 99.5, whatever the unit and its offset."""
PADDING_HU = -1500.0
"""Of CT, what is below is padding around the field of view, of no body."""
OUTSIDE_SHARE = 0.01
"""Of the body, left outside its box at each end of an axis."""
DIGITS = 6
"""Of stored intensities."""


class ProfiledImage(NamedTuple):
    """An image in the plan's axis order, before it is cropped, normalised or resampled."""

    image: Image
    """(C, Z, Y, X)."""
    spacing_mm: Spacing
    """Voxel edges."""
    kinds: Sequence[ChannelKind | None]
    """Of the channels."""
    covered: Sequence[Mask | None] = ()
    """Voxels (Z, Y, X) that each channel covers; None for all of them. Empty: None for each channel."""
    absent: Sequence[int] = ()
    """Channels that the case lacks on purpose."""


class _Channel(NamedTuple):
    """A channel that shows something."""

    image: FloatArray
    """(Z, Y, X)."""
    inside: Mask | None
    """(Z, Y, X), voxels that it covers; None for all."""
    level: float
    """Intensity that separates background and body."""
    least: float
    """Of all that is no padding."""
    low: float
    """In the body, intensities below it count as it does."""
    middle: float
    """Median of the body, which stands for the background in a thumbnail of the body."""
    high: float
    """Intensities above it count as it does: metal and bright vessels would outweigh all that is to be seen."""
    values: FloatArray
    """(Z, Y, X), of the voxels that are looked at."""
    body: Mask
    """(Z, Y, X), which of them are no background."""
    profile: ChannelProfile
    """All but its thumbnail."""

    def body_at(self, position: int) -> Mask:
        """Return what is no background of a slice (Y, X)."""
        body: Mask = self.image[position] > self.level
        return body if self.inside is None else body & self.inside[position]

    def shown_at(self, position: int) -> FloatArray:
        """Return a slice (Y, X) of the whole image as a thumbnail shows it."""
        clipped = np.clip(self.image[position], self.least, self.high)
        return clipped if self.inside is None else np.where(self.inside[position], clipped, np.float32(self.least))

    def body_shown_at(self, position: int) -> FloatArray:
        """Return a slice (Y, X) of the body as a thumbnail shows it."""
        clipped = np.clip(self.image[position], self.low, self.high)
        return np.where(self.body_at(position), clipped, np.float32(self.middle))


def image_profile(found: ProfiledImage) -> ImageProfile:
    """Measure an image.

    Args:
        found: finite intensities.
    """
    steps = sampling_steps(found.image.shape[1:])
    looks = [_look_at(found, number, steps) for number in range(len(found.image))]
    shown = [look for look in looks if isinstance(look, _Channel)]
    counts = _body_counts(found, shown)
    box = body_box(counts, OUTSIDE_SHARE)
    ends = zip(box, found.spacing_mm, strict=True)
    body_mm = [round((high - low) * edge, DIGITS) for (low, high), edge in ends]
    return ImageProfile(
        spacing_mm=_three([float(edge) for edge in found.spacing_mm]),
        shape=_three(list(found.image.shape[1:])),
        body_mm=_three(body_mm),
        edges=_three([_edge_shares(along) for along in counts]),
        channels=tuple(_with_thumbnails(look, box) if isinstance(look, _Channel) else look for look in looks),
        correlations=tuple(_correlations(looks)),
    )


def sampling_steps(shape: Sequence[int]) -> tuple[int, int, int]:
    """Return steps along each axis that leave at most MOST_VOXELS voxels, the most along short axes."""
    steps = [1, 1, 1]
    counts = list(shape)
    while np.prod(counts, dtype=np.int64) > MOST_VOXELS:
        longest = counts.index(max(counts))
        steps[longest] += 1
        counts[longest] = -(-shape[longest] // steps[longest])
    return _three(steps)


def _look_at(found: ProfiledImage, number: int, steps: Sequence[int]) -> _Channel | ChannelProfile:
    """Measure a channel on voxels at even distances; one that shows nothing has nothing but its profile."""
    if number in found.absent:
        return ChannelProfile(is_absent=True)
    sampled = tuple(slice(None, None, step) for step in steps)
    values = np.ascontiguousarray(found.image[number][sampled], np.float32)
    inside = found.covered[number] if found.covered else None
    known = np.ones(values.shape, np.bool_) if inside is None else inside[sampled]
    seen = values[known]
    if not seen.size or np.ptp(seen) == 0:
        return ChannelProfile(share_zero=float(np.mean(values == 0)))
    level = _body_level(seen, found.kinds[number])
    body = (values > level) & known
    low, high = np.percentile(values[body], (0.5, 99.5)).tolist()
    levels = [_rounded(one) for one in np.percentile(values[body], LEVEL_PERCENTILES)]
    profile = ChannelProfile(levels=tuple(levels), share_zero=round(float(np.mean(seen == 0)), DIGITS))
    middle, floor = levels[len(levels) // 2], float(seen.min())
    if found.kinds[number] == "ct":
        floor = max(floor, PADDING_HU)
    return _Channel(
        found.image[number], inside, level, floor, low, middle, high, np.clip(values, low, high), body, profile
    )


def _body_level(seen: FloatArray, kind: ChannelKind | None) -> float:
    """Return the intensity that separates background and body; some voxel is above it."""
    tissue = seen[seen >= PADDING_HU] if kind == "ct" else seen
    values = tissue if tissue.size and np.ptp(tissue) else seen
    least, greatest = float(values.min()), float(np.percentile(values, 99.5))
    return least + BODY_LEVEL * (greatest - least)


def _body_counts(found: ProfiledImage, shown: Sequence[_Channel]) -> list[Counts]:
    """Return how much of the body lies at each position of each axis."""
    counts = [np.zeros(size, np.int64) for size in found.image.shape[1:]]
    if not shown:
        return counts
    # All voxels, as those at even distances of a mirrored image are others.
    for position in range(len(counts[0])):
        plane = _any_body(shown, position)
        down = plane.sum(axis=1)
        counts[0][position] = down.sum()
        counts[1] += down
        counts[2] += plane.sum(axis=0)
    return counts


def _any_body(shown: Sequence[_Channel], position: int) -> Mask:
    """Return what is no background in some channel of a slice (Y, X)."""
    body: Mask = np.logical_or.reduce([channel.body_at(position) for channel in shown])
    return body


def _edge_shares(along: Counts) -> tuple[float, float]:
    most = max(int(along.max()), 1)
    return round(int(along[0]) / most, DIGITS), round(int(along[-1]) / most, DIGITS)


def _with_thumbnails(channel: _Channel, box: Box) -> ChannelProfile:
    whole = tuple((0, size) for size in channel.image.shape)
    return channel.profile.changed(
        thumbnail=_thumbnail(channel.body_shown_at, box), overview=_thumbnail(channel.shown_at, whole)
    )


def _thumbnail(plane_at: Callable[[int], FloatArray], box: Box) -> str | None:
    thumbnail = make_thumbnail(plane_at, box)
    return None if thumbnail is None else encode_thumbnail(thumbnail)


def _correlations(looks: Sequence[_Channel | ChannelProfile]) -> Iterator[float | None]:
    """Yield how each pair of channels goes together where there is body in any channel."""
    bodies = [look.body for look in looks if isinstance(look, _Channel)]
    body = np.logical_or.reduce(bodies) if bodies else None
    inside = [look.values[body].astype(np.float64) if isinstance(look, _Channel) else None for look in looks]
    for one, other in combinations(inside, 2):
        if one is None or other is None or not one.std() or not other.std():
            yield None
            continue
        product = float(np.mean((one - one.mean()) * (other - other.mean())))
        yield float(np.clip(round(product / float(one.std() * other.std()), DIGITS), -1, 1))


def _rounded(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")


def _three(values: Sequence[T]) -> tuple[T, T, T]:
    first, second, third = values
    return first, second, third
