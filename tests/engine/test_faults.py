import math

import pytest

from tumorseg.engine.faults import MOST_SKIPPED, Action, Outcome, can_be_taken, decide, describe_fault

SKIPPED = Outcome(has_stepped=False, num_skipped=1, num_planned=1000, ends_epoch=False, has_finite_loss=True)


@pytest.mark.parametrize(
    ("loss", "norms", "expected"),
    [
        (1.0, [2.0], True),
        (math.nan, [2.0], False),
        (1.0, [math.inf], False),
        (1.0, [2.0, math.nan], False),
    ],
)
def test_a_step_is_taken_if_loss_and_gradients_are_finite(loss, norms, expected):
    assert can_be_taken(loss, norms) == expected


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"has_stepped": True, "num_skipped": 0}, Action.GO_ON),
        ({}, Action.SKIP),
        ({"num_skipped": MOST_SKIPPED - 1}, Action.SKIP),
        ({"num_skipped": MOST_SKIPPED}, Action.STOP),
        ({"num_skipped": 3, "num_planned": 3}, Action.STOP),
        ({"ends_epoch": True}, Action.SKIP),
        ({"has_finite_loss": False}, Action.SKIP),
        ({"ends_epoch": True, "has_finite_loss": False}, Action.STOP),
    ],
)
def test_many_skipped_steps_in_a_row_or_an_epoch_without_a_finite_loss_end_a_training(changes, expected):
    assert decide(SKIPPED._replace(**changes)) is expected


def test_a_fault_is_named_by_what_was_not_finite():
    assert describe_fault(math.nan) == "the loss became nan"
    assert describe_fault(1.0) == "the gradient is not finite"
