"""A sample of what benchmarks/selection_noise.py shows."""

import json

import numpy as np
import pytest

from benchmarks.selection_noise import LEVEL, NOISE, RESULT, TRUE, Cell, DrawnScorer, outside, simulate
from tumorseg.ops.choosing.protocol import single


def shares(cell: Cell, simulations: int) -> dict[str, float]:
    draws = [simulate(seed, cell) for seed in range(simulations)]
    return {key: float(np.mean([draw[key] for draw in draws])) for key in draws[0]}


def test_under_noise_hardly_anything_is_claimed() -> None:
    # Seeds are fixed: this either holds or does not.
    assert shares(Cell(NOISE[1], 40), 10)["claimed"] <= 0.2


def test_what_is_there_is_found_and_claimed() -> None:
    found = shares(Cell(TRUE, 150), 3)
    assert found["claimed"] == 1
    assert found["true_gain"] > 0.005


@pytest.mark.slow
@pytest.mark.parametrize("world", NOISE[1:])
def test_under_noise_a_gain_is_claimed_in_at_most_5_percent_of_draws(world) -> None:
    assert shares(Cell(world, 60), 100)["claimed"] <= LEVEL + 3 * (LEVEL * (1 - LEVEL) / 100) ** 0.5


def test_the_committed_result_claims_no_more_than_it_may() -> None:
    result = json.loads(RESULT.read_text())
    assert result["outside"] == outside(result["rows"], result["simulations"]) == []
    assert result["simulations"] >= 500


def test_draws_depend_on_the_choice_and_the_seed_alone() -> None:
    cell = Cell(NOISE[1], 15, cases_per_patient=3)
    first, again, other = (DrawnScorer(cell, seed).scores([single(1, 4)])[0] for seed in (5, 5, 6))
    np.testing.assert_array_equal(first, again)
    assert not np.allclose(first, other)
