"""Intensity normalisation, channel by channel."""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tumorseg.ops.cropping import nonzero_mask
from tumorseg.schema.preprocessing import (
    CtNormalization,
    NoNormalization,
    NormalizationSpec,
    RescaleNormalization,
    RgbNormalization,
    ZScoreNormalization,
)
from tumorseg.types import Image, Mask

STD_FLOOR = 1e-8
"""Least divisor, so that constant images become 0 (nnU-Net's)."""
PART = 1 << 20
"""Voxels whose squares are held at once."""


def normalize(image: Image, specs: Sequence[NormalizationSpec], covered: Sequence[Mask | None] = ()) -> Image:
    """Return the image with each channel normalised by its own spec.

    Args:
        image: (C, Z, Y, X), cropped.
        specs: one per channel.
        covered: (Z, Y, X) per channel, the voxels that it covers, None for all; the others stay out of its mean, deviation, least
            and greatest value, and are changed like them. Empty: all of all channels.

    References:
        Isensee et al., Nature Methods 2021 (nnU-Net), supplementary note 2.
    """
    masked = any(isinstance(spec, ZScoreNormalization) and spec.masked for spec in specs)
    mask = nonzero_mask(image, covered) if masked else None
    normalized = np.empty(image.shape, np.float32)
    for number, (channel, spec, target) in enumerate(zip(image, specs, normalized, strict=True)):
        inside = covered[number] if covered else None
        _normalize_channel(channel, spec, Masks(mask, inside), target=target)
    return normalized


class Masks(NamedTuple):
    """Voxels (Z, Y, X) of a channel; None for all."""

    nonzero: Mask | None
    """Those that are not 0 in some channel."""
    covered: Mask | None
    """Those that the channel covers."""


def _normalize_channel(channel: Image, spec: NormalizationSpec, masks: Masks, *, target: Image) -> None:
    """Write a normalised channel (Z, Y, X) into `target`, without further volumes."""
    match spec:
        case CtNormalization():
            np.clip(channel, spec.lower_hu, spec.upper_hu, out=target)
            _shift_and_scale(target, spec.mean_hu, spec.std_hu)
        case ZScoreNormalization(masked=True):
            inside = np.ones(channel.shape, np.bool_) if masks.nonzero is None else masks.nonzero
            target[...] = 0
            if inside.any():
                voxels = np.array(channel[inside], np.float32)
                _zscore(voxels, None if masks.covered is None else masks.covered[inside])
                target[inside] = voxels
        case ZScoreNormalization():
            target[...] = channel
            _zscore(target, masks.covered)
        case RescaleNormalization():
            target[...] = channel
            known = channel if masks.covered is None else channel[masks.covered]
            # `initial` stands in where the channel covers nothing here; it changes no other extreme.
            low, high = float(known.min(initial=channel.max())), float(known.max(initial=channel.min()))
            _shift_and_scale(target, low, high - low)
        case RgbNormalization():
            np.divide(channel, np.float32(255), out=target)
        case NoNormalization():
            target[...] = channel


def _zscore(voxels: NDArray[np.float32], covered: Mask | None) -> None:
    """Bring the covered voxels to mean 0 and deviation 1, and change the others like them, in place."""
    known = voxels if covered is None or not covered.any() else voxels[covered]
    # Sums in float64, part by part: no wide copy of the whole.
    mean = float(known.mean(dtype=np.float64))
    squares = sum(float(np.square(part - mean, dtype=np.float64).sum()) for part in _parts(known))
    _shift_and_scale(voxels, mean, math.sqrt(squares / known.size))


def _parts(voxels: NDArray[np.float32]) -> Iterator[NDArray[np.float32]]:
    rows = voxels.reshape(-1, voxels.shape[-1]) if voxels.ndim > 1 else voxels
    step = max(1, PART * len(rows) // voxels.size)
    return (rows[start : start + step] for start in range(0, len(rows), step))


def _shift_and_scale(voxels: NDArray[np.float32], shift: float, scale: float) -> None:
    voxels -= np.float32(shift)
    voxels /= np.float32(max(scale, STD_FLOOR))
