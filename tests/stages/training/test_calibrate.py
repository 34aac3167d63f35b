import pytest

from tumorseg.planning.presets import FULL_LENGTH, SHORT
from tumorseg.stages.training.calibrate import EPOCH_OVERHEAD_S, VALIDATION_COST, fit_to_hours


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
