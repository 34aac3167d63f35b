import numpy as np
import pytest

from tumorseg.ops.trust.thresholds import rank_above, upper_threshold


def test_ranks_are_those_of_split_conformal_prediction():
    assert [rank_above(count, 0.05) for count in (18, 19, 39, 99, 100)] == [19, 19, 38, 95, 96]


@pytest.mark.parametrize("count", [25, 60, 133])
def test_new_scores_are_above_the_threshold_as_often_as_promised(count):
    random = np.random.default_rng(count)
    above = [random.exponential(3, 200) > upper_threshold(random.exponential(3, count), 0.05) for _ in range(1500)]
    # At most the share, and not much less: the next rank would be one more of (count + 1).
    assert 0.05 - 1 / (count + 1) - 0.004 < np.mean(above) < 0.054


def test_a_threshold_is_never_below_what_is_unusual_by_itself():
    assert upper_threshold(np.full(100, 0.2), 0.05) == 1


@pytest.mark.parametrize("count", [2, 5, 12, 18])
def test_few_scores_give_a_wider_threshold_that_still_exists(count):
    scores = np.linspace(0.5, 2, count)
    wide = upper_threshold(scores, 0.05)
    assert 2 < wide < 6
    assert wide > upper_threshold(np.repeat(scores, 20), 0.05)


@pytest.mark.parametrize("count", [3, 6, 12])
def test_few_exponential_scores_flag_hardly_more_than_promised(count):
    random = np.random.default_rng(count)
    above = [random.exponential(3, 100) > upper_threshold(random.exponential(3, count), 0.05) for _ in range(3000)]
    assert np.mean(above) < 0.11


def test_no_score_at_all_still_gives_a_threshold():
    assert 1 < upper_threshold(np.zeros(0), 0.05) < 10
