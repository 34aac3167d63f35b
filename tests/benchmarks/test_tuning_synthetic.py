"""A sample of what benchmarks/tuning_synthetic.py shows, and of the landscapes that it is measured on."""

import json
import sys

import pytest

from benchmarks import tuning_synthetic
from benchmarks.tuning_synthetic import (
    World,
    _known_front,
    _volume,
    front_row,
    gains,
    pruning_row,
    search,
    study_of,
    summary,
    trials_row,
    trials_to,
)

WORLD = World(0)


def test_a_landscape_is_highest_at_its_optimum_and_the_plan_is_off_it():
    tried = search(WORLD, study_of(WORLD, "random"), 60, lambda values, number, steps: (WORLD.dsc(values),))
    best = max(dsc for dsc, seconds in _known_front(WORLD))
    assert best == pytest.approx(0.9, abs=1e-4)
    assert all(one.scored[0] < best for one in tried)
    assert tried[0].values == WORLD.plan_values
    assert WORLD.dsc(WORLD.plan_values) < 0.89


def test_no_trial_is_beyond_the_known_front():
    front = _known_front(WORLD)

    def score(values, number, steps):
        return WORLD.dsc(values), WORLD.seconds(values)

    for one in search(WORLD, study_of(WORLD, "random", objectives=("dsc", "seconds")), 60, score):
        dsc, seconds = one.scored
        assert any(best >= dsc and least <= seconds + 0.1 for best, least in front)


def test_areas_are_counted_once():
    assert _volume([(0.8, 35.0)]) == pytest.approx(1.0)
    assert _volume([(0.8, 35.0), (0.75, 40.0)]) == pytest.approx(1.0)
    assert _volume([(0.8, 35.0), (0.9, 40.0)]) == pytest.approx(1.5)
    assert _volume([(0.6, 35.0), (0.9, 50.0)]) == 0


def test_a_gain_is_the_true_one_of_what_seems_best():
    tried = search(WORLD, study_of(WORLD, "random"), 5, lambda values, number, steps: (float(number == 3),))
    found = gains(WORLD, tried)
    assert found[:3] == [0, 0, 0]
    assert found[3:] == [WORLD.dsc(tried[3].values) - WORLD.dsc(tried[0].values)] * 2
    assert [trials_to([0.1, 0.2], gain) for gain in (0.1, 0.2, 0.3)] == [1, 2, 3]


@pytest.mark.slow
def test_pruning_saves_iterations_and_keeps_the_winner():
    rows = [pruning_row(seed, num_trials=30) for seed in range(3)]
    found = summary(rows)
    assert found["saved"] > 0.4
    assert found["same_winner"] == 1


@pytest.mark.slow
def test_a_fraction_of_random_searchs_trials_reaches_most_of_its_gain():
    found = summary([trials_row(seed) for seed in range(8)])
    assert found["ours"] <= found["random"] / 4
    assert found["ours_to_ours"] <= found["random_to_ours"] / 4


@pytest.mark.slow
def test_most_of_a_known_front_is_found():
    found = summary([front_row(seed) for seed in range(2)])
    assert found["ours"] > 0.85
    assert found["ours"] > found["random"]


def test_rows_that_are_there_are_kept(tmp_path, monkeypatch, capsys):
    path = tmp_path / "tuning_synthetic.json"
    monkeypatch.setattr(tuning_synthetic, "RESULT", path)
    monkeypatch.setitem(
        tuning_synthetic.PARTS, "pruning", (("median",), lambda seed, name: {"seed": seed, "saved": seed / 10})
    )
    for seeds in ("2", "4"):
        monkeypatch.setattr(sys, "argv", ["tuning_synthetic", "--part", "pruning", "--seeds", seeds])
        tuning_synthetic.main()
    written = json.loads(path.read_text())
    assert [row["seed"] for row in written["rows"]["pruning median"]] == [0, 1, 2, 3]
    assert written["summary"]["pruning median"]["saved"] == pytest.approx(0.15)
    assert capsys.readouterr().err.count("'seed': 1,") == 1
