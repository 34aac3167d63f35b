import pytest

from tests.planning.measured import equal_cases, fingerprint, planned
from tumorseg.errors import PlanError
from tumorseg.planning.folds.leaving_out import leave_out
from tumorseg.schema.base import record_hash

CASES = [f"case_{number:04}" for number in range(6)]
SITES = dict(zip(CASES, ["B", "A", "C", "A", "B", "C"], strict=True))


@pytest.fixture(scope="module")
def plan():
    return planned(fingerprint(equal_cases(6)))


def test_each_fold_holds_out_one_site_and_all_else_stays(plan):
    child, parts = leave_out(plan, SITES, {}, by="site")
    assert parts == ("A", "B", "C")
    assert child.folds == (("case_0001", "case_0003"), ("case_0000", "case_0004"), ("case_0002", "case_0005"))
    assert child.kept_from_training == ()
    assert child.name == f"{plan.name}__leave_out_site"
    assert child.parent == record_hash(plan)
    assert child.configurations == plan.configurations
    assert child.reasons["folds"].inputs == {"A": 2, "B": 2, "C": 2}


def test_a_patient_of_two_sites_is_trained_on_in_neither_fold(plan):
    groups = {"case_0000": "p", "case_0001": "p"}
    child, _ = leave_out(plan, SITES, groups, by="site")
    assert child.kept_from_training == (("case_0000",), ("case_0001",), ())
    assert child.not_trained_on(0) == {"case_0000", "case_0001", "case_0003"}
    assert child.reasons["kept_from_training"].inputs == {"num_cases": [1, 1, 0]}


def test_patients_that_ids_tell_of_stay_whole_where_none_are_stated(plan):
    parts = {"p1_frame01": "A", "p1_frame12": "B", "p2_frame01": "B", "p3_frame01": "C", "p4_frame01": "A"}
    with pytest.raises(PlanError):  # these are not the plan's cases; folds name cases that it does not know
        leave_out(plan.changed(dataset=plan.dataset.changed(listed=tuple(CASES))), parts, {}, by="site")
    child, _ = leave_out(plan, parts, {}, by="site")
    assert child.kept_from_training == (("p1_frame12",), ("p1_frame01",), ())


@pytest.mark.parametrize(
    ("parts", "groups", "message"),
    [
        (SITES | {"case_0002": None}, {}, "1 cases have no site: case_0002"),
        (dict.fromkeys(CASES, "A"), {}, "all cases are of the site A"),
        (SITES, dict.fromkeys(CASES, "p"), "without A and its patients no case is left"),
    ],
)
def test_parts_that_leave_nothing_to_test_or_train_are_refused(plan, parts, groups, message):
    with pytest.raises(PlanError, match=message):
        leave_out(plan, parts, groups, by="site")
