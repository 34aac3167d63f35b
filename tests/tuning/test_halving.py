import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tumorseg.tuning.halving import domination_ranks, front, goes_on, losses_of

LOSSES = st.integers(1, 3).flatmap(
    lambda count: st.lists(st.lists(st.integers(0, 4), min_size=count, max_size=count), min_size=1, max_size=9)
)


def test_more_is_better_of_overlap_and_less_of_distance_and_time():
    assert losses_of(("dsc", "hd95", "seconds"), [(0.9, 3.0, 10.0)]).tolist() == [[-0.9, 3.0, 10.0]]
    assert losses_of(("dsc", "nsd"), []).shape == (0, 2)


def is_better(one, other):
    return all(a <= b for a, b in zip(one, other, strict=True)) and one != other


@given(rows=LOSSES)
def test_ranks_are_what_is_left_after_peeling_off_front_after_front(rows):
    left, expected = dict(enumerate(rows)), {}
    for rank in range(len(rows)):
        peeled = [place for place, row in left.items() if not any(is_better(other, row) for other in left.values())]
        expected |= dict.fromkeys(peeled, rank)
        left = {place: row for place, row in left.items() if place not in peeled}
    losses = np.array(rows, dtype=float)
    assert domination_ranks(losses) == [expected[place] for place in range(len(rows))]
    assert front(losses) == [place for place in range(len(rows)) if expected[place] == 0]


@given(rows=LOSSES, eta=st.integers(2, 4))
def test_a_share_goes_on_and_none_that_stays_is_better_than_one_that_does(rows, eta):
    losses = np.array(rows, dtype=float)
    on = [goes_on(losses, place, eta) for place in range(len(rows))]
    best = front(losses)
    assert sum(on) == max(math.ceil(len(rows) / eta), len(best))
    assert all(on[place] for place in best)
    for place, goes in enumerate(on):
        for other, also in enumerate(on):
            assert not (goes and not also and is_better(rows[other], rows[place]))


def test_of_trials_of_one_rank_that_some_beat_those_of_the_best_first_objective_go_on():
    losses = np.array([[0.0, 0.0], [3.0, 1.0], [2.0, 2.0], [1.0, 3.0]])
    assert [goes_on(losses, place, 2) for place in range(4)] == [True, False, False, True]


def test_all_that_none_is_better_than_go_on_however_many():
    losses = np.array([[3.0, 1.0], [2.0, 2.0], [1.0, 3.0], [3.0, 3.0]])
    assert [goes_on(losses, place, 3) for place in range(4)] == [True, True, True, False]


@pytest.mark.parametrize("count", [1, 2, 3])
def test_the_first_to_reach_a_rung_goes_on(count):
    assert goes_on(np.zeros((1, count)), 0)
