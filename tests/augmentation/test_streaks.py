"""Projections and their reconstruction, against geometry and scikit-image."""

import math

import numpy as np
import pytest
import torch
from skimage.transform import iradon

from tumorseg.augmentation.streaks import VIEWS, Implant, reconstructed, sinogram

CPU = torch.device("cpu")
PLANE = (61, 74)
CENTRE = (30.0, 36.5)
LARGE = Implant(35, 30, (12, 8), 0.7)


def beams(reach=50):
    angles = torch.arange(VIEWS)[:, None] * (math.pi / VIEWS)
    return angles, torch.arange(-reach, reach + 1, dtype=torch.float32)


def grid(plane=PLANE):
    rows, columns = (torch.arange(size) for size in plane)
    return rows[:, None], columns[None]


def test_every_view_sees_all_of_an_implant():
    chords = LARGE.chords(*beams(), centre=CENTRE)
    torch.testing.assert_close(chords.sum(1), torch.full((VIEWS,), math.pi * 12 * 8), rtol=0.01, atol=0)


def test_the_reconstruction_is_scikit_images():
    errors = sinogram([Implant(20, 40, (3, 2), 0.3), Implant(45, 28, (2, 1), 1.2)], (45, 45), seed=2)
    size = errors.shape[1]
    # Its angles are from the columns, ours from the rows.
    theta = np.arange(VIEWS) * 180 / VIEWS - 90
    theirs = iradon(errors.T.numpy(), theta=theta, filter_name="cosine", circle=False, output_size=size)
    ours = reconstructed(torch.nn.functional.pad(errors, (size, size)), (size, size), CPU)
    inner = slice(size // 4, -size // 4)  # its edges lack some views
    difference = np.abs(ours.numpy() - theirs)[inner, inner].max()
    assert difference < 0.02 * np.abs(theirs).max()


def test_the_reconstruction_of_an_implant_is_the_implant():
    angles, offsets = beams()
    found = reconstructed(LARGE.chords(angles, offsets, centre=CENTRE), PLANE, CPU)
    covered = LARGE.covers(*grid())
    inner = Implant(35, 30, (10, 6), 0.7).covers(*grid())
    outer = Implant(35, 30, (15, 11), 0.7).covers(*grid())
    assert found[inner].mean().item() == pytest.approx(1, abs=0.03)
    assert found[~outer].abs().mean() < 0.02
    assert covered.sum().item() == pytest.approx(math.pi * 12 * 8, rel=0.02)


def test_between_two_implants_it_is_dark():
    implants = [Implant(30, 15, (2, 2), 0.0), Implant(30, 58, (2, 2), 0.0)]
    # The noise is lost in the mean.
    errors = torch.stack([sinogram(implants, PLANE, seed=seed) for seed in range(20)]).mean(0)
    streaks = reconstructed(errors, PLANE, CPU)
    between, above = streaks[28:33, 25:49].mean(), streaks[10:15, 25:49].mean()
    assert between < 0
    assert between < 10 * above.clamp(max=0)


def test_noise_is_where_the_metal_is():
    implants = [Implant(30, 15, (2, 1), 0.3)]
    first, second = (sinogram(implants, PLANE, seed=seed) for seed in (1, 2))
    differs = first != second
    assert differs.any()
    chords = implants[0].chords(*beams((differs.shape[1] - 1) // 2), centre=CENTRE)
    assert not differs[chords == 0].any()
    assert torch.equal(first, sinogram(implants, PLANE, seed=1))
