"""Changes of intensity; labels stay as they are."""

import torch
from torch import Tensor

from tumorseg.augmentation.draws import draw_chance, draw_factor, draw_uniform
from tumorseg.schema.augmentation import Brightness, Contrast, GaussianNoise


def gaussian_noise(images: Tensor, *, transform: GaussianNoise, generator: torch.Generator) -> Tensor:
    """Add white noise of one standard deviation per sample to the samples that drew it.

    Args:
        images: (B, C, *space).
        transform: probability and range of standard deviations.
        generator: a CPU generator.
    """
    chosen = draw_chance(transform.probability, (len(images),), generator).nonzero().flatten()
    if len(chosen) == 0:
        return images
    std = draw_uniform(transform.std, (len(chosen), *(1 for _ in images.shape[1:])), generator)
    noise = torch.randn((len(chosen), *images.shape[1:]), generator=generator) * std
    return images.index_add(0, chosen.to(images.device), noise.to(images))


def brightness(images: Tensor, *, transform: Brightness, generator: torch.Generator) -> Tensor:
    """Multiply each channel of the samples that drew it by its own factor.

    Args:
        images: (B, C, *space).
        transform: probability and range of factors.
        generator: a CPU generator.
    """
    factors = _channel_factors(images, transform, generator)
    return images if factors is None else images * factors


def contrast(images: Tensor, *, transform: Contrast, generator: torch.Generator) -> Tensor:
    """Stretch each channel about its mean, clamped to its own former range, in the samples that drew it.

    Args:
        images: (B, C, *space).
        transform: probability and range of factors.
        generator: a CPU generator.
    """
    factors = _channel_factors(images, transform, generator)
    if factors is None:
        return images
    space = tuple(range(2, images.ndim))
    mean = images.mean(space, keepdim=True)
    low, high = images.amin(space, keepdim=True), images.amax(space, keepdim=True)
    stretched = ((images - mean) * factors + mean).clamp(low, high)
    # A factor of 1 would still round; a sample that drew nothing is to stay as it is.
    return torch.where(factors == 1, images, stretched)


def _channel_factors(images: Tensor, transform: Brightness | Contrast, generator: torch.Generator) -> Tensor | None:
    """Return factors (B, C, 1…), 1 for samples that drew nothing, or None if no sample drew anything."""
    chosen = draw_chance(transform.probability, (len(images),), generator)
    factors = draw_factor(transform.factor, images.shape[:2], generator)
    if not chosen.any():
        return None
    factors = torch.where(chosen.unsqueeze(1), factors, 1.0)
    return factors.reshape(*images.shape[:2], *(1 for _ in images.shape[2:])).to(images)
