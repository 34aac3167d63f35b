import pytest

from benchmarks.tuning_synthetic import World, study_of
from tumorseg.tuning.engine import Engine
from tumorseg.tuning.pruning import STARTUP

WORLD = World(1)
RUNGS = (100, 300, 900)
GOOD, BAD = (0.5, 0.7, 0.9), (0.4, 0.5, 0.6)


@pytest.fixture
def engine_of(tmp_path):
    def opened(pruner, objectives=("dsc",)):
        study = study_of(WORLD, "random", pruner, rungs=RUNGS, objectives=objectives)
        return Engine(study, WORLD.plan_values, str(tmp_path / "journal.log"))

    return opened


def run(engine, curve):
    """Run a trial; return at how many rungs it was scored."""
    number = engine.ask().number
    for index, score in enumerate(curve):
        if engine.report(number, index, score if isinstance(score, tuple) else (score,)):
            engine.prune(number)
            return index + 1
    engine.finish(number)
    return len(curve)


def test_the_median_stops_what_is_worse_than_half_of_the_finished_trials(engine_of):
    engine = engine_of("median")
    assert [run(engine, BAD) for _ in range(STARTUP)] == [3] * STARTUP
    assert run(engine, GOOD) == 3
    assert run(engine, (0.39, 0.9, 0.9)) == 1
    assert run(engine, (0.41, 0.45, 0.9)) == 2
    assert [trial.state for trial in engine.trials()[STARTUP:]] == ["finished", "pruned", "pruned"]


def test_distances_are_pruned_where_they_are_large(engine_of):
    engine = engine_of("median", ("hd95",))
    for _ in range(STARTUP + 1):
        run(engine, (9.0, 6.0, 4.0))
    assert run(engine, (12.0, 1.0, 1.0)) == 1
    assert run(engine, (8.0, 5.0, 3.0)) == 3


def test_hyperband_lets_the_better_ones_go_on(engine_of):
    engine = engine_of("hyperband")
    reached = [run(engine, GOOD if number % 4 == 0 else BAD) for number in range(24)]
    good, bad = reached[0::4], [one for number, one in enumerate(reached) if number % 4]
    assert good[:3] == [3, 3, 3] or sum(good) / len(good) > sum(bad) / len(bad)
    assert sum(bad) < 3 * len(bad)
    assert sum(good) / len(good) > sum(bad) / len(bad)


@pytest.mark.parametrize("objectives", [("dsc",), ("dsc", "hd95")])
def test_none_stops_nothing(engine_of, objectives):
    engine = engine_of("none", objectives)
    curve = [(0.9 - number / 10, 1.0 + number)[: len(objectives)] for number in range(3)]
    assert [run(engine, [tuple(value / (1 + place) for value in one) for one in curve]) for place in range(8)] == [
        3
    ] * 8


def test_of_several_objectives_the_best_third_goes_on_and_all_that_none_beats(engine_of):
    engine = engine_of("median", ("dsc", "hd95"))
    assert run(engine, [(0.5, 9.0), (0.6, 8.0), (0.7, 7.0)]) == 3
    # Better in both, worse in both, as good as the best in one.
    assert run(engine, [(0.6, 8.0), (0.7, 7.0), (0.8, 6.0)]) == 3
    assert run(engine, [(0.4, 10.0), (0.9, 1.0), (0.9, 1.0)]) == 1
    assert run(engine, [(0.7, 9.0), (0.8, 8.0), (0.8, 7.0)]) == 3
    # Trades what the front has for more of the other: no third of so few, and yet no worse than any.
    assert run(engine, [(0.5, 5.0), (0.5, 5.0), (0.5, 5.0)]) == 3


@pytest.mark.parametrize(
    ("pruner", "objectives"), [("median", ("dsc",)), ("hyperband", ("dsc",)), ("median", ("dsc", "hd95"))]
)
def test_the_default_is_never_stopped_and_nothing_is_at_its_last_rung(engine_of, pruner, objectives):
    engine = engine_of(pruner, objectives)
    default = engine.ask().number
    engine.hand_out(default)
    for _ in range(STARTUP + 3):
        run(engine, [(0.9, 1.0)[: len(objectives)]] * 3)
    late = engine.ask().number
    # Both are far worse than all others.
    assert [engine.report(default, index, (0.1, 99.0)[: len(objectives)]) for index in range(3)] == [False] * 3
    assert engine.report(late, 2, (0.1, 99.0)[: len(objectives)]) is False
