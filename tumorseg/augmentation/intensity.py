"""Changes of intensity; labels stay as they are.

Samples are changed one by one: the order in which a batch's voxels are summed depends on its size, and a sample must not.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from tumorseg.augmentation.draws import Generators, draw_chance, draw_factor, draw_uniform, send
from tumorseg.schema.augmentation import Brightness, Contrast, GaussianNoise


def gaussian_noise(images: Tensor, *, transform: GaussianNoise, generators: Generators) -> Tensor:
    """Add white noise of one standard deviation per sample to the samples that drew it.

    Args:
        images: (B, C, *space).
        transform: probability and range of standard deviations.
        generators: one per sample.
    """

    def add_noise(image: Tensor, generator: torch.Generator) -> Tensor:
        std = draw_uniform(transform.std, (), [generator])
        return image + send(std * torch.randn(image.shape, generator=generator), image)

    return _change(images, add_noise, transform.probability, generators)


def brightness(images: Tensor, *, transform: Brightness, generators: Generators) -> Tensor:
    """Multiply each channel of the samples that drew it by its own factor.

    Args:
        images: (B, C, *space).
        transform: probability and range of factors.
        generators: one per sample.
    """

    def multiply(image: Tensor, generator: torch.Generator) -> Tensor:
        return image * _channel_factors(image, transform, generator)

    return _change(images, multiply, transform.probability, generators)


def contrast(images: Tensor, *, transform: Contrast, generators: Generators) -> Tensor:
    """Stretch each channel about its mean, clamped to its own former range, in the samples that drew it.

    Args:
        images: (B, C, *space).
        transform: probability and range of factors.
        generators: one per sample.
    """
    space = tuple(range(1, images.ndim - 1))

    def stretch(image: Tensor, generator: torch.Generator) -> Tensor:
        mean = image.mean(space, keepdim=True)
        low, high = image.amin(space, keepdim=True), image.amax(space, keepdim=True)
        factors = _channel_factors(image, transform, generator)
        return ((image - mean) * factors + mean).clamp(low, high)

    return _change(images, stretch, transform.probability, generators)


def _channel_factors(image: Tensor, transform: Brightness | Contrast, generator: torch.Generator) -> Tensor:
    """Return a factor (C, 1…) for each channel."""
    factors = draw_factor(transform.factor, image.shape[:1], [generator])
    ones = [1] * (image.ndim - 1)
    return send(factors.reshape(-1, *ones), image)


def _change(
    images: Tensor,
    change: Callable[[Tensor, torch.Generator], Tensor],
    probability: float,
    generators: Generators,
) -> Tensor:
    """Return images of which those are changed that drew it."""
    chosen = draw_chance(probability, (), generators).nonzero().flatten().tolist()
    if not chosen:
        return images
    samples = list(images)
    for sample in chosen:
        samples[sample] = change(samples[sample], generators[sample])
    return torch.stack(samples)
