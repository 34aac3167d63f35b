"""Intensity normalisation, channel by channel."""

from collections.abc import Sequence

import numpy as np

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
    return np.stack([_normalize_channel(channel, spec, mask) for channel, spec in zip(image, specs, strict=True)])


def _normalize_channel(channel: Image, spec: NormalizationSpec, mask: Mask | None) -> Image:
    match spec:
        case CtNormalization():
            clipped = np.clip(channel, spec.lower_hu, spec.upper_hu)
            return _as_float32((clipped - spec.mean_hu) / max(spec.std_hu, STD_FLOOR))
        case ZScoreNormalization(masked=True):
            return _zscore_inside(channel, np.ones(channel.shape, np.bool_) if mask is None else mask)
        case ZScoreNormalization():
            return _zscore(channel)
        case RescaleNormalization():
            low, high = float(channel.min()), float(channel.max())
            return _as_float32((channel - low) / max(high - low, STD_FLOOR))
        case RgbNormalization():
            return _as_float32(channel / 255.0)
        case NoNormalization():
            return _as_float32(channel)


def _zscore(channel: Image) -> Image:
    mean, std = channel.mean(dtype=np.float64), channel.std(dtype=np.float64)
    return _as_float32((channel - np.float32(mean)) / np.float32(max(std, STD_FLOOR)))


def _zscore_inside(channel: Image, mask: Mask) -> Image:
    normalized = np.zeros_like(channel, dtype=np.float32)
    if mask.any():
        normalized[mask] = _zscore(channel[mask])
    return normalized


def _as_float32(array: Image) -> Image:
    return np.asarray(array, dtype=np.float32)
