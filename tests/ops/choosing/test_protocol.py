import pytest

from tumorseg.ops.choosing.protocol import Choice, all_alike, canonical, single
from tumorseg.schema.ensembles import Combination, FillHoles, KeepLargest

NAMES = ("WT", "TC")


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (Choice(((2, 4, 0),)), Choice(((1, 2, 0),))),
        (Choice(((3, 3), (1, 1))), Choice(((1, 1),))),
        (Choice(((2, 0), (0, 3))), Choice(((1, 0), (0, 1)))),
        (Choice(((1, 0),), (0.5, 0.5)), Choice(((1, 0),))),
        (Choice(((1, 0),), (0.5, 0.4)), Choice(((1, 0),), (0.5, 0.4))),
    ],
)
def test_choices_of_the_same_masks_have_one_form(found, expected):
    assert canonical(found) == expected
    assert canonical(expected) == expected


def test_choices_with_equal_steps_are_one_key():
    first = Choice(((1, 2),), (), (FillHoles(label="core"), KeepLargest(labels=("core",))))
    second = Choice(((1, 2),), (), (FillHoles(label="core"), KeepLargest(labels=("core",))))
    assert len({first, second}) == 1
    assert first != Choice(((1, 2),), (), first.steps[::-1])


def test_a_single_candidate_and_the_mean_of_all_need_no_weights():
    assert single(1, 3) == Choice(((0, 1, 0),))
    assert single(1, 3).combination(NAMES) == Combination()
    assert Choice((all_alike(3),)).combination(NAMES) == Combination()


def test_a_combination_has_weights_of_the_members_that_are_used_alone():
    choice = Choice(((2, 0, 1),), (0.5, 0.35), (FillHoles(label="core"),))
    assert choice.used == (0, 2)
    found = choice.combination(NAMES)
    assert found.weights == {"WT": (2, 1), "TC": (2, 1)}
    assert found.thresholds == {"TC": 0.35}
    assert found.postprocessing == (FillHoles(label="core"),)
    assert found.temperature == 1


def test_rows_of_their_own_are_shares_so_that_none_weighs_more_than_another():
    choice = Choice(((9, 0, 1), (0, 0, 1)))
    assert choice.used == (0, 2)
    assert choice.combination(NAMES).weights == {"WT": (0.9, 0.1), "TC": (0, 1)}
    assert (choice.row(0), choice.row(1)) == ((9, 0, 1), (0, 0, 1))
