"""Folds."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tumorseg.errors import PlanError
from tumorseg.planning.splits import check_folds, split_folds, split_sites

# scikit-learn 1.9.1: for n, k in ((7, 5), (23, 5), (3, 3), (2, 2)):
#     [held_out.tolist() for _, held_out in KFold(k, shuffle=True, random_state=12345).split(range(n))]
SKLEARN = {
    2: [[1], [0]],
    3: [[0], [1], [2]],
    7: [[3, 6], [0, 4], [1], [5], [2]],
    23: [[3, 8, 10, 17, 19], [0, 7, 12, 15, 16], [6, 11, 14, 18, 20], [9, 13, 21, 22], [1, 2, 4, 5]],
}


@pytest.mark.parametrize("count", SKLEARN)
def test_folds_are_those_of_scikit_learn(count):
    ids = [f"case_{number:02}" for number in range(count)]
    expected = tuple(tuple(ids[index] for index in fold) for fold in SKLEARN[count])
    assert split_folds(dict.fromkeys(ids)) == expected
    assert split_folds(dict.fromkeys(ids[::-1])) == expected


@pytest.mark.parametrize("ids", [[], ["only"]])
def test_fewer_than_two_cases_give_no_folds(ids):
    assert split_folds(dict.fromkeys(ids)) == ()


def test_fewer_cases_than_folds_give_one_fold_each():
    assert sorted(split_folds(dict.fromkeys("badc"))) == [("a",), ("b",), ("c",), ("d",)]


@given(st.sets(st.text("abc123", min_size=1, max_size=4), min_size=2, max_size=40), st.integers(2, 7))
def test_every_case_is_held_out_once_in_folds_of_equal_size(ids, num_folds):
    folds = split_folds(dict.fromkeys(ids), num_folds)
    assert sorted(case_id for fold in folds for case_id in fold) == sorted(ids)
    assert len(folds) == min(num_folds, len(ids))
    assert max(map(len, folds)) - min(map(len, folds)) <= 1


def test_a_users_folds_are_sorted_within_and_kept_in_order():
    assert check_folds([["c", "b"], ["a"]], ["a", "b", "c", "d"]) == (("b", "c"), ("a",))


@pytest.mark.parametrize(
    ("folds", "message"),
    [
        ([["a", "x"], ["y"]], "does not have: x, y"),
        ([["a", "b"], ["b"]], "in more than one fold: b"),
        ([["a", "a"], ["b"]], "in more than one fold: a"),
        ([["a"], []], "fold 1 of the splits holds out 0 of 3 cases"),
        ([["a", "b", "c"]], "fold 0 of the splits holds out 3 of 3 cases"),
    ],
)
def test_unsound_folds_are_refused(folds, message):
    with pytest.raises(PlanError, match=message):
        check_folds(folds, ["a", "b", "c"])


def test_cases_of_one_group_stay_together():
    groups = {f"case_{number}": f"patient_{number // 2}" for number in range(12)} | {"alone": None, "patient_0": None}
    folds = split_folds(groups)
    assert sorted(case_id for fold in folds for case_id in fold) == sorted(groups)
    for number in range(0, 12, 2):
        (fold,) = [fold for fold in folds if f"case_{number}" in fold]
        assert f"case_{number + 1}" in fold
    assert split_folds({"a": "one", "b": "one"}) == ()


def test_each_site_is_held_out_once():
    assert split_sites({"a": "y", "b": "x", "c": "y"}) == (("b",), ("a", "c"))


@pytest.mark.parametrize(
    ("sites", "message"),
    [({"a": "x", "b": None}, r"1 cases have no site: b"), ({"a": "x", "b": "x"}, r"all cases are of the site x")],
)
def test_sites_that_cannot_be_held_out_are_refused(sites, message):
    with pytest.raises(PlanError, match=message):
        split_sites(sites)
