import numpy as np
import pytest
from scipy import stats

from tumorseg.ops.generalisation import Sample, mean_gap


def scores(seed, count, mean):
    return np.random.default_rng(seed).normal(mean, 0.1, count)


def test_the_gap_is_the_difference_of_means_over_defined_scores():
    own, other = np.array([0.9, np.nan, 0.7]), np.array([0.5, 0.3, 0.4, np.nan])
    gap = mean_gap(Sample(own), Sample(other))
    assert (gap.own_mean, gap.other_mean) == (pytest.approx(0.8), pytest.approx(0.4))
    assert gap.difference == pytest.approx(0.4)
    assert gap.num == (2, 3)


def test_the_interval_is_that_of_scipys_bootstrap_of_two_samples():
    own, other = scores(1, 31, 0.8), scores(2, 47, 0.7)
    found = mean_gap(Sample(own), Sample(other), num_resamples=20000, method="percentile").ci95

    def difference(one, two, axis):
        return one.mean(axis) - two.mean(axis)

    oracle = stats.bootstrap(
        (own, other), difference, n_resamples=20000, method="percentile", rng=np.random.default_rng(0)
    ).confidence_interval
    assert found == pytest.approx((oracle.low, oracle.high), abs=0.002)


def test_the_bca_interval_is_that_of_scipys_bootstrap_of_two_samples():
    own, other = np.random.default_rng(1).beta(8, 1.5, 31), np.random.default_rng(2).lognormal(0, 0.8, 17)
    found = mean_gap(Sample(own), Sample(other), num_resamples=20000, method="bca").ci95

    def difference(one, two, axis):
        return one.mean(axis) - two.mean(axis)

    oracle = stats.bootstrap(
        (own, other), difference, n_resamples=20000, method="BCa", rng=np.random.default_rng(0)
    ).confidence_interval
    assert found == pytest.approx((oracle.low, oracle.high), abs=0.02)
    plain = mean_gap(Sample(own), Sample(other), num_resamples=20000, method="percentile").ci95
    assert abs(found[0] - plain[0]) > 0.04


def test_the_default_interval_is_studentised_and_wider_for_skewed_scores():
    own, other = np.random.default_rng(1).beta(8, 1.5, 31), np.random.default_rng(2).lognormal(0, 0.8, 17)
    found = mean_gap(Sample(own), Sample(other), num_resamples=20000).ci95
    streams = [np.random.default_rng(9), np.random.default_rng(10)]
    drawn = [
        side[stream.integers(side.size, size=(20000, side.size))]
        for side, stream in zip((own, other), streams, strict=True)
    ]
    errors = np.hypot(*(side.std(axis=1, ddof=1) / side.shape[1] ** 0.5 for side in drawn))
    ratios = (drawn[0].mean(axis=1) - drawn[1].mean(axis=1) - own.mean() + other.mean()) / errors
    error = np.hypot(own.std(ddof=1) / 31**0.5, other.std(ddof=1) / 17**0.5)
    high, low = np.quantile(ratios, (0.025, 0.975))
    mean = own.mean() - other.mean()
    assert found == pytest.approx((mean - low * error, mean - high * error), abs=0.03)


def test_of_few_cases_the_interval_is_welchs():
    own, other = scores(1, 3, 0.8), scores(2, 9, 0.7)
    oracle = stats.ttest_ind(own, other, equal_var=False).confidence_interval(0.95)
    assert mean_gap(Sample(own), Sample(other)).ci95 == pytest.approx((oracle.low, oracle.high), rel=1e-9)


def test_a_gap_says_how_many_cases_or_patients_were_drawn():
    patients = Sample(scores(1, 60, 0.8), np.repeat(np.arange(12), 5))
    many, few = Sample(scores(2, 60, 0.7)), Sample(scores(3, 7, 0.7))
    assert mean_gap(many, few).num_units == (60, 7)
    found = mean_gap(patients, many)
    assert (found.num, found.num_units) == ((60, 60), (12, 60))


def test_datasets_of_one_size_are_drawn_independently():
    own, other = scores(1, 40, 0.8), scores(2, 40, 0.8)
    low, high = mean_gap(Sample(own), Sample(other)).ci95
    # Drawn at the same places, equal scores would cancel, and the interval would be a point.
    same_low, same_high = mean_gap(Sample(own), Sample(own)).ci95
    assert same_high - same_low == pytest.approx(high - low, rel=0.3)


def test_patients_are_drawn_as_wholes():
    values = np.repeat(scores(1, 10, 0.8), 4)
    clusters = np.repeat(np.arange(10), 4)
    other = Sample(scores(2, 200, 0.7))
    single = mean_gap(Sample(values), other).ci95
    whole = mean_gap(Sample(values, clusters), other).ci95
    # Four copies of a patient hold no more than one of them.
    assert whole[1] - whole[0] > 1.6 * (single[1] - single[0])


def test_a_single_case_has_no_interval_and_none_no_gap():
    assert mean_gap(Sample(np.array([0.5])), Sample(np.array([0.4, 0.3]))).ci95 is None
    assert mean_gap(Sample(np.array([0.5, 0.6])), Sample(np.array([np.nan]))) is None


def test_the_same_scores_give_the_same_interval():
    samples = Sample(scores(1, 12, 0.8)), Sample(scores(2, 9, 0.7))
    assert mean_gap(*samples) == mean_gap(*samples)
