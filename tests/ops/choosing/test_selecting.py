import numpy as np
import pytest

from tests.ops.choosing.scorers import RuledScorer, near, shares
from tumorseg.ops.choosing.finishing import THRESHOLDS
from tumorseg.ops.choosing.protocol import Choice, single
from tumorseg.ops.choosing.rounds import Options
from tumorseg.ops.choosing.selecting import select, select_on_each
from tumorseg.schema.ensembles import FillHoles, KeepLargest, RemoveSmall

ALL = range(40)
LARGEST, SMALL, SMALLER = (
    KeepLargest(labels=("a", "b")),
    RemoveSmall(labels=("a",), least_mm3=300),
    FillHoles(label="b"),
)


def chosen(rule, *, options=Options(), **how):  # noqa: B008
    scorer = RuledScorer(rule, **how)
    return select(scorer, range(len(scorer.case_ids)), options)


def test_candidates_are_added_until_none_helps():
    found = chosen(near([(2 / 3, 1 / 3, 0), (2 / 3, 1 / 3, 0)]))
    assert found.choice == Choice(((2, 1, 0),))
    assert found.baseline == single(0, 3)


def test_the_mean_of_all_is_found_at_once():
    found = chosen(near([(1 / 3, 1 / 3, 1 / 3)] * 2))
    assert found.choice == Choice(((1, 1, 1),))
    assert [trial.round for trial in found.trials if trial.verdict == "taken"] == [0]


def test_of_equal_gains_fewer_members_are_taken():
    found = chosen(lambda choice: 0.05 * np.ones(2) * (len(choice.used) > 1))
    assert len(found.choice.used) == 2


def test_a_candidate_that_nothing_improves_stays_alone():
    found = chosen(near([(0, 1, 0)] * 2))
    assert found.choice == found.baseline == single(1, 3)
    assert not [trial for trial in found.trials if trial.verdict == "taken"]


def test_equal_candidates_leave_the_first():
    assert chosen(lambda choice: np.zeros(2)).choice == single(0, 3)


def test_counts_stay_within_their_largest_sum():
    found = chosen(near([(0.95, 0.05)] * 2), num_candidates=2, options=Options(most_counts=6))
    assert sum(found.choice.counts[0]) <= 6


def test_models_of_labels_alone_have_no_rows_and_no_thresholds_of_regions():
    options = Options(label_candidates=(0, 1))
    rule = near([(1, 0, 0), (0, 1, 0)])
    scorer = RuledScorer(lambda choice: rule(choice) + 0.01 * (choice.thresholds != ()))
    select(scorer, range(40), options)
    asked = [choice for choices in scorer.asked for choice in choices]
    mixed = [choice for choice in asked if len(choice.counts) > 1 or choice.thresholds]
    assert mixed
    assert all(2 in choice.used for choice in mixed)
    assert any(2 not in choice.used for choice in asked)


def test_where_all_predict_labels_only_what_is_common_is_proposed():
    scorer = RuledScorer(near([(1, 0), (0, 1)]), num_candidates=2)
    found = select(scorer, range(40), Options(label_candidates=(0, 1)))
    assert all(len(choice.counts) == 1 and not choice.thresholds for choices in scorer.asked for choice in choices)
    assert len(found.choice.counts) == 1


def test_names_have_members_of_their_own_where_that_harms_none():
    found = chosen(near([(1, 0, 0), (0, 0, 1)]))
    assert found.choice == Choice(((1, 0, 0), (0, 0, 1)))


def test_members_of_its_own_that_harm_another_name_are_refused():
    def rule(choice):
        better = shares(choice, 1)[1] - shares(choice, 0)[1]
        return np.array([0.06 - 0.1 * shares(choice, 0)[1] - 0.002 * better, 0.05 * better])

    found = chosen(rule, num_candidates=2)
    assert found.choice == single(0, 2)
    refused = [trial for trial in found.trials if trial.verdict == "harms"]
    assert {(trial.stage, trial.name, trial.harmed) for trial in refused} >= {("names", "TC", "WT")}


def test_an_ensemble_may_lose_a_name_a_little_for_the_mean():
    found = chosen(
        lambda choice: np.array([0.1, -0.01]) * (len(choice.used) == 2), num_candidates=2, names=("WT", "TC")
    )
    assert found.choice.counts[0] == (1, 1)


def at(best: float):
    """Return a rule by which the second region is best at a threshold."""

    def rule(choice):
        found = choice.thresholds or (0.5, 0.5)
        return np.array([0.0, 0.05 - abs(found[1] - best)])

    return rule


@pytest.mark.parametrize("best", [0.1, 0.35, 0.9])
def test_a_threshold_moves_to_where_its_region_is_best(best):
    assert chosen(at(best), num_candidates=1).choice == Choice(((1,),), (0.5, best))
    assert best in THRESHOLDS


