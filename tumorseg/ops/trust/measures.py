"""Measurements by which an image may be unlike a training's images, and what thumbnails are compared by."""

from collections.abc import Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tumorseg.ops.trust.thumbnails import decode_thumbnail
from tumorseg.schema.dataset import ChannelKind
from tumorseg.schema.trust import ChannelProfile, ImageProfile, RuleKind
from tumorseg.types import FloatArray

COMPARED_LEVELS = (0, 2, 4)
"""Positions in LEVEL_PERCENTILES that are looked at: percentiles 5, 50 and 95."""
ABSOLUTE = ("ct", "pet")
"""Kinds of channels whose intensities have a unit."""
LEAST_PART = 0.01
"""Of the spread within an image: levels below it are not told apart where the unit is arbitrary."""
MOST_FITTED = 200
"""Images from which thumbnails are learned; more hardly change a mean."""
LEAST_NOISE = 0.2
"""Of an aspect, as a part of its size."""
RIDGE = 0.5
"""Penalty, as a part of the squared length of what is compared."""


Positions = NDArray[np.int64]
"""Whole numbers (N,): places among cases, or their parts."""


class Measure(NamedTuple):
    """What is measured of an image; see `schema.trust.Rule`."""

    kind: RuleKind
    of: tuple[int, ...]


class Units(NamedTuple):
    """How levels are put on a scale."""

    channels: tuple[float | None, ...]
    """Of each channel; None where levels are compared as they are."""
    common: float
    """Of channels that are compared with each other."""
    absolute: tuple[bool, ...]
    """Whether the levels of a channel mean something by themselves."""


class Weights(NamedTuple):
    """What tells an image from the same one changed."""

    numbers: FloatArray
    """(N,), one for each number of all aspects."""
    noises: tuple[float, ...]
    """Of each aspect."""


def units_of(profiles: Sequence[ImageProfile], kinds: Sequence[ChannelKind | None]) -> Units:
    """Return on what scale the levels of a training's images are compared.

    Intensities of CT mean something by themselves. Those of others often do not: they are compared by their logarithm, but
    for what is small beside the spread within images, so that 0 and negative ones have a place, too.
    """
    spreads = [_spreads(profiles, number) for number in range(len(kinds))]
    typical = [float(np.median(found)) * LEAST_PART if found else 1.0 for found in spreads]
    channels = [None if kind == "ct" else unit for kind, unit in zip(kinds, typical, strict=True)]
    return Units(tuple(channels), float(np.median(typical)), tuple(kind in ABSOLUTE for kind in kinds))


def _spreads(profiles: Sequence[ImageProfile], number: int) -> list[float]:
    """Return the middle half of each image's intensities in a channel, where there is any width."""
    levels = [profile.channels[number].levels for profile in profiles]
    return [found[3] - found[1] for found in levels if found is not None and found[3] > found[1]]


def on_scale(level: float, unit: float | None) -> float:
    """Return a level on the scale of its unit: as it is, or about the logarithm of how often it holds the unit."""
    return level if unit is None else float(np.arcsinh(level / unit))


def plain_measures(profile: ImageProfile, units: Units) -> dict[Measure, float]:
    """Return what needs no comparison with other images; channels that show nothing lack theirs."""
    found: dict[Measure, float] = {}
    for axis in range(3):
        found[Measure("spacing", (axis,))] = float(np.log(profile.spacing_mm[axis]))
        found[Measure("extent", (axis,))] = float(np.log(profile.spacing_mm[axis] * profile.shape[axis]))
        found[Measure("body", (axis,))] = float(np.log(profile.body_mm[axis]))
        for end, share in enumerate(profile.edges[axis]):
            found[Measure("edge", (axis, end))] = share
    for number, channel in enumerate(profile.channels):
        if not channel.is_absent:
            found[Measure("empty", (number,))] = float(channel.is_empty)
        if channel.levels is not None:
            found |= _intensities(number, channel, units)
    for pair, correlation in zip(pairs_of(profile), profile.correlations, strict=True):
        if correlation is not None:
            found[Measure("correlation", pair)] = stretched(correlation)
    return found


def _intensities(number: int, channel: ChannelProfile, units: Units) -> dict[Measure, float]:
    assert channel.levels is not None
    unit = units.channels[number]
    found = {Measure("zeros", (number,)): channel.share_zero}
    for position in COMPARED_LEVELS:
        found[Measure("level", (number, position))] = on_scale(channel.levels[position], unit)
    return found


def pairs_of(profile: ImageProfile) -> list[tuple[int, int]]:
    """Return the pairs of an image's channels in the order in which correlations are kept."""
    return list(combinations(range(len(profile.channels)), 2))


def stretched(correlation: float) -> float:
    """Return Fisher's transform of a correlation, whose spread does not depend on how high it is."""
    return float(np.arctanh(np.clip(correlation, -0.999, 0.999)))


def thumbnails_of(profile: ImageProfile) -> list[FloatArray | None]:
    """Return the thumbnail (SIZE, SIZE, SIZE) of each channel; None where it shows nothing."""
    texts = [channel.thumbnail for channel in profile.channels]
    return [None if text is None else decode_thumbnail(text) for text in texts]


