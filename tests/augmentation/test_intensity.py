"""Noise, brightness, contrast and gamma by their numbers."""

import pytest
import torch

from tests.augmentation.seeded import augmented
from tumorseg.augmentation.dice import Dice
from tumorseg.schema.augmentation import AugmentationSpec
from tumorseg.schema.transforms.base import Range
from tumorseg.schema.transforms.intensity import Brightness, Contrast, Gamma, GaussianNoise


def images(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(3)) + 0.5


def changed(before, transform):
    labels = before[:, 0].to(torch.int16)
    return augmented(before, labels, AugmentationSpec(transforms=(transform,)), patch_size=before.shape[2:])[0]


def test_noise_has_the_standard_deviation_drawn_and_no_mean():
    transform = GaussianNoise(probability=1, std=Range(low=0.2, high=0.2))
    noise = changed(torch.zeros(2, 2, 30, 30), transform)
    assert noise.std().item() == pytest.approx(0.2, rel=0.05)
    assert noise.mean().item() == pytest.approx(0, abs=0.02)
    assert noise.unique().numel() > 3000


def test_noise_has_one_standard_deviation_per_sample():
    transform = GaussianNoise(probability=1, std=Range(low=0, high=1))
    noise = changed(torch.zeros(3, 2, 40, 40), transform)
    std = noise.std((2, 3))
    torch.testing.assert_close(std[:, 0], std[:, 1], rtol=0.1, atol=0)
    assert (std[0] - std[2]).abs().min() > 0.01


def test_brightness_multiplies_each_channel_by_its_own_factor():
    before = images(3, 2, 4, 5)
    after = changed(before, Brightness(probability=1))
    factors = (after / before).flatten(2)
    torch.testing.assert_close(factors, factors[..., :1].expand_as(factors))
    assert factors.min() >= 0.7499
    assert factors.max() <= 1.2501
    assert factors[..., 0].unique().numel() == 6


def test_contrast_stretches_about_the_mean_within_the_former_range():
    before = images(3, 2, 4, 5, 6)
    transform = Contrast(probability=1, factor=Range(low=1.2, high=1.2))
    after = changed(before, transform)
    space = (2, 3, 4)
    mean = before.mean(space, keepdim=True)
    expected = (mean + 1.2 * (before - mean)).clamp(before.amin(space, keepdim=True), before.amax(space, keepdim=True))
    torch.testing.assert_close(after, expected)
    torch.testing.assert_close(after.amax(space), before.amax(space))


def test_contrast_below_1_keeps_the_mean():
    before = images(2, 2, 6, 5)
    transform = Contrast(probability=1, factor=Range(low=0.5, high=0.5))
    after = changed(before, transform)
    torch.testing.assert_close(after.mean((2, 3)), before.mean((2, 3)))
    torch.testing.assert_close(after.std((2, 3)), before.std((2, 3)) / 2)


def factors(low, high):
    dice = Dice(1)
    return torch.tensor([dice.factor(Range(low=low, high=high)) for _ in range(4000)])


def test_factors_are_as_often_below_1_as_above():
    found = factors(0.9, 2.0)
    assert (found < 1).float().mean().item() == pytest.approx(0.5, abs=0.03)
    assert (found.min().item(), found.max().item()) == pytest.approx((0.9, 2.0), abs=0.01)


def test_factors_on_one_side_of_1_are_uniform():
    assert factors(1.0, 2.0).mean().item() == pytest.approx(1.5, abs=0.02)


def bent(before, *, gamma, inverted):
    """Return what nnU-Net's formula makes of an image (C, *space)."""
    turned = -before if inverted else before
    space = tuple(range(1, before.ndim))
    low, high = turned.amin(space, keepdim=True), turned.amax(space, keepdim=True)
    power = ((turned - low) / (high - low)) ** gamma * (high - low) + low
    kept = (power - power.mean(space, keepdim=True)) / power.std(space, keepdim=True)
    kept = kept * turned.std(space, keepdim=True) + turned.mean(space, keepdim=True)
    return -kept if inverted else kept


@pytest.mark.parametrize("inverted", [False, True])
@pytest.mark.parametrize("shape", [(1, 2, 30, 41), (1, 2, 9, 14, 11), (1, 1, 40, 56, 40)])
def test_gamma_bends_the_range_and_keeps_mean_and_deviation(shape, inverted):
    before = images(*shape) * 3
    after = changed(before, Gamma(probability=1, gamma=Range(low=1.4, high=1.4), inverted=inverted))[0]
    torch.testing.assert_close(after, bent(before[0], gamma=1.4, inverted=inverted), atol=2e-5, rtol=1e-5)
    space = tuple(range(1, after.ndim))
    torch.testing.assert_close(after.mean(space), before[0].mean(space), atol=1e-5, rtol=0)
    torch.testing.assert_close(after.std(space), before[0].std(space), atol=1e-5, rtol=1e-5)


def test_gamma_above_1_darkens_from_the_dark_end_and_inverted_from_the_bright_one():
    ramp = torch.linspace(-1, 1, 400).reshape(1, 1, 20, 20)
    found = []
    for inverted in (False, True):
        record = Gamma(probability=1, gamma=Range(low=1.5, high=1.5), inverted=inverted)
        found.append(changed(ramp, record).flatten())
    # Where the curve starts it is flat, at its other end steep.
    assert found[0].diff()[1] < found[0].diff()[-1] / 5
    torch.testing.assert_close(found[1], -found[0].flip(0), atol=1e-5, rtol=0)


@pytest.mark.parametrize("inverted", [False, True])
def test_gamma_leaves_a_constant_channel_as_it_is(inverted):
    before = torch.full((1, 1, 6, 7), 2.5)
    after = changed(before, Gamma(probability=1, inverted=inverted))
    torch.testing.assert_close(after, before)


@pytest.mark.parametrize("inverted", [False, True])
def test_gamma_keeps_the_deviation_of_an_image_that_is_all_but_constant(inverted):
    before = torch.full((1, 1, 40, 50, 30), 0.7)
    before[..., :2, :3, :4] = images(1, 1, 2, 3, 4)
    after = changed(before, Gamma(probability=1, gamma=Range(low=1.5, high=1.5), inverted=inverted))
    assert after.std().item() == pytest.approx(before.std().item(), rel=1e-3)
    assert after.mean().item() == pytest.approx(before.mean().item(), abs=1e-4)
