import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from tumorseg.engine.readers import (
    LEAST_AHEAD,
    MOST_READERS,
    Needs,
    Reading,
    Room,
    ahead,
    compute_alone,
    decide_reading,
)

GB = 2**30
SMALL = Needs(on_gpu=False, patches_per_batch=2, patch_bytes=10**6, reading_bytes=10**7)


def test_what_has_begun_comes_in_order_once_a_few_more_have_begun():
    begun = []
    found = ahead((begun.append(number) or number for number in range(10)), 3)
    assert next(found) == 0
    assert begun == [0, 1, 2, 3]
    assert list(found) == list(range(1, 10))
    assert list(ahead([], 3)) == []


def test_with_nothing_ahead_each_begins_when_it_is_asked_for():
    begun = []
    found = ahead((begun.append(number) or number for number in range(3)), 0)
    assert [(next(found), list(begun)) for _ in range(3)] == [(0, [0]), (1, [0, 1]), (2, [0, 1, 2])]


@pytest.mark.parametrize("on_gpu", [False, True])
@pytest.mark.parametrize("cores", [1, 2, 3, 8, 64])
def test_there_is_always_a_reader_and_cores_are_left_for_the_steps(cores, on_gpu):
    found = decide_reading(Room(cores, 64 * GB), SMALL._replace(on_gpu=on_gpu))
    assert 1 <= found.num_workers <= max(1, cores - 2)
    assert found.num_ahead * 2 >= found.num_workers + 2


def test_on_two_cores_one_thread_reads_and_beside_a_gpu_as_many_as_are_of_use():
    assert decide_reading(Room(2, 16 * GB), SMALL) == Reading(1, LEAST_AHEAD)
    assert decide_reading(Room(64, 16 * GB), SMALL._replace(on_gpu=True)).num_workers == MOST_READERS


def test_memory_bounds_what_is_read_ahead_and_how_many_read():
    large = Needs(on_gpu=True, patches_per_batch=2, patch_bytes=GB // 4, reading_bytes=GB)
    assert decide_reading(Room(64, 16 * GB), large) == Reading(2, LEAST_AHEAD)
    assert decide_reading(Room(64, 8 * GB), large) == Reading(1, 2)
    assert decide_reading(Room(64, GB), large) == Reading(1, 1)
    assert decide_reading(Room(64, None), large) == Reading(MOST_READERS, 5)


def test_the_users_number_of_workers_stands_and_memory_bounds_what_they_read_ahead():
    assert decide_reading(Room(2, 16 * GB), SMALL, 0) == Reading(0, 0)
    assert decide_reading(Room(2, 16 * GB), SMALL, 7) == Reading(7, 5)
    assert decide_reading(Room(2, None), SMALL, 3) == Reading(3, LEAST_AHEAD)
    assert decide_reading(Room(2, GB), SMALL._replace(patch_bytes=GB // 32), 7) == Reading(7, 2)


def test_processes_share_what_a_machine_has():
    alone, shared = Room.here(1), Room.here(2)
    assert shared.num_cores == max(1, alone.num_cores // 2)
    assert shared.free_bytes < 0.8 * alone.free_bytes


def test_a_reader_computes_without_helpers_and_leaves_all_other_threads_theirs():
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        # All at once, so that each of them is a thread of its own.
        barrier = threading.Barrier(4)
        with ThreadPoolExecutor(4, initializer=compute_alone) as pool:
            found = [pool.submit(lambda: (barrier.wait(), torch.get_num_threads())[1]) for _ in range(4)]
            assert [future.result() for future in found] == [1, 1, 1, 1]
        assert torch.get_num_threads() == 3
        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(torch.get_num_threads).result() == 3
    finally:
        torch.set_num_threads(before)
