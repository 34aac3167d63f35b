"""A sample of what benchmarks/tuning_noise.py shows."""

import json

import numpy as np
import pytest

from benchmarks.tuning_noise import RESULT, WORLDS, outside, simulate

BY_NAME = {world.name: world for world in WORLDS}


def counted(name, key, studies):
    return sum(simulate(number, BY_NAME[name])[key] for number in range(studies))


def test_under_noise_hardly_any_gain_is_claimed() -> None:
    # Seeds are fixed: this either holds or does not.
    assert counted("noise", "false", 20) <= 2


def test_with_one_seed_no_gain_is_claimed() -> None:
    assert counted("noise, one seed", "false", 20) == 0


def test_a_gain_well_above_the_noise_is_claimed() -> None:
    assert counted("gain of .02, small noise", "true", 6) >= 4


@pytest.mark.slow
@pytest.mark.parametrize("world", [world for world in WORLDS if world.gain == 0], ids=lambda one: one.name)
def test_under_noise_a_gain_is_claimed_in_at_most_16_of_200_studies(world) -> None:
    assert sum(simulate(number, world)["false"] for number in range(200)) <= 16


def test_the_committed_result_claims_no_more_than_it_may() -> None:
    result = json.loads(RESULT.read_text())
    assert result["outside"] == outside(result["rows"], result["studies"]) == []
    assert result["studies"] >= 200
    assert [row["name"] for row in result["rows"]] == [world.name for world in WORLDS]


def test_what_a_search_would_report_by_itself_is_a_gain_that_is_none() -> None:
    studies = [simulate(number, BY_NAME["noise"]) for number in range(10)]
    assert np.mean([study["apparent"] for study in studies]) > 0.01
    assert abs(np.mean([study["honest"] for study in studies])) < 0.01
