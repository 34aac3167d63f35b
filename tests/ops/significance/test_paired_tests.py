import itertools

import numpy as np
import pytest
from scipy import stats

from tumorseg.ops.significance.paired_tests import EXACT_PAIRS, permutation_tests, signed_ranks, wilcoxon_test

GENERATOR = np.random.default_rng(11)
FEW = GENERATOR.normal(0.4, 1, size=11)
MANY = GENERATOR.normal(0.15, 1, size=83)


def mean_test(values: np.ndarray, **options: int) -> float | None:
    return permutation_tests(values[:, None], num_permutations=options.get("num_permutations", 9999))[0]


def test_few_pairs_are_tested_exactly_as_by_scipy() -> None:
    oracle = stats.permutation_test((FEW, np.zeros(FEW.size)), lambda a, b: (a - b).mean(), permutation_type="samples")
    assert mean_test(FEW) == pytest.approx(oracle.pvalue, abs=1e-12)


def test_many_pairs_are_tested_as_by_scipy_up_to_noise() -> None:
    oracle = stats.permutation_test(
        (MANY, np.zeros(MANY.size)),
        lambda a, b, axis: (a - b).mean(axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=20_000,
        batch=2000,
        rng=np.random.default_rng(0),
    )
    assert 0.02 < oracle.pvalue < 0.6
    assert mean_test(MANY) == pytest.approx(oracle.pvalue, abs=0.02)


def test_a_random_test_never_says_that_anything_is_impossible() -> None:
    assert mean_test(np.full(60, 0.3), num_permutations=999) == pytest.approx(1 / 1000)


def test_an_exact_test_of_pairs_that_all_agree_finds_two_of_all_signs() -> None:
    assert mean_test(np.array([0.1, 0.2, 0.3, 0.4])) == pytest.approx(2 / 2**4)


def test_ties_of_sums_are_counted_whatever_their_rounding() -> None:
    # 0.1 + 0.2 and 0.3 differ in the last bit; two of the eight signs reach the sum of 0.6, two more that of 0.0 only.
    assert mean_test(np.array([0.1, 0.2, -0.3])) == 1.0
    assert mean_test(np.array([0.1, 0.2, 0.3])) == pytest.approx(2 / 8)


def test_differences_of_zero_change_nothing() -> None:
    with_zeros = np.concatenate([FEW, np.zeros(40)])
    assert mean_test(with_zeros) == mean_test(FEW)
    assert mean_test(np.zeros(7)) == 1.0


def test_columns_without_differences_have_no_p() -> None:
    table = np.stack([FEW, np.full(FEW.size, np.nan)], axis=1)
    table[2, 0] = np.nan
    assert permutation_tests(table) == [mean_test(np.delete(FEW, 2)), None]


@pytest.mark.parametrize("clusters", [None, np.arange(83)[::-1] // 2])
def test_a_random_test_depends_on_its_own_differences_alone(clusters: np.ndarray | None) -> None:
    # Undefined in some cases, and without a difference in others: neither may change which signs are drawn for the rest.
    table = np.stack([MANY, np.roll(MANY, 5), MANY], axis=1)
    table[::9, 1], table[::7, 2] = np.nan, 0.0
    together = permutation_tests(table, clusters=clusters)
    alone = [permutation_tests(table[:, [column]], clusters=clusters)[0] for column in range(3)]
    assert together == alone
    defined = ~np.isnan(table[:, 1])
    kept = None if clusters is None else clusters[defined]
    assert permutation_tests(table[defined][:, [1]], clusters=kept) == [together[1]]
    assert 0.01 < (together[0] or 0) < 0.9


def test_differences_of_zero_leave_a_random_test_as_it_is() -> None:
    with_zeros = np.insert(MANY, [3, 3, 40], 0.0)
    assert mean_test(with_zeros) == mean_test(MANY)


def test_a_cluster_whose_differences_cancel_out_is_not_exchanged() -> None:
    values = np.array([0.1, 0.2, -0.3, *FEW])
    clusters = np.array([0, 0, 0, *range(1, FEW.size + 1)])
    assert permutation_tests(values[:, None], clusters=clusters) == [mean_test(FEW)]


def test_clusters_are_exchanged_as_wholes() -> None:
    clusters = np.array([0, 0, 0, 1, 1, 2, 2, 2, 3, 3, 4])
    sums = np.bincount(clusters, FEW)
    totals = [abs(np.dot(signs, sums)) for signs in itertools.product((1, -1), repeat=5)]
    oracle = np.mean(np.array(totals) >= abs(sums.sum()) - 1e-12)
    assert permutation_tests(FEW[:, None], clusters=clusters) == [pytest.approx(oracle)]


def test_a_difference_within_one_cluster_alone_is_none() -> None:
    assert permutation_tests(FEW[:, None], clusters=np.zeros(FEW.size, dtype=np.int64)) == [1.0]


@pytest.mark.parametrize("values", [FEW, MANY], ids=["few", "many"])
def test_signed_rank_tests_are_those_of_scipy(values: np.ndarray) -> None:
    assert wilcoxon_test(values) == pytest.approx(stats.wilcoxon(values).pvalue, rel=1e-12)


@pytest.mark.parametrize("values", [[1, 1, 1, 1], [1, -1, 2, 2, 2, 0], [3, 1, 1, -1, 0, 2, -2, 1, 1, 5, 1], [0, 0, -2]])
def test_signed_rank_tests_of_few_with_ties_try_all_signs(values: list[int]) -> None:
    ranks = signed_ranks(np.array(values, dtype=float))
    moving = ranks[ranks != 0]
    sums = [abs(np.dot(signs, moving)) for signs in itertools.product((1, -1), repeat=moving.size)]
    oracle = np.mean(np.array(sums) >= abs(moving.sum()))
    assert wilcoxon_test(np.array(values, dtype=float)) == pytest.approx(oracle, rel=1e-12)


def test_four_equal_gains_are_no_more_than_chance_may_give() -> None:
    assert wilcoxon_test(np.full(4, 0.02)) == pytest.approx(0.125, rel=1e-12)


def test_signed_rank_tests_of_many_with_ties_and_zeros_are_those_of_scipy() -> None:
    values = np.round(MANY, 1)
    assert np.count_nonzero(values) > EXACT_PAIRS
    assert np.count_nonzero(values == 0)
    oracle = stats.wilcoxon(values, zero_method="wilcox", method="asymptotic").pvalue
    assert wilcoxon_test(values) == pytest.approx(oracle, rel=1e-12)


def test_signed_ranks_share_ties_and_leave_out_zeros() -> None:
    found = signed_ranks(np.array([0.0, -2.0, 1.0, 2.0, np.inf, -np.inf]))
    np.testing.assert_array_equal(found, [0, -2.5, 1, 2.5, 4.5, -4.5])


def test_a_failure_has_the_highest_rank_however_large_the_others_are() -> None:
    values = np.append(np.arange(1.0, 9.0) * 1e6, -np.inf)
    assert wilcoxon_test(values) == pytest.approx(stats.wilcoxon([*range(1, 9), -9]).pvalue)


def test_signed_ranks_of_clusters_are_exchanged_as_wholes() -> None:
    clusters = np.array([0, 0, 0, 1, 1, 2, 2, 2, 3, 3, 4])
    oracle = permutation_tests(signed_ranks(FEW)[:, None], clusters=clusters)[0]
    assert wilcoxon_test(FEW, clusters=clusters) == oracle
    assert wilcoxon_test(FEW, clusters=np.arange(FEW.size)) == pytest.approx(stats.wilcoxon(FEW).pvalue)


def test_nothing_to_test_has_no_p_and_no_difference_has_one() -> None:
    assert wilcoxon_test(np.array([])) is None
    assert wilcoxon_test(np.zeros(5)) == 1.0
