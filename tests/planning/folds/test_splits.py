"""Folds."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.planning.measured import case
from tumorseg.errors import PlanError
from tumorseg.planning.folds.splits import NAMED_SPLITS, split_folds, split_sites, split_stratified
from tumorseg.planning.folds.stratification import stratify

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


def test_cases_of_one_group_stay_together():
    groups = {f"case_{number}": f"patient_{number // 2}" for number in range(12)} | {"alone": None, "patient_0": None}
    folds = split_folds(groups)
    assert sorted(case_id for fold in folds for case_id in fold) == sorted(groups)
    for number in range(0, 12, 2):
        (fold,) = [fold for fold in folds if f"case_{number}" in fold]
        assert f"case_{number + 1}" in fold
    assert split_folds({"a": "one", "b": "one"}) == ()


def test_where_no_groups_are_stated_those_that_ids_suggest_are_kept_together():
    ids = [f"patient{number:03}_frame{frame}" for number in range(8) for frame in ("01", "12")]
    folds = NAMED_SPLITS["group"].split([case(one) for one in ids])
    assert sorted(one for fold in folds for one in fold) == ids
    assert all(len({one[:10] for one in fold}) == len(fold) / 2 for fold in folds)
    with pytest.raises(PlanError, match="--splits group: no case has a group"):
        NAMED_SPLITS["group"].split([case(f"case_{number:05}") for number in range(8)])


def test_each_site_is_held_out_once():
    assert split_sites({"a": "y", "b": "x", "c": "y"}) == (("b",), ("a", "c"))


@pytest.mark.parametrize(
    ("sites", "message"),
    [({"a": "x", "b": None}, r"1 cases have no site: b"), ({"a": "x", "b": "x"}, r"all cases are of the site x")],
)
def test_sites_that_cannot_be_held_out_are_refused(sites, message):
    with pytest.raises(PlanError, match=message):
        split_sites(sites)


def test_whole_sites_are_dealt_to_at_most_five_folds():
    cases = [case(f"c{number:02}", site=f"site {number % 8}") for number in range(24)]
    folds = NAMED_SPLITS["whole-sites"].split(cases)
    assert len(folds) == 5
    assert folds == split_folds({one.case_id: one.site for one in cases})
    with pytest.raises(PlanError, match="--splits whole-sites: all cases are of the site x"):
        NAMED_SPLITS["whole-sites"].split([case("a", site="x"), case("b", site="x")])


def labelled(count, seed, **fields):
    rng = np.random.default_rng(seed)
    present = rng.uniform(size=(count, 2)) < [0.8, 0.2]
    voxels = np.where(present, rng.lognormal(5, 1.5, (count, 2)), 0).astype(int)
    return [
        case(f"c{number:03}", label_voxels={"organ": int(organ), "tumour": int(tumour)}, **fields)
        for number, (organ, tumour) in enumerate(voxels)
    ]


def spread(folds, cases, label):
    """Return by how many cases folds differ at most: with the label, and with a small, medium and large one."""
    voxels = {one.case_id: one.label_voxels[label] for one in cases}
    ranked = sorted((case_id for case_id in voxels if voxels[case_id]), key=voxels.get)
    thirds = [set(part) for part in np.array_split(ranked, 3)]
    numbers = [[len(part & set(fold)) for fold in folds] for part in (set(ranked), *thirds)]
    return [max(counts) - min(counts) for counts in numbers]


@pytest.mark.parametrize("seed", range(5))
def test_stratified_folds_hold_out_like_shares_of_every_label(seed):
    cases = labelled(63, seed)
    folds, random = split_stratified(cases), split_folds({one.case_id: None for one in cases})
    assert sorted(case_id for fold in folds for case_id in fold) == [one.case_id for one in cases]
    assert {len(fold) for fold in folds} <= {12, 13}
    for label in ("organ", "tumour"):
        assert max(spread(folds, cases, label)) <= 2
        assert sum(spread(folds, cases, label)) < sum(spread(random, cases, label))
    assert split_stratified(cases[::-1]) == folds


def test_a_rare_label_is_in_every_fold():
    cases = [case(f"c{number:02}", label_voxels={"rare": int(number in (3, 4, 5, 6, 7))}) for number in range(40)]
    assert spread(split_stratified(cases), cases, "rare")[0] == 0
    assert spread(split_folds(dict.fromkeys(one.case_id for one in cases)), cases, "rare")[0] > 0


def test_stratified_folds_keep_groups_whole():
    cases = [one.model_copy(update={"group": f"g{number // 3}"}) for number, one in enumerate(labelled(31, 0))]
    folds = split_stratified(cases)
    groups = [{one.group for one in cases if one.case_id in fold} for fold in folds]
    assert sum(map(len, groups)) == len(set().union(*groups)) == 11


def test_two_cases_are_stratified_into_two_folds_and_one_into_none():
    cases = labelled(2, 0)
    assert sorted(split_stratified(cases)) == [("c000",), ("c001",)]
    assert split_stratified(cases[:1]) == ()


def test_labels_that_were_not_measured_cannot_be_stratified():
    with pytest.raises(PlanError, match=r"no label_voxels of 1 cases \(a\)"):
        split_stratified([case("a"), case("b", label_voxels={"x": 1})])


@given(st.integers(1, 40), st.integers(1, 6), st.integers(0, 99))
def test_every_part_gets_a_row(num_rows, num_parts, seed):
    rng = np.random.default_rng(seed)
    table = np.concatenate([rng.integers(1, 9, (num_rows, 1)), rng.integers(0, 2, (num_rows, 3))], axis=1).astype(float)
    num_parts = min(num_rows, num_parts)
    assert set(stratify(table, num_parts, range(num_rows))) == set(range(num_parts))
