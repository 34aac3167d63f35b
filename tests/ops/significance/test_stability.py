import numpy as np
import pytest
from scipy import stats

from tumorseg.ops.significance.stability import case_ranks, kendall_taus, places, stability

GENERATOR = np.random.default_rng(2)
GOODNESS = np.round(GENERATOR.normal([0.3, 0.0, 0.2, -0.5], 1.0, size=(29, 4)), 1)


def test_ranks_within_cases_are_those_of_scipy() -> None:
    assert any(len(set(row)) < 4 for row in GOODNESS.tolist())
    np.testing.assert_array_equal(case_ranks(GOODNESS), stats.rankdata(-GOODNESS, axis=1))


def test_failures_rank_last_together() -> None:
    found = case_ranks(np.array([[0.5, -np.inf, np.inf, -np.inf]]))
    np.testing.assert_array_equal(found, [[2.0, 3.5, 1.0, 3.5]])


def test_places_are_shared_by_means_that_differ_by_rounding() -> None:
    np.testing.assert_array_equal(places(np.array([2.0, 0.1 + 0.2, 0.3, 4.0])), [3.0, 1.5, 1.5, 4.0])


def test_kendalls_tau_is_that_of_scipy() -> None:
    one = np.array([1.0, 2.5, 2.5, 4.0, 3.0])
    others = np.array([[1.0, 2.0, 3.0, 4.0, 5.0], [4.0, 2.0, 2.0, 1.0, 2.0], [3.0, 1.0, 2.0, 5.0, 4.0]])
    oracle = [stats.kendalltau(one, other).statistic for other in others]
    np.testing.assert_allclose(kendall_taus(one, others), oracle)


def test_a_ranking_without_order_has_no_tau() -> None:
    assert kendall_taus(np.array([2.0, 2.0]), np.array([[1.0, 2.0]])).size == 0
    assert kendall_taus(np.array([1.0, 2.0]), np.array([[1.5, 1.5], [2.0, 1.0]])).tolist() == [-1.0]


def test_models_that_always_rank_alike_are_stable() -> None:
    found = stability(np.tile([2.0, 1.0, 3.0], (7, 1)), clusters=None, num_resamples=200)
    np.testing.assert_array_equal(found.rank_shares, [[0, 1, 0], [1, 0, 0], [0, 0, 1]])
    np.testing.assert_array_equal(found.rank_intervals, [[2, 2], [1, 1], [3, 3]])
    assert found.kendall_tau == 1.0


def test_shares_are_those_of_ranking_every_resample_anew() -> None:
    ranks = case_ranks(GOODNESS)
    drawn = ranks[np.random.default_rng(9).integers(len(ranks), size=(20_000, len(ranks)))].mean(axis=1)
    oracle = np.stack(
        [(stats.rankdata(drawn, method="min", axis=1) == place).mean(axis=0) for place in (1, 2, 3, 4)], 1
    )
    found = stability(ranks, clusters=None, num_resamples=20_000)
    np.testing.assert_allclose(found.rank_shares, oracle, atol=0.02)
    assert 0.05 < found.rank_shares[0, 1] < 0.95


def test_one_cluster_alone_never_changes_the_ranking() -> None:
    found = stability(case_ranks(GOODNESS), clusters=np.zeros(29, dtype=np.int64), num_resamples=100)
    assert found.kendall_tau == pytest.approx(1.0)
