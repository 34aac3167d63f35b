import threading
import time

import pytest

from tumorseg.engine.stopwatch import EpochClock, Stopwatch


def test_parts_add_up_also_from_several_threads_and_after_an_error():
    stopwatch = Stopwatch()
    threads = [threading.Thread(target=stopwatch.add, args=("network", 0.5)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    try:
        with stopwatch.part("read"):
            raise ValueError
    except ValueError:
        pass
    assert stopwatch.seconds["network"] == 2.0
    assert stopwatch.seconds["read"] >= 0.0


def test_a_lap_begins_again_from_nothing():
    stopwatch = Stopwatch()
    stopwatch.add("read", 1.5)
    assert stopwatch.lap() == {"read": 1.5}
    assert stopwatch.lap() == {}


def test_all_that_is_neither_step_nor_validation_is_waiting():
    clock, beside = EpochClock(), Stopwatch()
    clock.begin()
    began = time.perf_counter()
    with clock.part("step"):
        time.sleep(0.02)
    time.sleep(0.03)
    with clock.part("validation"):
        time.sleep(0.01)
    beside.add("reading", 7.0)
    found = clock.lap(beside)
    passed = time.perf_counter() - began
    assert (found.step >= 0.02, found.waiting >= 0.03, found.validation >= 0.01) == (True, True, True)
    assert found.step + found.waiting + found.validation == pytest.approx(passed, abs=0.005)
    assert (found.reading, found.augmentation, found.transfer) == (7.0, 0.0, 0.0)


def test_what_is_done_between_two_logs_is_the_next_epochs_waiting():
    clock, beside = EpochClock(), Stopwatch()
    clock.begin()
    first = clock.lap(beside)
    time.sleep(0.02)
    second = clock.lap(beside)
    assert first.waiting < 0.02 <= second.waiting
    assert first.step == second.step == 0
