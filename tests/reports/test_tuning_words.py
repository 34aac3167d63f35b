"""What a study tells, in words and on axes."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.reports.tuned import tuned_plan, tuning_result
from tumorseg.reports.tuning_value import Axis, axes_of, number_on
from tumorseg.reports.tuning_words import (
    best_so_far,
    changes,
    saved_by_pruning,
    short_field,
    trial_title,
    values_text,
)
from tumorseg.schema.tuning import Trial


def test_the_best_so_far_only_ever_gets_better_and_is_of_finished_trials():
    result = tuning_result()
    best = best_so_far(result)
    values = [value for _, value in best]
    assert values == sorted(values)
    finished = {trial.number: trial.scores[-1].values[0] for trial in result.trials if trial.state == "finished"}
    assert best[0][0] == min(finished)
    assert best[-1][1] == max(finished.values())


def test_without_a_trial_that_ended_nothing_is_said_of_what_pruning_saved():
    result = tuning_result()
    running = [trial.changed(state="running") for trial in result.trials]
    assert saved_by_pruning(result.changed(trials=tuple(running))) is None
    finished = [trial for trial in result.trials if trial.state == "finished"]
    assert saved_by_pruning(result.changed(trials=tuple(finished))) == 0


def test_less_is_better_of_distances():
    result = tuning_result(("hd95",))
    values = [value for _, value in best_so_far(result)]
    assert values == sorted(values, reverse=True)


def test_a_value_that_the_plan_has_already_is_no_change():
    found = changes(tuned_plan(), "3d_fullres", {"optimizer.lr": 0.002, "optimizer.weight_decay": 0.5})
    assert [(one.field, one.before, one.after) for one in found] == [("optimizer.weight_decay", "0.01", "0.5")]
    assert "decay" in found[0].meaning.lower()


def test_a_field_of_another_branch_has_no_value_before():
    found = {
        one.field: one
        for one in changes(tuned_plan(), "3d_fullres", {"optimizer.name": "sgd", "optimizer.momentum": 0.95})
    }
    assert (found["optimizer.name"].before, found["optimizer.name"].after) == ("adamw", "sgd")
    assert (found["optimizer.momentum"].before, found["optimizer.momentum"].after) == ("–", "0.95")


def test_axes_hold_numbers_options_and_nothing_where_a_field_does_not_count():
    axes = {axis.field: axis for axis in axes_of(tuning_result())}
    assert number_on(axes["loss.preset"], {"loss.preset": "dice_focal"}) == 1.0
    assert number_on(axes["loss.preset"], {"loss.preset": "unknown"}) is None
    assert number_on(axes["optimizer.lr"], {"optimizer.lr": 0.01}) == 0.01
    assert number_on(axes["optimizer.momentum"], {}) is None


@given(low=st.floats(1e-6, 1.0), factor=st.floats(1.5, 1e4), share=st.floats(0, 1))
def test_shares_of_logarithmic_axes_are_those_of_the_logarithm(low, factor, share):
    axis = Axis("lr", "lr", True, low, low * factor, ())
    assert axis.share(low * factor**share) == pytest.approx(share, abs=1e-6)
    assert axis.share(math.sqrt(low * low * factor)) == pytest.approx(0.5, abs=1e-6)


@pytest.mark.parametrize(
    ("field", "shown"),
    [
        ("optimizer.lr", "optimizer.lr"),
        ("augmentation.transforms.blur.probability", "blur.probability"),
        ("augmentation.transforms.gaussian_noise_of_all.probability", "…oise_of_all.probability"),
    ],
)
def test_long_fields_are_told_by_their_ends(field, shown):
    assert short_field(field).endswith(shown.removeprefix("…"))
    assert len(short_field(field)) <= 28


def test_trials_are_called_by_number_and_title():
    assert trial_title(Trial(number=0, title="default", state="running", values={})) == "0 (default)"
    assert trial_title(Trial(number=3, state="running", values={})) == "3"
    assert values_text({"a.b.c": 0.5, "d": [1, 2], "e": 3}, ["d", "a.b.c", "f"]) == "d [1, 2]; b.c 0.5"
