import itertools

import numpy as np
import pytest

from tumorseg.ops.significance.effects import cohens_dz, holm, outcomes, rank_biserial


def test_a_difference_at_the_tolerance_is_a_tie() -> None:
    gains = np.array([0.3, 0.1 + 0.2, -0.3, -0.31, 0.0, np.inf, -np.inf, 0.4])
    assert outcomes(gains, 0.3) == (2, 4, 2)


def test_superiority_counts_ties_by_half() -> None:
    assert outcomes(np.array([1.0, 1.0, 0.0, -1.0]), 0.0).superiority == pytest.approx(2.5 / 4)
    assert outcomes(np.array([]), 0.0).superiority is None


def test_cohens_dz_is_the_mean_in_standard_deviations() -> None:
    gains = np.array([1.0, 2.0, 3.0, 6.0])
    assert cohens_dz(gains) == pytest.approx(3 / np.sqrt((4 + 1 + 0 + 9) / 3))


@pytest.mark.parametrize("gains", [[], [0.4], [0.1, 0.1, 0.1], [0.3 - 0.2, 0.4 - 0.3, 0.8 - 0.7]])
def test_without_spread_there_is_no_effect_size(gains: list[float]) -> None:
    assert cohens_dz(np.array(gains)) is None


def test_rank_biserial_is_the_favourable_less_the_unfavourable_share_of_ranks() -> None:
    # Ranks 1 (lost), 2, 3, 4 (won); 0 has none.
    assert rank_biserial(np.array([-0.1, 0.2, 0.0, 0.3, 0.9])) == pytest.approx((9 - 1) / 10)
    assert rank_biserial(np.array([5.0, np.inf])) == 1.0
    assert rank_biserial(np.zeros(3)) is None


def test_holm_rejects_what_closed_testing_with_bonferroni_rejects() -> None:
    values = list(np.random.default_rng(4).uniform(0, 0.12, size=5))
    adjusted = holm(values)
    for tested, found in zip(values, adjusted, strict=True):
        others = [value for value in values if value is not tested]
        families = []
        for count in range(len(values)):
            families += [(tested, *rest) for rest in itertools.combinations(others, count)]
        # A closed test rejects where every family that holds it does.
        assert found == pytest.approx(min(1.0, max(len(family) * min(family) for family in families)))


def test_holm_leaves_out_what_is_no_test() -> None:
    assert holm([None, 0.02, None, 0.03]) == [None, pytest.approx(0.04), None, pytest.approx(0.04)]
    assert holm([]) == []
