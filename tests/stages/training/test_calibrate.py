import time

import pytest
import torch

from tests.engine.phantoms import cases_of, fit_of, weights_of
from tumorseg.engine.feed import Data
from tumorseg.planning.presets import FULL_LENGTH, SHORT
from tumorseg.stages.training.calibrate import (
    EPOCH_OVERHEAD_S,
    MOST_STEPS,
    VALIDATION_COST,
    WARM_UP,
    fit_to_hours,
    seconds_per_step,
)


def seconds(training, step_s, has_validation=True):
    validation = VALIDATION_COST * training.validation_iterations if has_validation else 0
    return training.epochs * (step_s * (training.iterations_per_epoch + validation) + EPOCH_OVERHEAD_S)


@pytest.mark.parametrize("planned", [FULL_LENGTH, SHORT])
@pytest.mark.parametrize(
    ("hours", "step_s"), [(0.03, 0.8), (0.2, 0.7), (0.5, 5.0), (1.0, 10.0), (1.0, 0.1), (48.0, 0.3)]
)
@pytest.mark.parametrize("has_validation", [True, False])
def test_the_hours_are_filled_and_most_of_them_with_steps(planned, hours, step_s, has_validation):
    timed = planned.model_copy(update={"max_hours": hours})
    found = fit_to_hours(timed, step_s, has_validation=has_validation)
    assert 0.6 * hours * 3600 <= seconds(found, step_s, has_validation) <= 1.05 * hours * 3600
    assert found.epochs * found.iterations_per_epoch * step_s >= 0.55 * hours * 3600
    assert found.iterations_per_epoch <= planned.iterations_per_epoch


def test_a_short_training_keeps_epochs_for_the_schedule_to_react():
    found = fit_to_hours(SHORT.model_copy(update={"max_hours": 0.2}), 0.7, has_validation=True)
    assert found.epochs >= 20


def test_less_than_a_step_is_one_step():
    found = fit_to_hours(FULL_LENGTH.model_copy(update={"max_hours": 1e-9}), 5.0, has_validation=True)
    assert (found.epochs, found.iterations_per_epoch, found.validation_iterations) == (1, 1, 1)


def test_the_seconds_of_a_step_are_those_of_real_steps_with_reading_beside_them():
    cases = cases_of(2)
    fit = fit_of(data=Data(cases, None), num_workers=1)
    before, began = weights_of(fit.learner), time.perf_counter()
    found = seconds_per_step(fit.learner, fit.feeds)
    passed = time.perf_counter() - began
    # All steps but those that warm up; two patches a batch.
    assert 0 < found * MOST_STEPS < passed
    assert len(cases.boxes) >= 2 * (WARM_UP + MOST_STEPS)
    assert not torch.equal(weights_of(fit.learner), before)