def antisymmetric(profile: ImageProfile, measure: Measure, units: Units) -> list[FloatArray] | None:
    """Return numbers that change their sign when the image is mirrored, or two channels are exchanged.

    Args:
        profile: the image's.
        measure: `flip` of an axis or `swap` of two channels.
        units: of its levels.

    Returns:
        (N,) for each aspect, the same ones in the same order for every image; None where a channel that counts shows nothing.
    """
    if measure.kind == "swap":
        return _differences(profile, measure.of, units)
    odd: list[FloatArray] = []
    for channel in profile.channels:
        if channel.overview is None:
            return None
        shown = decode_thumbnail(channel.overview)
        odd.append((shown - np.flip(shown, measure.of[0])).ravel() / 2)
    return odd


def _differences(profile: ImageProfile, pair: Sequence[int], units: Units) -> list[FloatArray] | None:
    """Return how two channels differ: in what the body holds, in levels, in their shape, and in how they go with others."""
    one, other = pair
    first, second = profile.channels[one], profile.channels[other]
    if first.thumbnail is None or second.thumbnail is None or first.levels is None or second.levels is None:
        return None
    pictures = decode_thumbnail(first.thumbnail) - decode_thumbnail(second.thumbnail)
    aspects: list[FloatArray] = [pictures.ravel(), np.subtract(_shape(first.levels), _shape(second.levels))]
    if units.absolute[one] or units.absolute[other]:
        aspects.append(_heights(first.levels, units) - _heights(second.levels, units))
    known = dict(zip(pairs_of(profile), profile.correlations, strict=True))
    relations = []
    for third in range(len(profile.channels)):
        if third not in (one, other):
            left, right = known[_pair(one, third)], known[_pair(other, third)]
            # A third channel that shows nothing does not tell the two apart.
            relations.append(0.0 if left is None or right is None else left - right)
    return [*aspects, np.array(relations)]


def _heights(levels: Sequence[float], units: Units) -> FloatArray:
    return np.array([on_scale(levels[place], units.common) for place in COMPARED_LEVELS])


def _shape(levels: Sequence[float]) -> FloatArray:
    """Return what the distribution of intensities looks like, whatever its unit: how far its ends are out, in quartile ranges."""
    low, first, middle, third, high = levels
    width = max(third - first, 1e-6 * max(abs(high), abs(low), 1e-30))
    return np.arcsinh(np.array([middle - low, high - middle]) / width)


def _pair(one: int, other: int) -> tuple[int, int]:
    return min(one, other), max(one, other)


def evenly(count: int, most: int) -> list[int]:
    """Return positions of at most so many of `count` things, at even distances."""
    kept = min(count, most)
    return [number * count // kept for number in range(kept)]


def fit_direction(rows: Sequence[Sequence[FloatArray]]) -> Weights:
    """Return weights that give about 1 for each image: ridge regression without an intercept.

    The same image mirrored, or with the two channels exchanged, gives minus what it gives, so that the sign tells which of the two one
    has. Each aspect counts by how much more alike it is between images than it is large.

    Args:
        rows: (N,) for each aspect of each image, of one at least.

    References:
        Hoerl, Kennard (1970). Ridge Regression. Technometrics 12.
    """
    aspects = [np.stack(one).astype(np.float64) for one in zip(*rows, strict=True)]
    noises = tuple(float(f"{_noise(one):.6g}") for one in aspects)
    compared = np.stack([_pointing(row, noises) for row in rows])
    # Not by BLAS: so few numbers are not worth threads, which wait long where others keep the cores busy.
    gram = np.einsum("in,jn->ij", compared, compared)
    # In the space of images, of which there are fewer than numbers; each has a length of 1.
    dual = np.linalg.solve(gram + RIDGE * np.eye(len(gram)), np.ones(len(gram)))
    weights: FloatArray = np.einsum("in,i->n", compared, dual)
    return Weights(weights, noises)


def side_of(row: Sequence[FloatArray], weights: Weights) -> float:
    """Return about 1 for an image like those that weights were learned from, about -1 for a changed one."""
    return float(_pointing(row, weights.noises) @ weights.numbers)


def _pointing(row: Sequence[FloatArray], noises: Sequence[float]) -> FloatArray:
    """Return the direction in which an image differs from its changed self: all aspects (N,), of length 1."""
    numbers = np.concatenate([aspect / noise for aspect, noise in zip(row, noises, strict=True)])
    # How much it differs is another matter: it says little of which one it is.
    length = float(np.linalg.norm(numbers))
    direction: FloatArray = numbers / length if length else numbers
    return direction


def _noise(aspect: FloatArray) -> float:
    """Return by how much an aspect (images, N) differs between images, taken together; of one image, how large it is."""
    size = float(np.sqrt(np.square(aspect).sum(axis=1).mean()))
    differing = float(np.sqrt(aspect.var(axis=0, ddof=1).sum())) if len(aspect) > 1 else size
    # What a few images have in common to the last digit may be chance.
    return max(differing, LEAST_NOISE * size, 1e-12)


def mean_thumbnail(thumbnails: Sequence[FloatArray]) -> FloatArray:
    """Return the mean of thumbnails (SIZE, SIZE, SIZE), of one at least."""
    mean: FloatArray = np.mean(thumbnails, axis=0, dtype=np.float64)
    return mean


def fit_to(thumbnail: FloatArray, template: FloatArray) -> float:
    """Return how well a thumbnail goes with a template: Fisher's transform of their correlation."""
    one, other = (array.ravel() - array.mean() for array in (thumbnail, template))
    length = float(np.linalg.norm(one) * np.linalg.norm(other))
    return stretched(float(one @ other) / length) if length else 0.0
