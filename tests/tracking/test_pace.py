import pytest

from tumorseg.tracking import pace as module
from tumorseg.tracking.pace import Pace


@pytest.fixture
def clock(monkeypatch):
    """A clock that a test sets."""
    now = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    return now


def take(pace, clock, seconds):
    for each in seconds:
        clock[0] += each
        pace.step()


def test_without_a_span_the_mean_of_all_steps_of_this_run_counts(clock):
    pace = Pace(10, 4)
    assert pace.seconds_left is None
    assert pace.text() == ""
    take(pace, clock, [1.0, 3.0, 2.0])
    assert pace.seconds_left == pytest.approx(2.0 * 3)
    assert pace.text() == "0:06 left"


def test_with_a_span_the_latest_steps_count(clock):
    pace = Pace(100, span=4)
    take(pace, clock, [9.0] * 20)
    assert pace.seconds_left == pytest.approx(9.0 * 80)
    take(pace, clock, [1.0] * 4)
    assert pace.seconds_left == pytest.approx(1.0 * 76)


def test_right_after_a_resume_the_log_tells_the_pace(clock):
    pace = Pace(100, 40, span=10, usual_s=2.0)
    assert pace.text() == "2:00 left"
    take(pace, clock, [30.0])  # the first step waits for the readers
    assert pace.seconds_left == pytest.approx((30.0 + 9 * 2.0) / 10 * 59)
    take(pace, clock, [1.0] * 10)
    assert pace.seconds_left == pytest.approx(1.0 * 49)


def test_an_end_that_moves_moves_the_time_that_is_left(clock):
    pace = Pace(10)
    take(pace, clock, [1.0] * 5)
    pace.total = 7
    assert pace.seconds_left == pytest.approx(2.0)
    assert pace.text() == "0:02 left"


def test_at_the_end_it_tells_what_was_taken(clock):
    pace = Pace(2)
    take(pace, clock, [30.0, 31.0])
    assert pace.text() == "took 1:01"
    assert pace.seconds_left == 0