def test_labels_have_no_thresholds():
    scorer = RuledScorer(at(0.3), num_candidates=1)
    scorer.has_regions = False
    assert select(scorer, ALL, Options()).choice.thresholds == ()


def test_a_threshold_that_harms_another_region_stays():
    def rule(choice):
        found = choice.thresholds or (0.5, 0.5)
        return np.array([-0.001 * (found[1] != 0.5), 0.05 - abs(found[1] - 0.3)])

    assert chosen(rule, num_candidates=1).choice.thresholds == ()


def stepwise(**gains):
    """Return a rule by which each step that is there adds something to both names."""
    names = {LARGEST: "largest", SMALL: "small", SMALLER: "smaller"}
    return lambda choice: sum((np.array(gains.get(names.get(step, ""), (0, 0))) for step in choice.steps), np.zeros(2))


STEPS = Options(steps=(SMALLER, SMALL, LARGEST))


def test_steps_that_help_are_appended_the_most_helpful_first():
    found = chosen(stepwise(largest=(0.03, 0.0), smaller=(0.0, 0.01)), num_candidates=1, options=STEPS)
    assert found.choice.steps == (LARGEST, SMALLER)


def test_a_step_that_harms_any_name_is_refused_whatever_the_mean_gains():
    found = chosen(stepwise(largest=(0.1, -0.0001), small=(0.01, 0.01)), num_candidates=1, options=STEPS)
    assert found.choice.steps == (SMALL,)
    assert next(trial.harmed for trial in found.trials if trial.verdict == "harms") == "TC"


def test_of_one_kind_for_the_same_labels_one_volume_is_taken():
    ladder = tuple(RemoveSmall(labels=("a",), least_mm3=volume) for volume in (10, 100, 1000))
    gain = {10: 0.01, 100: 0.03, 1000: 0.02}
    found = chosen(
        lambda choice: np.full(2, sum(gain[step.least_mm3] for step in choice.steps)),
        num_candidates=1,
        options=Options(steps=ladder),
    )
    assert found.choice.steps == (ladder[1],)


def test_steps_end_at_their_largest_number():
    steps = tuple(FillHoles(label=str(number)) for number in range(6))
    rule = lambda choice: np.full(2, 0.01 * len(choice.steps))  # noqa: E731
    found = chosen(rule, num_candidates=1, options=Options(steps=steps, most_steps=3))
    assert len(found.choice.steps) == 3


def in_cases(num: int, gain: float):
    """Return a rule by which the step changes some cases alone."""

    def rule(choice):
        found = np.zeros((40, 2))
        found[:num] = gain * (LARGEST in choice.steps)
        return found

    return rule


def test_a_gain_in_two_cases_is_noise_unless_noise_is_welcome():
    assert chosen(in_cases(2, 0.2), num_candidates=1, options=STEPS).choice.steps == ()
    welcome = STEPS._replace(level=1.0)
    assert chosen(in_cases(2, 0.2), num_candidates=1, options=welcome).choice.steps == (LARGEST,)
    assert chosen(in_cases(15, 0.1), num_candidates=1, options=STEPS).choice.steps == (LARGEST,)


def test_a_gain_below_the_tolerance_is_none():
    assert chosen(in_cases(40, 0.00005), num_candidates=1, options=STEPS).choice.steps == ()


def test_only_the_cases_that_may_be_seen_have_a_say():
    rule = lambda choice: np.where(np.arange(40) < 20, 0.05, -0.5)[:, None] * (len(choice.used) > 1) * np.ones(2)  # noqa: E731
    scorer = RuledScorer(rule)
    assert len(select(scorer, range(20), Options()).choice.used) == 2
    assert len(select(scorer, range(20, 40), Options()).choice.used) == 1


def test_searches_side_by_side_find_what_each_finds_alone_and_share_passes():
    rule = near([(2 / 3, 1 / 3, 0), (0, 0.4, 0.6)])
    subsets = [np.arange(number, 40, 3) for number in range(3)] + [np.arange(40)]
    scorer = RuledScorer(rule)
    together = select_on_each(scorer, subsets, STEPS)
    passes = []
    for cases, found in zip(subsets, together, strict=True):
        alone = RuledScorer(rule)
        assert select(alone, cases, STEPS) == found
        passes.append(len(alone.asked))
    assert len(scorer.asked) == max(passes)


def test_what_is_chosen_is_at_least_as_good_as_each_single_and_the_mean_of_all():
    scorer = RuledScorer(near([(0.5, 0.2, 0.3), (0.1, 0.9, 0.0)]))
    found = select(scorer, ALL, Options())
    compared = [*(single(number, 3) for number in range(3)), Choice(((1, 1, 1),)), found.choice]
    means = [table.mean() for table in scorer.scores(compared)]
    assert means[-1] == max(means)
