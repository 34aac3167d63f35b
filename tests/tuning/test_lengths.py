import pytest
from hypothesis import given
from hypothesis import strategies as st

from tumorseg.errors import PlanError
from tumorseg.schema.training import Training
from tumorseg.tuning.lengths import (
    LEAST_ITERATIONS,
    MOST_ITERATIONS,
    Time,
    final_iterations_of,
    proxy_of,
)


def training_of(epochs, iterations):
    return Training(epochs=epochs, iterations_per_epoch=iterations, validation_iterations=1)


def test_a_trial_takes_a_hundredth_of_the_planned_steps_within_bounds():
    assert proxy_of(training_of(200, 250)).rungs == (54, 162, 486)
    assert proxy_of(training_of(1000, 250)).iterations == MOST_ITERATIONS
    assert proxy_of(training_of(10, 50)).iterations == LEAST_ITERATIONS
    # Never longer than what is planned.
    assert proxy_of(training_of(2, 10)).iterations == 18
    assert proxy_of(training_of(4, 10)).iterations == 27


def test_steps_that_are_asked_for_are_rounded_down_to_whole_rungs():
    assert proxy_of(training_of(1000, 250), asked=100).rungs == (9, 27, 81)
    with pytest.raises(PlanError, match="--proxy-iterations 8: expected at least 9"):
        proxy_of(training_of(1000, 250), asked=8)


@given(st.floats(0.1, 100), st.integers(1, 8), st.floats(0.01, 100))
def test_what_a_time_is_enough_for_is_scored_three_times(hours, num_each, step_s):
    proxy = proxy_of(training_of(1000, 250), time=Time(hours, step_s, num_each))
    first, second, third = proxy.rungs
    assert (second, third) == (3 * first, 9 * first)
    assert LEAST_ITERATIONS - 27 < third <= MOST_ITERATIONS


def test_twice_the_time_is_enough_for_twice_the_steps():
    short, long = (proxy_of(training_of(1000, 250), time=Time(hours, 0.3, 2)).iterations for hours in (1.5, 3.0))
    assert 350 <= short <= 366
    assert long == pytest.approx(2 * short, rel=0.08)


def test_what_judges_is_trained_twice_as_long_but_no_longer_than_planned():
    proxy = proxy_of(training_of(1000, 250), asked=891)
    assert final_iterations_of(training_of(1000, 250), proxy) == 1780
    assert final_iterations_of(training_of(10, 100), proxy) == 1000
    assert final_iterations_of(training_of(1, 100), proxy) == 880
    assert final_iterations_of(training_of(1, 100), proxy, asked=5) == 5
