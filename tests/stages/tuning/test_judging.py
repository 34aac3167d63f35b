import pytest

from tests.tuning.small_studies import study_of
from tumorseg.schema.tuning import CaseScores, Score, Trial
from tumorseg.stages.tuning.judging import final_tasks, judge

STUDY = study_of(judges=(1, 3), final_seeds=(7, 8), final_iterations=60)
DEFAULT = Trial(number=0, title="the plan as it is", state="finished", values={"optimizer.lr": 0.01})
BETTER = Trial(number=12, state="finished", values={"optimizer.lr": 0.02})
CONTENDERS = (DEFAULT, BETTER)


def scores_of(study, gains, num_cases=12, **left_out):
    """Return the scores of all trainings, in which each contender has a gain of its own."""
    found = {}
    for final in final_tasks(study, [Trial(number=number, state="finished", values={}) for number in gains]):
        cases = {}
        for place in range(num_cases):
            # Small differences between cases and trainings, the same ones every time.
            value = 0.7 + 0.01 * (place % 5) + gains[final.number] + 0.001 * ((final.seed + place + final.number) % 3)
            cases[f"case_{final.fold}_{place:02}"] = CaseScores(dsc={"x": value, "nowhere": None})
        mean = sum(one.dsc["x"] for one in cases.values()) / num_cases
        found[final.task.stem] = Score(iteration=study.final_iterations, values=(mean,), cases=cases)
    return found


def test_every_contender_trains_on_every_judging_fold_with_every_seed_pairs_first():
    finals = final_tasks(STUDY, CONTENDERS)
    assert [(final.seed, final.fold, final.number) for final in finals] == [
        (7, 1, 0),
        (7, 1, 12),
        (7, 3, 0),
        (7, 3, 12),
        (8, 1, 0),
        (8, 1, 12),
        (8, 3, 0),
        (8, 3, 12),
    ]
    assert len({final.task.stem for final in finals}) == 8
    assert {final.task.rungs for final in finals} == {(60,)}
    assert all(final.task.number is None and final.task.tumorseg_version == STUDY.tumorseg_version for final in finals)


def test_the_plan_as_it_was_is_trained_without_any_value_set():
    values = {final.number: final.task.values for final in final_tasks(STUDY, CONTENDERS)}
    assert values == {0: {}, 12: {"optimizer.lr": 0.02}}


def test_a_gain_that_holds_is_chosen_and_said_with_its_figures():
    found = judge(STUDY, CONTENDERS, scores_of(STUDY, {0: 0.0, 12: 0.05}), {})
    assert [one.title for one in found.judged] == ["the plan as it is", "trial 12"]
    assert found.judged[1].mean - found.judged[0].mean == pytest.approx(0.05, abs=2e-3)
    assert list(found.judged[0].by_training) == ["fold 1, seed 7", "fold 1, seed 8", "fold 3, seed 7", "fold 3, seed 8"]
    assert found.chosen == 12
    assert found.claim.startswith("Trial 12 gains +0.0")
    assert "on 24 cases of folds 1, 3 that no trial has seen, after 60 steps of training" in found.claim
    assert found.claim.endswith("The child plan carries its values.")


def test_without_a_gain_that_is_certain_nothing_is_chosen_and_the_claim_says_so():
    found = judge(STUDY, CONTENDERS, scores_of(STUDY, {0: 0.0, 12: -0.001}), {})
    assert found.chosen is None
    assert found.claim.startswith("No candidate gains for certain: the best of 1, trial 12, differs by -0.00")
    assert found.claim.endswith("The child plan carries the plan's own values.")


def test_with_one_seed_nothing_is_claimed_and_the_claim_says_why():
    study = study_of(final_seeds=(7,))
    found = judge(study, CONTENDERS, scores_of(study, {0: 0.0, 12: 0.05}), {})
    assert found.chosen is None
    assert found.claim.startswith("No candidate gains for certain: the best of 1, trial 12, differs by +0.0")
    assert "Each was trained once on a fold: only the luck of the cases is in the interval" in found.claim
    assert "so nothing is claimed." in found.claim
    assert "trained once" not in judge(STUDY, CONTENDERS, scores_of(STUDY, {0: 0.0, 12: 0.05}), {}).claim


def test_the_claim_counts_only_what_the_candidate_and_the_plan_were_compared_on():
    scores = scores_of(STUDY, {0: 0.0, 12: 0.05, 13: 0.0})
    contenders = (*CONTENDERS, Trial(number=13, state="finished", values={"optimizer.lr": 0.3}))
    # Trial 12 was never judged on fold 3, and in one case of fold 1 nobody finds anything.
    few = {stem: score for stem, score in scores.items() if not stem.startswith("final-0012-fold3")}
    for stem, score in few.items():
        if "fold1" in stem:
            few[stem] = score.changed(cases=score.cases | {"case_1_00": CaseScores(dsc={"x": None})})
    found = judge(STUDY, contenders, few, {})
    assert found.claim.startswith("Trial 12 gains")
    assert "on 11 cases of fold 1 that no trial has seen" in found.claim
    default, best, _ = found.judged
    assert best.mean - default.mean == pytest.approx(found.verdicts[0].gain)
    assert found.differences[12].keys() == few["final-0012-fold1-seed7"].cases.keys() - {"case_1_00"}


def test_means_are_of_cases_in_which_there_is_something_as_gains_are():
    scores = scores_of(STUDY, {0: 0.0, 12: 0.05})
    # One training of the plan finds something in a case that is empty; the others are right there.
    for stem, score in scores.items():
        if "fold1" in stem:
            value = 0.0 if stem == "final-0000-fold1-seed7" else None
            scores[stem] = score.changed(cases=score.cases | {"case_1_99": CaseScores(dsc={"x": value})})
    found = judge(STUDY, CONTENDERS, scores, {})
    default, best = found.judged
    assert best.mean - default.mean == pytest.approx(found.verdicts[0].gain)


def test_trainings_that_failed_are_left_out_and_a_candidate_without_any_has_no_verdict():
    scores = scores_of(STUDY, {0: 0.0, 12: 0.05, 13: 0.1})
    few = {stem: score for stem, score in scores.items() if "0013" not in stem and not stem.endswith("fold3-seed8")}
    found = judge(STUDY, (*CONTENDERS, Trial(number=13, state="finished", values={"optimizer.lr": 0.3})), few, {})
    assert [verdict.number for verdict in found.verdicts] == [12]
    assert [len(one.by_training) for one in found.judged] == [3, 3]


def test_without_the_plan_as_it_was_nothing_can_be_said():
    scores = {stem: score for stem, score in scores_of(STUDY, {0: 0.0, 12: 0.05}).items() if "0012" in stem}
    found = judge(STUDY, CONTENDERS, scores, {})
    assert (found.verdicts, found.chosen) == ((), None)
    assert found.claim.startswith("Nothing can be said: no candidate and the plan as it was")


def test_the_claim_without_an_interval_says_why():
    study = study_of(final_seeds=(7,))
    scores = scores_of(study, {0: 0.0, 12: 0.05}, num_cases=1)
    assert "no interval, of fewer than two cases or patients" in judge(study, CONTENDERS, scores, {}).claim
