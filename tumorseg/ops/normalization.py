"""Intensity normalisation, channel by channel."""

import math
from collections.abc import Iterator, Sequence

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


def normalize(image: Image, specs: Sequence[NormalizationSpec]) -> Image:
    """Return the image with each channel normalised by its own spec.

    Args:
        image: (C, Z, Y, X), cropped.
        specs: one per channel.

    References:
        Isensee et al., Nature Methods 2021 (nnU-Net), supplementary note 2.
    """
    masked = any(isinstance(spec, ZScoreNormalization) and spec.masked for spec in specs)
    mask = nonzero_mask(image) if masked else None
    normalized = np.empty(image.shape, np.float32)
    for channel, spec, target in zip(image, specs, normalized, strict=True):
        _normalize_channel(channel, spec, mask, target)
    return normalized


def _normalize_channel(channel: Image, spec: NormalizationSpec, mask: Mask | None, target: Image) -> None:
    """Write a normalised channel (Z, Y, X) into `target`, without further volumes."""
    match spec:
        case CtNormalization():
            np.clip(channel, spec.lower_hu, spec.upper_hu, out=target)
            _shift_and_scale(target, spec.mean_hu, spec.std_hu)
        case ZScoreNormalization(masked=True):
            inside = np.ones(channel.shape, np.bool_) if mask is None else mask
            target[...] = 0
            if inside.any():
                voxels = np.array(channel[inside], np.float32)
                _zscore(voxels)
                target[inside] = voxels
        case ZScoreNormalization():
            target[...] = channel
            _zscore(target)
        case RescaleNormalization():
            target[...] = channel
            low, high = float(channel.min()), float(channel.max())
            _shift_and_scale(target, low, high - low)
        case RgbNormalization():
            np.divide(channel, np.float32(255), out=target)
        case NoNormalization():
            target[...] = channel


def _zscore(voxels: NDArray[np.float32]) -> None:
    """Bring voxels to mean 0 and deviation 1, in place; sums are in float64, slice by slice."""
    mean = float(voxels.mean(dtype=np.float64))
    squares = sum(float(np.square(part - mean, dtype=np.float64).sum()) for part in _parts(voxels))
    _shift_and_scale(voxels, mean, math.sqrt(squares / voxels.size))


def _parts(voxels: NDArray[np.float32]) -> Iterator[NDArray[np.float32]]:
    rows = voxels.reshape(-1, voxels.shape[-1]) if voxels.ndim > 1 else voxels
    step = max(1, PART * len(rows) // voxels.size)
    return (rows[start : start + step] for start in range(0, len(rows), step))


def _shift_and_scale(voxels: NDArray[np.float32], shift: float, scale: float) -> None:
    voxels -= np.float32(shift)
    voxels /= np.float32(max(scale, STD_FLOOR))
