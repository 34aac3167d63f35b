from collections import Counter

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.planning.measured import case, equal_cases, fingerprint, planned
from tumorseg.errors import PlanError
from tumorseg.planning.folds.splits import split_folds
from tumorseg.tuning.splits import SplitRules, inner_split, patients_of

RULES = SplitRules(judges=(1,), most_cases=100, seed=0)


@pytest.fixture(scope="module")
def plan():
    return planned(fingerprint(equal_cases(40)))


def of_cases(plan, groups, num_folds=5):
    """Return the plan with folds of other cases."""
    return plan.model_copy(update={"folds": split_folds(groups, num_folds), "kept_from_training": ()})


def alone(count):
    return {f"case_{number:04}": None for number in range(count)}


def test_a_quarter_of_what_does_not_judge_is_scored_and_the_rest_trained_on(plan):
    split = inner_split(plan, alone(40), RULES)
    assert len(plan.folds[1]) == 8
    assert len(split.scored) == 8
    assert {*split.training, *split.scored} == alone(40).keys() - set(plan.folds[1])
    assert not set(split.training) & set(split.scored)


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.integers(0, 14), min_size=20, max_size=40),
    st.integers(0, 9),
    st.integers(2, 12),
    st.sets(st.integers(0, 4), min_size=1, max_size=3),
)
def test_no_patient_stands_on_two_sides_and_none_that_judges_or_is_spared_on_any(plan, patients, seed, most, named):
    assume(len(set(patients)) > 1)
    groups = {f"case_{number:04}": f"p{patient}" for number, patient in enumerate(patients)}
    grouped = of_cases(plan, groups)
    judge, *spared = sorted(named & set(range(len(grouped.folds)))) or [0]
    rules = SplitRules(judges=(judge,), most_cases=most, seed=seed, spared=tuple(spared))
    shut = {groups[one] for number in (judge, *spared) for one in grouped.folds[number]}
    left = set(groups.values()) - shut
    try:
        split = inner_split(grouped, groups, rules)
    except PlanError:
        assert len(left) < 4
        return
    training, scored = ({groups[one] for one in cases} for cases in (split.training, split.scored))
    assert not training & scored
    assert (training | scored) == left
    assert 2 <= len(split.scored) <= most
    assert len(training) >= 2
    # Patients of whom no case is scored are trained on with all they have.
    assert set(split.training) == {one for one, patient in groups.items() if patient in training}


def test_the_seed_decides_and_nothing_else(plan):
    splits = [inner_split(plan, alone(40), RULES._replace(seed=seed, most_cases=4)) for seed in (0, 0, 1, 2, 3)]
    assert splits[0] == splits[1]
    assert len({split.scored for split in splits}) > 2


def test_one_case_of_each_patient_is_scored_before_a_second_of_any(plan):
    groups = {f"case_{number:04}": f"p{number // 4}" for number in range(80)}
    split = inner_split(of_cases(plan, groups), groups, RULES._replace(most_cases=6))
    counts = Counter(groups[one] for one in split.scored)
    assert len(split.scored) == 6
    assert set(counts.values()) <= {1, 2}
    assert len(counts) == 4


def test_both_lists_hold_similar_shares_of_a_rare_label_where_it_was_counted(plan):
    measured = []
    for number in range(40):
        voxels = {"tumour": 500, "rare": 50 if number % 5 == 2 else 0}
        measured.append(case(f"case_{number:04}", label_voxels=voxels))
    split = inner_split(plan, alone(40), RULES, measured)
    rare = {one.case_id for one in measured if one.label_voxels["rare"]} - set(plan.folds[1])
    assert len(rare & set(split.scored)) in (len(rare) // 4, -(-len(rare) // 4))


def test_what_a_judging_fold_keeps_from_its_training_enters_no_trial(plan):
    kept = ((), (plan.folds[0][0], plan.folds[2][3]), (), (), ())
    split = inner_split(plan.changed(kept_from_training=kept), alone(40), RULES)
    assert not {*split.training, *split.scored} & set(kept[1])


def test_what_a_spared_fold_keeps_from_its_training_enters_no_trial_either(plan):
    kept = ((plan.folds[2][3], plan.folds[3][0]), (), (), (), ())
    split = inner_split(plan.changed(kept_from_training=kept), alone(40), RULES._replace(spared=(0,)))
    assert not {*split.training, *split.scored} & {*kept[0], *plan.folds[0]}


def test_every_case_that_no_trial_sees_is_kept(plan):
    # Two cases that no fold names: one of a patient that judges, and one to train on.
    groups = alone(42) | {plan.folds[1][0]: "p", "case_0041": "p"}
    split = inner_split(plan, groups, RULES._replace(most_cases=4))
    assert {*split.training, *split.scored, *split.kept} == groups.keys()
    assert len(split.training) + len(split.scored) + len(split.kept) == 42
    assert {*plan.folds[1], "case_0041"} == set(split.kept)


def test_what_is_thinned_out_is_kept(plan):
    groups = {f"case_{number:04}": f"p{number // 4}" for number in range(80)}
    grouped = of_cases(plan, groups)
    split = inner_split(grouped, groups, RULES._replace(most_cases=6))
    scored = {groups[one] for one in split.scored}
    thinned = {one for one, patient in groups.items() if patient in scored} - set(split.scored)
    assert thinned
    assert set(split.kept) == thinned | set(grouped.folds[1])


def test_a_plan_of_a_single_fold_can_be_tuned(plan):
    single = plan.changed(folds=plan.folds[:1], kept_from_training=())
    split = inner_split(single, alone(40), RULES._replace(judges=(0,)))
    assert len(split.training) + len(split.scored) == 32


def test_patients_are_those_that_the_dataset_states_or_else_those_that_ids_suggest():
    assert patients_of({"a": "x", "b": None}) == {"a": "x"}
    ids = [f"patient{number:03}_frame{frame:02}" for number in range(6) for frame in (1, 12)]
    assert patients_of(dict.fromkeys(ids))["patient003_frame12"] == "patient003"


def test_a_patient_that_judges_has_no_other_case_in_trials(plan):
    groups = alone(40) | {plan.folds[1][0]: "p", plan.folds[0][0]: "p"}
    split = inner_split(plan, groups, RULES)
    assert plan.folds[0][0] not in {*split.training, *split.scored}


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        (RULES._replace(judges=(1, 7)), "has no fold 7; it has folds 0 to 4"),
        (RULES._replace(spared=(-1,)), "has no fold -1"),
        (RULES._replace(judges=()), "no fold judges; name one at least"),
        (RULES._replace(spared=(0, 1)), "fold 1 is named twice"),
        (RULES._replace(judges=(1, 1)), "fold 1 is named twice"),
        (RULES._replace(judges=(0, 1, 2, 3, 4)), "0 cases of 0 patients are left, expected 2 patients to train on"),
    ],
)
def test_folds_that_leave_nothing_to_decide_by_are_refused(plan, rules, message):
    with pytest.raises(PlanError, match=message):
        inner_split(plan, alone(40), rules)


def test_too_few_patients_are_refused_and_a_plan_without_folds_is(plan):
    few = of_cases(plan, alone(4), num_folds=2)
    with pytest.raises(PlanError, match="2 cases of 2 patients are left"):
        inner_split(few, alone(4), RULES)
    with pytest.raises(PlanError, match="has no folds, so that no case could judge"):
        inner_split(plan.changed(folds=(), kept_from_training=()), alone(40), RULES)
