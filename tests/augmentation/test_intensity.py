"""Noise, brightness and contrast by their numbers."""

import pytest
import torch

from tests.augmentation.seeded import generators
from tumorseg.augmentation.draws import draw_factor
from tumorseg.augmentation.intensity import brightness, contrast, gaussian_noise
from tumorseg.schema.augmentation import Brightness, Contrast, GaussianNoise, Range


def images(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(3)) + 0.5


def test_noise_has_the_standard_deviation_drawn_and_no_mean():
    transform = GaussianNoise(probability=1, std=Range(low=0.2, high=0.2))
    noise = gaussian_noise(torch.zeros(2, 2, 30, 30), transform=transform, generators=generators(2))
    assert noise.std().item() == pytest.approx(0.2, rel=0.05)
    assert noise.mean().item() == pytest.approx(0, abs=0.02)
    assert noise.unique().numel() > 3000


def test_noise_has_one_standard_deviation_per_sample():
    transform = GaussianNoise(probability=1, std=Range(low=0, high=1))
    noise = gaussian_noise(torch.zeros(3, 2, 40, 40), transform=transform, generators=generators(3))
    std = noise.std((2, 3))
    torch.testing.assert_close(std[:, 0], std[:, 1], rtol=0.1, atol=0)
    assert (std[0] - std[1]).abs().min() > 0.01


def test_brightness_multiplies_each_channel_by_its_own_factor():
    before = images(3, 2, 4, 5)
    after = brightness(before, transform=Brightness(probability=1), generators=generators(len(before)))
    factors = (after / before).flatten(2)
    torch.testing.assert_close(factors, factors[..., :1].expand_as(factors))
    assert factors.min() >= 0.7499
    assert factors.max() <= 1.2501
    assert factors[..., 0].unique().numel() == 6


def test_contrast_stretches_about_the_mean_within_the_former_range():
    before = images(3, 2, 4, 5, 6)
    transform = Contrast(probability=1, factor=Range(low=1.2, high=1.2))
    after = contrast(before, transform=transform, generators=generators(len(before)))
    space = (2, 3, 4)
    mean = before.mean(space, keepdim=True)
    expected = (mean + 1.2 * (before - mean)).clamp(before.amin(space, keepdim=True), before.amax(space, keepdim=True))
    torch.testing.assert_close(after, expected)
    torch.testing.assert_close(after.amax(space), before.amax(space))


def test_contrast_below_1_keeps_the_mean():
    before = images(2, 2, 6, 5)
    transform = Contrast(probability=1, factor=Range(low=0.5, high=0.5))
    after = contrast(before, transform=transform, generators=generators(len(before)))
    torch.testing.assert_close(after.mean((2, 3)), before.mean((2, 3)))
    torch.testing.assert_close(after.std((2, 3)), before.std((2, 3)) / 2)


def test_factors_are_as_often_below_1_as_above():
    factors = draw_factor(Range(low=0.9, high=2.0), (4000,), generators(1))
    assert (factors < 1).float().mean().item() == pytest.approx(0.5, abs=0.03)
    assert (factors.min().item(), factors.max().item()) == pytest.approx((0.9, 2.0), abs=0.01)


def test_factors_on_one_side_of_1_are_uniform():
    factors = draw_factor(Range(low=1.0, high=2.0), (4000,), generators(1))
    assert factors.mean().item() == pytest.approx(1.5, abs=0.02)
