import math

import pytest

from tumorseg.engine.learner import StepResult
from tumorseg.engine.progress import Progress


def progress_of(*losses):
    progress = Progress()
    for loss in losses:
        has_stepped = math.isfinite(loss)
        progress.add(StepResult(loss, {"dice": loss / 4, "cross_entropy": 3 * loss / 4}, has_stepped))
    return progress


def test_means_are_those_of_steps_whose_loss_is_finite():
    means = progress_of(1.0, math.nan, 3.0).means()
    assert means.loss == 2.0
    assert means.components == {"cross_entropy": 1.5, "dice": 0.5}
    assert list(means.components) == ["cross_entropy", "dice"]


def test_skipped_steps_are_counted_up_to_the_last_one_taken():
    assert progress_of(math.nan, math.inf).skipped == 2
    assert progress_of(math.nan, 1.0).skipped == 0
    assert progress_of(math.nan, 1.0).iteration == 2


def test_a_new_epoch_begins_without_losses():
    progress = progress_of(1.0, 2.0)
    progress.end_epoch(1.5, None)
    assert (progress.losses, progress.components, progress.iteration) == ([], {}, 2)


@pytest.mark.parametrize(
    ("dsc", "expected"),
    [(None, -1.5), ({}, 0.0), ({"edema": None}, 0.0), ({"edema": None, "core": 0.5, "whole": 0.7}, 0.6)],
)
def test_an_epoch_is_as_good_as_its_dsc_or_without_held_out_cases_its_training_loss(dsc, expected):
    progress = Progress()
    assert progress.end_epoch(1.5, dsc)
    assert progress.running == progress.best == pytest.approx(expected)


def test_the_best_epoch_is_the_best_of_the_running_mean():
    progress = Progress()
    found = [progress.end_epoch(0.0, {"core": value}) for value in (0.5, 0.4, 0.9)]
    assert found == [True, False, True]
    assert progress.running == pytest.approx(0.9 * (0.9 * 0.5 + 0.1 * 0.4) + 0.1 * 0.9)
