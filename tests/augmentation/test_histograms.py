"""Equalisation of histograms against scikit-image, and by its properties."""

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from scipy import ndimage
from skimage import exposure

from tests.augmentation.seeded import draws_of, facts_of, sample_of
from tumorseg.augmentation.histograms import ClaheDraw, EqualizationDraw, apply_clahe, apply_equalization
from tumorseg.schema.transforms.base import CountRange, Range
from tumorseg.schema.transforms.histograms import Clahe, HistogramEqualization

SPACES = {"2d": (61, 75), "3d": (17, 40, 33)}


@pytest.fixture(params=SPACES.values(), ids=SPACES)
def space(request):
    return request.param


def smooth(space, seed=0):
    """Return an image (*space) with dark and bright regions and a skew histogram."""
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=space), 2)
    return torch.from_numpy(np.exp(0.7 * noise / noise.std()).astype(np.float32) - 1.5)


def run(apply, draw, image):
    sample = sample_of(image.clone()[None], torch.zeros(image.shape, dtype=torch.int64))
    return apply(sample, draw, facts_of(image.shape, 1)).image[0]


def equalized(image, strength=1.0):
    return run(apply_equalization, EqualizationDraw((0,), (strength,)), image)


def clahe(image, tiles=4, limit=3.0):
    return run(apply_clahe, ClaheDraw((0,), (tiles,), (limit,)), image)


def inner(image):
    """Return where an image lies well between its percentiles 0.5 and 99.5."""
    low, high = torch.quantile(image.flatten(), torch.tensor([0.006, 0.994]))
    return (image > low) & (image < high)


BOTH = {"equalization": equalized, "clahe": clahe}


@pytest.mark.parametrize("change", BOTH.values(), ids=BOTH)
class TestBoth:
    def test_the_range_is_kept(self, change, space):
        image = smooth(space)
        after = change(image)
        torch.testing.assert_close(torch.stack(after.aminmax()), torch.stack(image.aminmax()))
        assert (after - image).abs().max() > 0.1 * (image.max() - image.min())

    def test_a_constant_stays(self, change, space):
        image = torch.full(space, 1.5)
        assert torch.equal(change(image), image)

    def test_what_holds_nothing_but_background_stays(self, change, space):
        image = torch.zeros(space)
        image[2:5] = -1.0
        assert torch.equal(change(image), image)

    def test_an_image_of_one_more_value_stays(self, change, space):
        image = torch.zeros(space)
        image[2:5], image[5:7] = -1.0, 2.0
        torch.testing.assert_close(change(image), image)

    def test_background_stays_and_does_not_count(self, change, space):
        image = smooth(space)
        outside = torch.zeros(space, dtype=torch.bool)
        outside[:, :9] = True
        least = float(image.min()) - 1
        for background in (0.0, least):
            masked = image.masked_fill(outside, background)
            after = change(masked)
            assert (after[outside] == background).all()
            assert (after - masked)[~outside].abs().max() > 0.1

    def test_bright_outliers_stay_and_press_nothing_together(self, change, space):
        image = smooth(space)
        with_outlier = image.clone()
        with_outlier[3, 3] = 1000.0
        after = change(with_outlier)
        assert after.max() == 1000.0
        calm = (with_outlier < 900) & inner(image)
        assert after[calm].std() > 0.5 * change(image)[calm].std()


@pytest.mark.parametrize("bright", [False, True])
def test_equalisation_flattens_the_cumulative_histogram(space, bright):
    image = smooth(space)
    image = -image if bright else image
    after = equalized(image)[inner(image)].sort().values
    after = (after - after[0]) / (after[-1] - after[0])
    assert (after - torch.linspace(0, 1, len(after))).abs().max() < 0.02


def test_equalisation_is_scikit_images(space):
    image = smooth(space)
    theirs = exposure.equalize_hist(image.numpy(), nbins=1024)
    chosen = inner(image).numpy()
    assert np.corrcoef(equalized(image).numpy()[chosen], theirs[chosen])[0, 1] > 0.9999


def test_the_strength_blends(space):
    image = smooth(space)
    whole = equalized(image)
    torch.testing.assert_close(equalized(image, 0.0), image)
    torch.testing.assert_close(equalized(image, 0.25), 0.75 * image + 0.25 * whole, atol=1e-4, rtol=1e-4)


