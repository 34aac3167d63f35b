from tests.tuning.small_studies import study_of
from tumorseg.schema.tuning import Score, Trial
from tumorseg.tuning.candidates import choose_candidates


def trial(number, value, state="finished", iteration=4, lr=None):
    scores = (Score(iteration=2, values=(0.99,)), Score(iteration=iteration, values=(value,)))
    return Trial(number=number, state=state, values={"optimizer.lr": number if lr is None else lr}, scores=scores)


def numbers(trials, study=None, pareto=(), **options):
    return [one.number for one in choose_candidates(trials, study or study_of(), pareto, **options)]


def test_the_best_at_the_last_rung_come_first_and_never_the_default():
    trials = [trial(0, 0.95), trial(1, 0.6), trial(2, 0.9), trial(3, 0.7), trial(4, 0.8)]
    assert numbers(trials) == [2, 4, 3]
    assert numbers(trials, most=2) == [2, 4]


def test_what_did_not_reach_its_end_is_no_candidate():
    trials = [trial(1, 0.9, state="pruned", iteration=2), trial(2, 0.8, state="failed"), trial(3, 0.1)]
    trials += [trial(4, 0.9, iteration=3), Trial(number=5, state="running", values={})]
    assert numbers(trials) == [3]


def test_no_values_are_tried_twice_nor_those_of_the_default():
    trials = [
        trial(0, 0.5, lr=0.01),
        trial(1, 0.9, lr=0.01),
        trial(2, 0.8, lr=0.02),
        trial(3, 0.8, lr=0.02),
        trial(4, 0.2),
    ]
    assert numbers(trials) == [2, 4]


def test_less_is_better_of_a_distance():
    study = study_of(objectives=("hd95",))
    assert numbers([trial(1, 9.0), trial(2, 3.0), trial(3, 5.0)], study, most=2) == [2, 3]


def test_of_several_objectives_only_the_front_comes_into_question():
    study = study_of(objectives=("dsc", "seconds"))
    assert numbers([trial(1, 0.9), trial(2, 0.8), trial(3, 0.7)], study, pareto={0, 3, 2}) == [2, 3]
    # Of one objective the front is its best trial alone.
    assert numbers([trial(1, 0.9), trial(2, 0.8)], pareto={1}) == [1, 2]
