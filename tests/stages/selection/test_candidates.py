import shutil

import pytest

from tests.stages.selection.conftest import CONFIGURATION, FOLDS, REGIONS, make_study, small_plan, write_fold
from tumorseg.errors import PlanError
from tumorseg.stages.opening.loaded import open_planned_dataset
from tumorseg.stages.selection.candidates import find_candidates
from tumorseg.stages.selection.unseen import clusters_of, parts_of_cases, unseen_cases

OTHER = {"regions": ({"name": "whole", "labels": (2, 7), "value": 2},)}


@pytest.fixture
def copied(study, tmp_path):
    """A copy of the trainings, to be changed."""
    shutil.copytree(study.roots.work, tmp_path / "runs")
    return study._replace(roots=study.roots.changed(work=tmp_path / "runs"))


def cases_of(study, plan=None):
    return open_planned_dataset(plan or study.plans[0], study.roots).cases


def test_every_configuration_with_a_finished_fold_is_a_candidate(study):
    found = find_candidates(study.plans, study.roots.work)
    assert [candidate.name for candidate in found] == [f"first/{CONFIGURATION}", f"second/{CONFIGURATION}"]
    assert [list(candidate.folds) for candidate in found] == [[0, 1, 2], [0, 1, 2]]
    assert len({fold.weights for candidate in found for fold in candidate.folds.values()}) == 6


def test_folds_that_are_unfinished_or_of_another_plan_or_hold_nothing_out_are_left_out(copied, caplog):
    first, second = copied.plans
    write_fold(copied.fold(first, 1), first, seed=1, is_finished=False)
    write_fold(copied.fold(first, 2), small_plan(first, "first", cropping=not first.cropping), seed=2)
    write_fold(copied.fold(first, "all"), first, seed=3)
    found = find_candidates((first, second), copied.roots.work)
    assert list(found[0].folds) == [0]
    told = caplog.text
    assert "fold 1 is not trained to its end" in told
    assert "fold 2 was trained with another plan" in told
    assert "fold all holds no case out" in told


def test_what_is_not_trained_is_passed_over_and_nothing_at_all_is_an_error(copied, caplog):
    caplog.set_level("INFO", "tumorseg")
    first, second = copied.plans
    shutil.rmtree(copied.fold(first, 0).root.parent)
    assert [one.plan.name for one in find_candidates((first, second), copied.roots.work)] == ["second"]
    assert "first/3d_fullres is passed over" in caplog.text
    with pytest.raises(PlanError, match=r"no fold of first is trained to its end .* run `tumorseg train"):
        find_candidates((first,), copied.roots.work)


def test_a_configuration_that_no_plan_has_is_an_error(study):
    with pytest.raises(PlanError, match="no plan has 9d; they have 3d_fullres"):
        find_candidates(study.plans, study.roots.work, ["9d"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "Elsewhere"}, "first and other are for Toy and Elsewhere"),
        ({"content_hash": "0" * 32}, "first and other were made for different content of Toy"),
        ({"labels": {"background": 0, "shell": 2, "kernel": 7}}, "first and other cannot be combined: the labels"),
    ],
)
def test_plans_of_other_datasets_or_labels_are_refused_and_both_are_named(study, changes, message):
    other = small_plan(study.plans[0], "other", dataset=changes)
    with pytest.raises(PlanError, match=message):
        find_candidates((study.plans[0], other), study.roots.work)


def test_plans_of_other_regions_are_refused_and_labels_may_be_joined_to_regions(toy, tmp_path):
    labels = small_plan(toy.plan, "labels")
    whole = small_plan(toy.plan, "whole", dataset=REGIONS)
    other = small_plan(toy.plan, "other", dataset=OTHER)
    study = make_study(toy, tmp_path, labels, whole)
    assert len(find_candidates((labels, whole), study.roots.work)) == 2
    with pytest.raises(PlanError, match="whole and other cannot be combined: the regions"):
        find_candidates((whole, other), study.roots.work)


def test_the_same_plan_twice_is_refused(study):
    with pytest.raises(PlanError, match="given twice"):
        find_candidates((study.plans[0], study.plans[0]), study.roots.work)


def test_each_case_is_predicted_by_the_folds_that_hold_it_out(study):
    cases = unseen_cases(find_candidates(study.plans, study.roots.work), cases_of(study))
    assert [case.case_id for case in cases] == [f"case_{number}" for number in range(6)]
    for case in cases:
        assert all(case.case_id in FOLDS[number] for number in case.folds)
    assert parts_of_cases(cases).tolist() == [0, 0, 1, 2, 2, 1]
    assert clusters_of(cases) is None


def test_cases_that_some_candidate_has_no_fold_for_are_left_out(copied, caplog):
    shutil.rmtree(copied.fold(copied.plans[1], 2).root)
    cases = unseen_cases(find_candidates(copied.plans, copied.roots.work), cases_of(copied))
    assert [case.case_id for case in cases] == ["case_0", "case_1", "case_2", "case_5"]
    assert "2 of 6 cases are left out" in caplog.text


def test_nothing_is_left_where_candidates_have_no_fold_in_common(copied):
    first, second = copied.plans
    for plan, number in ((first, 0), (first, 1), (second, 2)):
        shutil.rmtree(copied.fold(plan, number).root)
    with pytest.raises(PlanError, match="train the same folds of all of them"):
        unseen_cases(find_candidates(copied.plans, copied.roots.work), cases_of(copied))


def test_a_case_whose_patient_a_fold_was_trained_on_is_left_out(study):
    """A patient of whom one case is held out and another one trained on has been seen."""
    cases = list(cases_of(study))
    cases[0] = cases[0].changed(group="patient")
    cases[2] = cases[2].changed(group="patient")
    found = unseen_cases(find_candidates(study.plans, study.roots.work), cases)
    assert [case.case_id for case in found] == ["case_1", "case_3", "case_4", "case_5"]


def test_cases_of_a_patient_are_of_one_part(toy, tmp_path):
    kept = (("case_5",), ("case_1",), ())
    folds = (("case_0", "case_1"), ("case_2", "case_5"), ("case_3", "case_4"))
    plan = small_plan(toy.plan, "kept", folds=folds, kept_from_training=kept)
    study = make_study(toy, tmp_path, plan)
    cases = list(cases_of(study, plan))
    cases[1] = cases[1].changed(group="patient")
    cases[5] = cases[5].changed(group="patient")
    found = unseen_cases(find_candidates((plan,), study.roots.work), cases)
    parts = dict(zip([case.case_id for case in found], parts_of_cases(found).tolist(), strict=True))
    assert len(found) == 6
    assert parts["case_1"] == parts["case_5"]
    assert clusters_of(found).tolist().count(clusters_of(found)[1]) == 2


def test_a_case_without_reference_is_left_out(study):
    cases = list(cases_of(study))
    cases[3] = cases[3].changed(label=None)
    found = unseen_cases(find_candidates(study.plans, study.roots.work), cases)
    assert "case_3" not in [case.case_id for case in found]