def test_equalisation_keeps_the_order_of_intensities(space):
    image = smooth(space)
    order = image.flatten().argsort()
    assert (equalized(image).flatten()[order].diff() >= -1e-5).all()


def test_without_neighbours_clahe_is_equalisation(space):
    image = smooth(space)
    alone, whole = clahe(image, tiles=1, limit=1000.0), equalized(image)
    chosen = inner(image)
    # In coarser bins.
    assert (alone - whole)[chosen].abs().max() < 0.03 * (whole[chosen].max() - whole[chosen].min())


def test_a_limit_of_1_changes_nothing(space):
    image = smooth(space)
    torch.testing.assert_close(clahe(image, limit=1.0), image, atol=1e-4, rtol=1e-5)


def test_a_limit_limits_how_much_contrast_grows():
    image = torch.linspace(0.1, 1, 40 * 50).reshape(40, 50) ** 6
    chosen = inner(image)
    steps = slice(None, None, 20)  # longer than what rounding changes
    gained = clahe(image, tiles=1, limit=2.0)[chosen][steps].diff() / image[chosen][steps].diff()
    unlimited = equalized(image)[chosen][steps].diff() / image[chosen][steps].diff()
    assert 1.9 < gained.max() < 2.01
    assert unlimited.max() > 4


def test_clahe_is_close_to_scikit_images():
    # Tiles that fit, as theirs are padded by reflection where they do not.
    image = smooth((64, 80))
    low, high = torch.quantile(image.flatten(), torch.tensor([0.005, 0.995])).tolist()
    clipped = image.clamp(low, high)
    scaled = ((clipped - low) / (high - low)).double().numpy()
    theirs = exposure.equalize_adapthist(scaled, kernel_size=(16, 16), clip_limit=3 / 128, nbins=128)
    ours = clahe(image, tiles=5, limit=3.0).numpy()
    chosen = inner(image).numpy()
    assert np.corrcoef(ours[chosen], theirs[chosen])[0, 1] > 0.98
    assert np.corrcoef(image.numpy()[chosen], theirs[chosen])[0, 1] < 0.97


def test_clahe_shows_what_is_in_dark_regions(space):
    image = smooth(space)
    dark = torch.zeros(space, dtype=torch.bool)
    dark[..., : space[-1] // 2] = True
    image = torch.where(dark, 0.1 * image - 3, image)
    after = clahe(image)
    region = dark.clone()
    region[..., space[-1] // 3 :] = False
    assert after[region].std() > 1.3 * image[region].std()


def test_tiles_are_cubes_of_voxels():
    image = smooth((10, 40, 20))
    sample = sample_of(image[None].clone(), torch.zeros(image.shape, dtype=torch.int64))
    after = apply_clahe(sample, ClaheDraw((0,), (4,), (3.0,)), facts_of(image.shape, 1)).image[0]
    # One tile along the first axis: planes that are alike stay alike.
    alike = image[:1].expand(10, -1, -1).contiguous()
    found = clahe(alike)
    torch.testing.assert_close(found, found[:1].expand_as(found))
    assert not torch.equal(after, image)


def test_draws_are_of_the_ranges():
    transform = Clahe(probability=1, tiles=CountRange(low=2, high=3), clip_limit=Range(low=2, high=2.5))
    draws = draws_of(transform, 40)
    assert {draw.tiles[0] for draw in draws} == {2, 3}
    assert all(2 <= limit <= 2.5 for draw in draws for limit in draw.clip_limits)
    strengths = [draw.strengths[0] for draw in draws_of(HistogramEqualization(probability=1), 40)]
    assert 0.2 <= min(strengths) < max(strengths) <= 0.7
    assert draws_of(transform.changed(probability=0), 1) == [None]
    assert draws_of(HistogramEqualization(probability=0), 1) == [None]


def test_numbers_that_mean_nothing_are_refused():
    with pytest.raises(ValidationError, match="there must be 1 at least"):
        Clahe(tiles=CountRange(low=0, high=2))
    with pytest.raises(ValidationError, match=r"low is 0\.5; no histogram is below 1"):
        Clahe(clip_limit=Range(low=0.5, high=2))
