import numpy as np
import pytest

from benchmarks.tuning_synthetic import World, _place, study_of
from tumorseg.tuning.engine import Engine
from tumorseg.tuning.samplers import EVERY, STARTUP

WORLD = World(2)
LR = next(one for one in WORLD.space.parameters if one.field == "optimizer.lr")


def values_of(folder, sampler, num_trials, score):
    engine = Engine(
        study_of(WORLD, sampler), WORLD.plan_values, str(folder / f"{sampler}{len(list(folder.iterdir()))}")
    )
    found = []
    for _ in range(num_trials):
        asked = engine.ask()
        engine.report(asked.number, 0, (score(asked.values),))
        engine.finish(asked.number)
        found.append(asked.values)
    return found


def test_random_draws_know_of_no_score_and_fill_the_space_evenly(tmp_path):
    found = values_of(tmp_path, "random", 81, WORLD.dsc)
    assert values_of(tmp_path, "random", 12, lambda values: -WORLD.dsc(values)) == found[:12]
    places = [_place(LR, values["optimizer.lr"]) for values in found[1:]]
    counts = np.histogram(places, bins=4, range=(0, 1))[0]
    # Of 80 draws a quarter each, within four standard deviations.
    assert counts == pytest.approx([20] * 4, abs=4 * np.sqrt(80 * 3 / 16))


def test_first_draws_and_every_fourth_are_from_the_prior_whatever_the_scores(tmp_path):
    one = values_of(tmp_path, "tpe", 20, WORLD.dsc)
    other = values_of(tmp_path, "tpe", 20, lambda values: -WORLD.dsc(values))
    alike = {number for number in range(20) if one[number] == other[number]}
    assert alike == {*range(STARTUP), *range(STARTUP + EVERY - 1 - STARTUP % EVERY, 20, EVERY)}


def test_the_prior_lies_around_the_plans_own_values(tmp_path):
    engine = Engine(study_of(WORLD, "tpe"), WORLD.plan_values, str(tmp_path / "journal"))
    # Nothing is scored, so that all are drawn from it.
    drawn = []
    for _ in range(60):
        asked = engine.ask()
        engine.hand_out(asked.number)
        drawn.append(asked.values)
    assert np.mean([values["loss.preset"] == WORLD.plan_preset for values in drawn]) == pytest.approx(0.5, abs=0.2)
    off = [abs(_place(LR, values["optimizer.lr"]) - _place(LR, LR.center)) for values in drawn]
    assert np.mean(off) < 0.25


@pytest.mark.parametrize("sampler", ["tpe", pytest.param("gp", marks=pytest.mark.slow), "nsga2"])
def test_scores_draw_trials_to_where_they_are_high(sampler, tmp_path):
    goal = 0.85 if _place(LR, LR.center) < 0.5 else 0.15

    def score(values):
        return 1 - abs(_place(LR, values["optimizer.lr"]) - goal)

    num_trials = 24 if sampler == "gp" else 44
    found = [score(values) for values in values_of(tmp_path, sampler, num_trials, score)]
    half = num_trials // 2
    assert np.mean(found[half:]) > np.mean(found[:STARTUP]) + 0.05
