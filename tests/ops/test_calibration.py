import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar

from tumorseg.ops.calibration import (
    LEAST,
    MOST,
    calibration_at,
    expected_calibration_error,
    fit_temperature,
    negative_log_likelihood,
    sample_voxels,
)

NUM = 20_000


def drawn(true_temperature: float, seed: int = 0, num: int = NUM) -> tuple[np.ndarray, np.ndarray]:
    """Return logits of three classes that are too sure by a factor, and classes drawn from the sound ones."""
    rng = np.random.default_rng(seed)
    sound = rng.normal(0, 2, (num, 3))
    # The largest of logits plus Gumbel noise is drawn from their softmax.
    classes = (sound + rng.gumbel(size=sound.shape)).argmax(axis=1)
    return (sound * true_temperature).astype(np.float32), classes


def drawn_regions(true_temperature: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return the same of two regions, which are inside by a sigmoid each."""
    rng = np.random.default_rng(seed)
    sound = rng.normal(0.5, 2, (NUM, 2))
    return (sound * true_temperature).astype(np.float32), sound + rng.logistic(size=sound.shape) > 0


@pytest.mark.parametrize("draw", [drawn, drawn_regions])
@pytest.mark.parametrize("true_temperature", [0.5, 1.0, 3.0])
def test_the_temperature_that_logits_were_spoilt_with_is_found(draw, true_temperature):
    found = fit_temperature(*draw(true_temperature))
    assert found.temperature == pytest.approx(true_temperature, rel=0.05)
    assert found.nll_after <= found.nll_before
    assert found.ece_after < 0.01


@pytest.mark.parametrize("draw", [drawn, drawn_regions])
def test_no_other_temperature_has_a_lower_likelihood_loss(draw):
    logits, truth = draw(2.0, seed=5)
    oracle = minimize_scalar(
        lambda log: negative_log_likelihood(logits, truth, np.exp(log)), bounds=(-3, 3), method="bounded"
    )
    found = fit_temperature(logits, truth)
    assert found.temperature == pytest.approx(np.exp(oracle.x), rel=1e-3)
    assert found.nll_after <= oracle.fun + 1e-9


def test_a_temperature_of_labels_lowers_the_error_on_voxels_that_it_did_not_see():
    fitted = fit_temperature(*drawn(3.0, seed=1))
    other = calibration_at(fitted.temperature, *drawn(3.0, seed=2))
    assert other.ece_after < other.ece_before / 5
    assert other.nll_after < other.nll_before


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 1000), inverse=st.floats(0.1, 8))
def test_the_likelihood_loss_is_convex_in_the_inverse_temperature(seed, inverse):
    logits, truth = drawn(1.5, seed, num=50)
    middle, step = inverse, 0.05
    around = [negative_log_likelihood(logits, truth, 1 / (middle + change)) for change in (-step, 0, step)]
    assert around[0] + around[2] >= 2 * around[1] - 1e-9


def test_likelihood_and_error_are_those_of_a_computation_by_hand():
    logits = np.log([[0.7, 0.2, 0.1], [0.1, 0.85, 0.05], [0.72, 0.18, 0.1], [0.3, 0.3, 0.4]]).astype(np.float32)
    classes = np.array([0, 2, 1, 2])
    assert negative_log_likelihood(logits, classes) == pytest.approx(-np.log([0.7, 0.05, 0.18, 0.4]).mean(), abs=1e-6)
    # Bins of 1/15: .70 and .72 lie in (10/15, 11/15], one right of two; .85 in (12/15, 13/15], wrong; .40 is the upper end of its bin.
    expected = (abs(0.70 + 0.72 - 1) + 0.85 + abs(0.4 - 1)) / 4
    assert expected_calibration_error(logits, classes) == pytest.approx(expected, abs=1e-6)


def test_error_of_regions_is_of_inside_and_outside_alike():
    shares = np.array([[0.9, 0.2], [0.95, 0.6]])
    logits = np.log(shares / (1 - shares))
    inside = np.array([[True, False], [False, True]])
    # Confidence .9 right, .8 right, .95 wrong, .6 right; each in a bin of its own but .9 (13/15 to 14/15) and .95 (above).
    expected = (0.1 + 0.2 + 0.95 + 0.4) / 4
    assert expected_calibration_error(logits, inside) == pytest.approx(expected, abs=1e-9)
    by_hand = -np.log([0.9, 0.8, 0.05, 0.6]).mean()
    assert negative_log_likelihood(logits, inside) == pytest.approx(by_hand, abs=1e-9)


def test_logits_that_are_always_right_or_always_wrong_end_at_the_bounds():
    logits = np.array([[4.0, 0.0], [0.0, 4.0]], dtype=np.float32)
    assert fit_temperature(logits, np.array([0, 1])).temperature == LEAST
    assert fit_temperature(logits, np.array([1, 0])).temperature == MOST


def test_logits_that_say_nothing_and_none_at_all_leave_the_temperature_at_1():
    assert fit_temperature(np.zeros((7, 3), np.float32), np.arange(7) % 3).temperature == 1
    nothing = fit_temperature(np.zeros((0, 3), np.float32), np.zeros(0, np.int64))
    assert nothing.temperature == 1
    assert np.isnan([nothing.nll_before, nothing.ece_after]).all()


def test_sampled_voxels_lie_in_the_box_of_both_masks_grown_within_the_image():
    reference, prediction = np.zeros((2, 9, 31, 23), dtype=np.uint8)
    reference[1, 10:14, 8] = prediction[2, 12, 15] = 3
    places = np.stack(np.unravel_index(sample_voxels(reference, prediction, margin=2), reference.shape))
    assert places.min(axis=1).tolist() == [0, 8, 6]
    assert places.max(axis=1).tolist() == [4, 15, 17]
    # All of a small box.
    assert places.shape[1] == 5 * 8 * 12


def test_of_a_large_box_as_many_voxels_as_asked_for_are_spread_over_all_of_it():
    reference = np.ones((8, 50, 64), dtype=np.uint8)
    places = sample_voxels(reference, reference, most=500)
    assert 490 <= places.size <= 500
    assert (np.diff(places) > 0).all()
    for axis, along in enumerate(np.unravel_index(places, reference.shape)):
        counts = np.histogram(along, bins=4, range=(0, reference.shape[axis]))[0]
        assert counts.min() > 100, axis


def test_a_case_without_foreground_has_no_voxels_to_fit_on():
    empty = np.zeros((1, 5, 7), dtype=np.uint8)
    assert sample_voxels(empty, empty).size == 0
