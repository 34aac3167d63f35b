"""Intensity statistics over foreground voxels."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tumorseg.schema.fingerprint import IntensityStatistics
from tumorseg.types import Image, Mask

TOTAL_SAMPLES = 10_000_000
"""Intensities kept of a whole dataset, over cases and channels: 40 MB whatever its size."""
FEWEST_SAMPLES = 128
"""Intensities kept of one case and channel at least."""


def samples_per_case(num_cases: int, num_channels: int) -> int:
    """Return how many intensities are kept of each case and channel at most.

    It is a power of two, so that a few cases more seldom change it: the others need not be measured again then.
    """
    share = max(1, TOTAL_SAMPLES // max(num_cases * num_channels, 1))
    return max(FEWEST_SAMPLES, 1 << (share.bit_length() - 1))


def sample_foreground(
    image: Image, foreground: Mask, count: int, *, rng: np.random.Generator, covered: Sequence[Mask | None] = ()
) -> NDArray[np.float32]:
    """Take all foreground intensities in random order, or draw so many with replacement where there are more.

    Args:
        image: (C, Z, Y, X).
        foreground: (Z, Y, X).
        count: how many at most.
        rng: draws them.
        covered: (Z, Y, X) per channel, the voxels that it covers, None for all. Empty: all of all channels.

    Returns:
        (C, N), the same voxels in every channel, NaN where it does not cover them; (C, 0) where there is no foreground.
    """
    size = int(np.count_nonzero(foreground))
    chosen = rng.permutation(size) if size <= count else rng.integers(size, size=count)
    samples = np.empty((len(image), len(chosen)), np.float32)
    for number, (channel, target) in enumerate(zip(image, samples, strict=True)):
        target[:] = channel[foreground][chosen]
        inside = covered[number] if covered else None
        if inside is not None:
            target[~inside[foreground][chosen]] = np.nan
    return samples


def intensity_statistics(samples: Sequence[NDArray[np.float32]]) -> IntensityStatistics:
    """Return statistics of one channel over the samples (N) of all cases, NaN left out; all 0 where there are none.

    Each case weighs the same: the samples of one that has fewer are repeated, in their random order.
    """
    samples = [part[~np.isnan(part)] for part in samples]
    longest = max((part.size for part in samples), default=0)
    samples = [np.resize(part, longest) for part in samples if part.size]
    # Something to join even where no case has a sample.
    pooled = np.concatenate([*samples, np.zeros(0, np.float32)])
    if pooled.size == 0:
        pooled = np.zeros(1, np.float32)
    mean = math.fsum(float(part.sum(dtype=np.float64)) for part in samples) / pooled.size
    squares = math.fsum(float(np.square(part - mean, dtype=np.float64).sum()) for part in samples)
    least, most = float(pooled.min()), float(pooled.max())
    # Sorted in place: `pooled` is as large as all samples, and is not needed any more.
    low, median, high = np.percentile(pooled, [0.5, 50, 99.5], overwrite_input=True).tolist()
    return IntensityStatistics(
        mean=mean,
        median=median,
        std=math.sqrt(squares / pooled.size),
        min=least,
        max=most,
        percentile_00_5=low,
        percentile_99_5=high,
    )
