import os
import signal
import threading
import time
from contextlib import closing

import pytest

from tumorseg.errors import InputError
from tumorseg.workers.lanes import run_lanes
from tumorseg.workers.outcomes import Failure, Success

WAIT_S = 20.0
"""Longer than any machine needs; a test that waits so long has failed."""


def pairs(*names):
    return [(name, name) for name in names]


@pytest.mark.parametrize("num_lanes", [0, 1, 2, 5])
def test_each_case_comes_back_once_whatever_the_number_of_lanes(num_lanes):
    found = list(run_lanes(str.upper, pairs("a", "b", "c", "d"), num_lanes=num_lanes))
    assert sorted(found) == [Success(name, name.upper()) for name in "abcd"]


@pytest.mark.parametrize("num_lanes", [1, 2])
def test_a_case_that_fails_leaves_the_others_alone(num_lanes):
    def work(name):
        if name == "b":
            raise InputError("found nothing, expected an image")
        return len(name)

    found = {outcome.case_id: outcome for outcome in run_lanes(work, pairs("a", "b", "c"), num_lanes=num_lanes)}
    assert found["b"] == Failure("b", "found nothing, expected an image")
    assert found["a"] == Success("a", 1)
    assert found["c"] == Success("c", 1)


def test_two_cases_are_under_way_at_once_and_never_three():
    meeting = threading.Barrier(2)
    under_way, most, guard = [], [], threading.Lock()

    def work(name):
        with guard:
            under_way.append(name)
            most.append(len(under_way))
        # Nobody gets on before a second case is there.
        meeting.wait(WAIT_S)
        with guard:
            under_way.remove(name)

    found = list(run_lanes(work, pairs("a", "b", "c", "d"), num_lanes=2))
    assert all(isinstance(outcome, Success) for outcome in found)
    assert max(most) == 2


def test_a_case_is_drawn_when_a_lane_is_free_for_it():
    drawn = []

    def items():
        for name in "abcdef":
            drawn.append(name)
            yield name, name

    outcomes = run_lanes(str, items(), num_lanes=2)
    next(outcomes)
    assert len(drawn) <= 3
    outcomes.close()


@pytest.mark.parametrize("num_lanes", [1, 2])
def test_when_the_caller_stops_cases_that_have_begun_are_asked_to_stop_before_they_are_waited_for(num_lanes):
    is_stopped = threading.Event()

    def work(name):
        # Only the first one ends by itself.
        return name == "a" or is_stopped.wait(WAIT_S)

    outcomes = run_lanes(work, pairs("a", "b", "c"), num_lanes=num_lanes, stop=is_stopped.set)
    assert next(outcomes) == Success("a", True)
    outcomes.close()
    assert is_stopped.is_set()


def test_nobody_is_asked_to_stop_when_all_cases_are_done():
    asked = []
    list(run_lanes(str.upper, pairs("a", "b"), num_lanes=2, stop=lambda: asked.append(1)))
    assert not asked


def test_when_the_caller_stops_what_has_begun_comes_to_its_end_and_nothing_else_begins():
    begun, ended = [], []

    def work(name):
        begun.append(name)
        if name != "a":
            is_closing.wait(WAIT_S)
        ended.append(name)

    is_closing = threading.Event()
    with closing(run_lanes(work, pairs("a", "b", "c", "d", "e"), num_lanes=2)) as outcomes:
        next(outcomes)
        is_closing.set()
    assert sorted(begun) == sorted(ended)
    assert len(begun) < 5


def test_lanes_are_waited_for_however_often_the_caller_is_interrupted():
    begun, ended, is_over = [], [], threading.Event()

    def work(name):
        begun.append(name)
        if name != "a":
            is_over.wait(WAIT_S)
        ended.append(name)

    def interrupt():
        for _ in range(3):
            time.sleep(0.05)
            os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.05)
        is_over.set()

    outcomes = run_lanes(work, pairs("a", "b", "c"), num_lanes=2)
    next(outcomes)
    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        outcomes.close()
    assert sorted(begun) == sorted(ended)
    thread.join()
