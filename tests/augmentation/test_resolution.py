"""Blur, coarser grids and thicker slices against scipy, torch and exact cases."""

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch.nn import functional as F

from tests.augmentation.seeded import draws_of, facts_of, sample_of
from tumorseg.augmentation.resolution import (
    BlurDraw,
    ThickDraw,
    ZoomDraw,
    apply_blur,
    apply_thick,
    apply_zoom,
    gaussian_weights,
)
from tumorseg.schema.transforms.base import CountRange
from tumorseg.schema.transforms.resolution import GaussianBlur, LowResolution, ThickSlices

SPACES = [(11, 14), (7, 12, 9), (1, 12, 9)]


def noise(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(2))


def changed(image, apply, draw):
    sample = sample_of(image.clone(), torch.zeros(image.shape[1:], dtype=torch.int64))
    return apply(sample, draw, facts_of(image.shape[1:], len(image))).image


@pytest.mark.parametrize("space", SPACES)
def test_a_blur_equals_scipys_along_each_axis(space):
    image, sigmas = noise(2, *space), (0.5, 0.8, 1.0)[: len(space)]
    found = changed(image, apply_blur, BlurDraw((1,), (sigmas,)))
    expected = image[1].double().numpy()
    for axis, sigma in enumerate(sigmas):
        radius = len(gaussian_weights(sigma, space[axis])) - 1
        expected = ndimage.gaussian_filter1d(expected, sigma, axis, mode="mirror", radius=radius)
    np.testing.assert_allclose(found[1], expected, atol=1e-5)
    assert torch.equal(found[0], image[0])


@pytest.mark.parametrize(("sigma", "radius"), [(0.5, 1), (0.58, 1), (0.59, 2), (0.91, 2), (0.92, 3), (1.0, 3)])
def test_a_gaussian_is_as_wide_as_batchgenerators_has_it(sigma, radius):
    weights = gaussian_weights(sigma, 40)
    assert len(weights) == radius + 1
    assert weights[0] + 2 * sum(weights[1:]) == pytest.approx(1)


def test_a_gaussian_is_cut_where_the_axis_ends():
    assert len(gaussian_weights(3.0, 4)) == 4
    assert gaussian_weights(3.0, 1) == [1.0]


def test_blurs_are_drawn_for_each_channel_and_axis():
    record = GaussianBlur(probability=1)
    drawn = [draw for draw in draws_of(record, 400) if draw is not None]
    sigmas = [sigma for draw in drawn for channel in draw.sigmas for sigma in channel]
    assert len(set(sigmas)) == len(sigmas)
    assert (min(sigmas), max(sigmas)) == pytest.approx((0.5, 1.0), abs=0.01)
    assert len(drawn[0].sigmas[0]) == 3
    assert len(drawn) / 400 == pytest.approx(0.75, abs=0.08)  # one channel of two is enough


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("zoom", [0.5, 0.63, 0.8, 1.0])
def test_a_lower_resolution_equals_torchs_interpolation(space, zoom):
    image = noise(2, *space)
    found = changed(image, apply_zoom, ZoomDraw((0,), (zoom,), False))
    coarse = [max(1, round(size * zoom)) for size in space]
    lowered = F.interpolate(image[None, :1], coarse, mode="nearest-exact")
    expected = F.interpolate(lowered, space, mode="bilinear" if len(space) == 2 else "trilinear")
    torch.testing.assert_close(found[:1], expected[0], atol=1e-5, rtol=0)
    assert torch.equal(found[1], image[1])


def test_a_lower_resolution_in_plane_never_mixes_slices():
    image = noise(1, 5, 12, 9)
    found = changed(image, apply_zoom, ZoomDraw((0,), (0.6,), True))
    planes = [changed(image[:, number], apply_zoom, ZoomDraw((0,), (0.6,), False)) for number in range(5)]
    torch.testing.assert_close(found, torch.stack(planes, dim=1))


def test_a_lower_resolution_in_plane_is_refused_in_2d():
    record = LowResolution(in_plane=True)
    assert list(record.misfits(facts_of((8, 8)))) == [
        "low_resolution.in_plane leaves the first of 3 axes alone; a patch of 2 axes is a plane already"
    ]


@pytest.mark.parametrize("zoom", [{"low": 0.0, "high": 1.0}, {"low": 0.5, "high": 1.1}])
def test_a_zoom_is_above_0_and_1_at_most(zoom):
    with pytest.raises(ValueError, match="zooms are above 0 and 1 at most"):
        LowResolution(zoom=zoom)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_thick_slices_hold_the_means_of_thin_ones_and_lie_between_them_elsewhere(axis):
    image = noise(1, 9, 9, 9)
    found = changed(image, apply_thick, ThickDraw((0,), ((axis, 3, 3),))).movedim(axis + 1, 0)
    means = image.movedim(axis + 1, 0).reshape(3, 3, 1, 9, 9).mean(1)
    torch.testing.assert_close(found[[1, 4, 7]], means)
    torch.testing.assert_close(found[2], (2 * means[0] + means[1]) / 3)
    # Beyond the middle of the outer ones nothing is known.
    torch.testing.assert_close(found[[0, 8]], means[[0, 2]])


def test_the_first_thick_slice_may_be_cut_off():
    image = torch.arange(7.0).reshape(1, 7, 1)
    found = changed(image, apply_thick, ThickDraw((0,), ((0, 4, 1),)))
    # Slices 0, 1 to 4 and 5 to 6, whose middles are 0, 2.5 and 5.5.
    torch.testing.assert_close(found.flatten(), torch.tensor([0, 1, 2, 3, 4, 5, 5.5]))


def test_one_thick_slice_of_all_is_the_mean():
    image = noise(1, 3, 5)
    found = changed(image, apply_thick, ThickDraw((0,), ((0, 3, 3),)))
    torch.testing.assert_close(found, image.mean(1, keepdim=True).expand_as(image))


def test_thick_slices_lie_across_the_axes_that_are_named_and_are_the_same_in_all_channels():
    record = ThickSlices(probability=1, axes=(0, 2), slices=CountRange(low=2, high=3))
    slabs = [draw.slabs for draw in draws_of(record, 200, patch_size=(3, 9, 10))]
    assert all(first == second for first, second in slabs)
    assert {(axis, thickness) for (axis, thickness, _), _ in slabs} == {(0, 2), (0, 3), (2, 2), (2, 3)}
    assert all(1 <= start <= thickness for (_, thickness, start), _ in slabs)


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (ThickSlices(axes=(3,)), "thick_slices.axes are (3,); a patch of 3 axes has 0 to 2"),
        (ThickSlices(), "thick_slices.slices are up to 4; a patch has 3 voxels along axis 0"),
        (ThickSlices(axes=(1, 2), channels=(5,)), "thick_slices.channels are (5,); images have channels 0 to 1"),
    ],
)
def test_slices_that_do_not_fit_are_named(record, message):
    assert list(record.misfits(facts_of((3, 9, 10)))) == [message]


def test_thick_slices_along_longer_axes_alone_fit():
    assert not list(ThickSlices(axes=(1, 2)).misfits(facts_of((3, 9, 10))))


def test_a_thick_slice_is_made_of_two_at_least():
    with pytest.raises(ValueError, match="made of 2 or more"):
        ThickSlices(slices={"low": 1, "high": 3})
