import numpy as np
import pytest

from tumorseg.ops.statistics import (
    FEWEST_SAMPLES,
    TOTAL_SAMPLES,
    intensity_statistics,
    sample_foreground,
    samples_per_case,
)

SHAPE = (5, 7, 9)


def image_of(channels=2, seed=0):
    return np.random.default_rng(seed).normal(size=(channels, *SHAPE)).astype(np.float32)


def ball():
    z, y, x = np.indices(SHAPE)
    return (z - 2) ** 2 + (y - 3) ** 2 + (x - 4) ** 2 < 5


def test_all_voxels_are_kept_once_and_the_same_in_every_channel():
    image, foreground = image_of(), ball()
    kept = sample_foreground(image, foreground, 400, rng=np.random.default_rng(1))
    assert kept.dtype == np.float32
    assert sorted(kept.T.tolist()) == sorted(image[:, foreground].T.tolist())
    assert not np.array_equal(kept, image[:, foreground])  # in random order


def test_of_more_voxels_than_may_be_kept_so_many_are_drawn():
    image, foreground = image_of(), ball()
    drawn = sample_foreground(image, foreground, 20, rng=np.random.default_rng(1))
    assert drawn.shape == (2, 20)
    pairs = {tuple(pair) for pair in image[:, foreground].T.tolist()}
    assert {tuple(pair) for pair in drawn.T.tolist()} <= pairs


def test_bounds_of_one_case_with_heavy_tails_are_those_of_all_its_voxels():
    image = (100 + 20 * np.random.default_rng(3).standard_t(3, (1, 45, 60, 70))).astype(np.float32)
    count = samples_per_case(1, 1)
    samples = sample_foreground(image, np.ones(image.shape[1:], bool), count, rng=np.random.default_rng(0))[0]
    found = intensity_statistics([samples])
    off = np.percentile(image, [0.5, 99.5]) - (found.percentile_00_5, found.percentile_99_5)
    assert np.abs(off).max() <= 0.01 * np.subtract(*np.percentile(image, [75, 25]))


def test_samples_follow_from_the_generator():
    draws = [sample_foreground(image_of(), ball(), 50, rng=np.random.default_rng(seed)) for seed in (1, 1, 2)]
    assert np.array_equal(draws[0], draws[1])
    assert not np.array_equal(draws[0], draws[2])


def test_a_case_without_foreground_gives_no_samples():
    drawn = sample_foreground(image_of(3), np.zeros(SHAPE, bool), 50, rng=np.random.default_rng(1))
    assert drawn.shape == (3, 0)


def test_a_small_tumour_weighs_as_much_as_a_large_one():
    small, large = np.zeros(SHAPE, bool), np.ones(SHAPE, bool)
    small[2, 3, 4] = True
    bright, dark = np.full((1, *SHAPE), 10, np.float32), np.zeros((1, *SHAPE), np.float32)
    rng = np.random.default_rng(0)
    samples = [sample_foreground(bright, small, 500, rng=rng)[0], sample_foreground(dark, large, 500, rng=rng)[0]]
    assert intensity_statistics(samples).mean == 5


@pytest.mark.parametrize(
    ("num_cases", "num_channels", "expected"),
    [(1, 1, 2**23), (26, 1, 2**18), (1000, 4, 2048), (1001, 4, 2048), (10**7, 4, FEWEST_SAMPLES), (0, 1, 2**23)],
)
def test_how_many_samples_are_drawn_of_a_case(num_cases, num_channels, expected):
    assert samples_per_case(num_cases, num_channels) == expected


def test_memory_does_not_grow_with_the_number_of_cases():
    for num_cases in (10, 1000, 50_000):
        assert samples_per_case(num_cases, 2) * num_cases * 2 <= max(TOTAL_SAMPLES, num_cases * 2 * FEWEST_SAMPLES)


def test_statistics_are_those_of_numpy_over_all_cases():
    samples = [np.random.default_rng(seed).normal(40, 9, 300).astype(np.float32) for seed in range(4)]
    pooled = np.concatenate(samples).astype(np.float64)
    found = intensity_statistics(samples)
    assert found.mean == pytest.approx(pooled.mean())
    assert found.std == pytest.approx(pooled.std())
    assert (found.min, found.max) == (pooled.min(), pooled.max())
    assert found.median == pytest.approx(np.median(pooled))
    assert found.percentile_00_5 == pytest.approx(np.percentile(pooled, 0.5))
    assert found.percentile_99_5 == pytest.approx(np.percentile(pooled, 99.5))


@pytest.mark.parametrize("samples", [[], [np.zeros(0, np.float32)]], ids=["no case", "no foreground"])
def test_statistics_without_foreground_are_zero(samples):
    assert set(intensity_statistics(samples).model_dump().values()) == {0.0}


def test_a_case_without_foreground_changes_nothing():
    samples = [np.arange(10, dtype=np.float32)]
    assert intensity_statistics([*samples, np.zeros(0, np.float32)]) == intensity_statistics(samples)


def test_voxels_that_a_channel_does_not_cover_stay_out_of_its_statistics():
    image, foreground = image_of(), ball()
    half = np.arange(foreground.shape[0])[:, None, None] < foreground.shape[0] // 2
    covered = np.broadcast_to(half, foreground.shape)
    drawn = sample_foreground(image, foreground, 4000, rng=np.random.default_rng(1), covered=(None, covered))
    inside = image[1][foreground & covered]
    assert not np.isnan(drawn[0]).any()
    assert np.isnan(drawn[1]).mean() == pytest.approx(1 - inside.size / foreground.sum(), abs=0.05)
    found = intensity_statistics([drawn[1], np.full(7, np.nan, np.float32)])
    assert inside.min() <= found.min <= found.max <= inside.max()
    assert found.mean == pytest.approx(float(inside.mean()), abs=0.1 * float(image[1].std()))
