"""Split files: whom each fold trains on, holds out, and leaves alone."""

import pytest

from tumorseg.errors import PlanError
from tumorseg.planning.folds.split_lists import Division, SplitLists, divide, parse_splits

NNUNETS = [{"train": ["b", "c"], "val": ["a"]}, {"train": ["a"], "val": ["c"]}]


def test_a_case_in_neither_list_of_a_fold_is_kept_from_its_training():
    splits = parse_splits(NNUNETS, "s.json")
    assert splits.listed() == {"a", "b", "c"}
    assert divide(splits, ["a", "b", "c"]) == Division((("a",), ("c",)), ((), ("b",)))


def test_a_list_of_lists_leaves_every_other_case_to_training():
    splits = parse_splits([["c", "b"], ["a"]], "s.json")
    assert splits.listed() is None
    assert divide(splits, ["a", "b", "c", "d"]) == Division((("b", "c"), ("a",)))
    assert parse_splits([{"val": ["c", "b"]}, {"val": ["a"]}], "s.json") == splits


def test_complete_lists_keep_no_case_from_training():
    splits = parse_splits([{"train": ["b", "c"], "val": ["a"]}, {"train": ["a"], "val": ["c", "b"]}], "s.json")
    assert divide(splits, ["a", "b", "c"]).kept_from_training == ()


def test_excluded_cases_are_taken_out_of_every_list():
    splits = parse_splits(NNUNETS, "s.json").without(["b"])
    assert splits == SplitLists(held_out=(("a",), ("c",)), training=(("c",), ("a",)))
    assert splits.listed() == {"a", "c"}


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ([["a", "x"], ["y"]], "hold out cases that the dataset does not have: x, y"),
        ([["a", "b"], ["b"]], "in more than one fold: b"),
        ([["a", "a"], ["b"]], "in more than one fold: a"),
        ([["a"], []], "fold 1 of the splits holds out 0 of 3 cases"),
        ([["a", "b", "c"]], "fold 0 of the splits holds out 3 of 3 cases"),
        ([{"train": ["b", "x"], "val": ["a"]}], "train on cases that the dataset does not have: x"),
        ([{"train": ["b", "b"], "val": ["a"]}], "fold 0 of the splits names a case twice in its `train` list: b"),
        ([{"train": ["b", "a"], "val": ["a"]}], "fold 0 of the splits trains on cases that it holds out: a"),
        ([{"train": [], "val": ["a"]}], "fold 0 of the splits trains on no case"),
        ([{"train": ["b"], "val": ["a"]}, {"val": ["b"]}], "1 of 2 folds have a `train` list"),
        ([{"train": "b", "val": ["a"]}], "expected a list of folds"),
    ],
)
def test_unsound_lists_are_refused(document, message):
    with pytest.raises(PlanError, match=message) as refused:
        divide(parse_splits(document, "s.json"), ["a", "b", "c"])
    assert "\n" not in str(refused.value)
