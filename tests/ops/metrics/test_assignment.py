import tracemalloc

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from tumorseg.ops.metrics.assignment import assigned
from tumorseg.ops.metrics.components import Overlaps


def drawn(seed, num_parts, num_pairs):
    """Return pairs of parts that share voxels, and what each gains; some gain nothing."""
    rng = np.random.default_rng(seed)
    codes = np.unique(rng.integers(0, num_parts**2, num_pairs))
    pairs = Overlaps(codes // num_parts + 1, codes % num_parts + 1, np.ones_like(codes))
    return pairs, np.where(rng.random(codes.size) < 0.1, 0.0, rng.random(codes.size))


def chain(num):
    """Return pairs each of which shares a part with the next: (1, 1), (1, 2), (2, 2), (2, 3) and so on."""
    first = np.repeat(np.arange(num), 2) + 1
    second = (np.arange(2 * num) + 1) // 2 + 1
    return Overlaps(first, second, np.ones_like(first)), np.random.default_rng(num).random(2 * num)


def best_of_chain(gains):
    """Return the largest sum of gains of which no two follow each other."""
    without, with_last = 0.0, 0.0
    for gain in gains:
        without, with_last = max(without, with_last), without + gain
    return max(without, with_last)


def assert_no_part_twice(pairs, chosen):
    for numbers in (pairs.first[chosen], pairs.second[chosen]):
        assert np.unique(numbers).size == chosen.size


# Few pairs fall into many blocks, many into one.
@pytest.mark.parametrize("num_pairs", [1, 20, 60, 300, 2000])
def test_the_chosen_pairs_gain_as_much_as_those_of_one_table_of_all(num_pairs):
    pairs, gains = drawn(num_pairs, 50, num_pairs)
    table = np.zeros((51, 51))
    table[pairs.first, pairs.second] = gains
    chosen = assigned(pairs, gains)
    assert_no_part_twice(pairs, chosen)
    assert (gains[chosen] > 0).all()
    assert np.all(np.diff(chosen) > 0)
    assert gains[chosen].sum() == pytest.approx(table[linear_sum_assignment(table, maximize=True)].sum(), rel=1e-12)


@pytest.mark.parametrize("num", [5, 1300, 1700])
def test_a_block_of_any_size_is_solved(num):
    # The last has more places than a table may have.
    pairs, gains = chain(num)
    chosen = assigned(pairs, gains)
    assert_no_part_twice(pairs, chosen)
    assert gains[chosen].sum() == pytest.approx(best_of_chain(gains.tolist()), rel=1e-12)


def test_a_part_that_overlaps_thousands_is_in_one_pair():
    first = np.ones(20_000, dtype=np.int64)
    gains = np.random.default_rng(3).random(20_000)
    found = assigned(Overlaps(first, np.arange(20_000) + 1, first), gains)
    assert found.tolist() == [gains.argmax()]


def test_thousands_of_blocks_take_the_memory_of_their_pairs():
    # A table of all would take 120 MB.
    numbers = np.arange(4_000)
    pairs = Overlaps(numbers // 2 + 1, numbers - numbers // 4 + 1, np.ones_like(numbers))
    tracemalloc.start()
    chosen = assigned(pairs, np.random.default_rng(5).random(numbers.size))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert_no_part_twice(pairs, chosen)
    assert peak < 4e6


def test_nothing_to_choose_from_is_nothing_chosen():
    nothing = np.zeros(0, dtype=np.int64)
    assert assigned(Overlaps(nothing, nothing, nothing), np.zeros(0)).size == 0
    one = np.ones(1, dtype=np.int64)
    assert assigned(Overlaps(one, one, one), np.zeros(1)).size == 0
