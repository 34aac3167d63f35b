import numpy as np
import pytest

from tests.targets import classes, regions
from tumorseg.ops.quantised import STEPS, num_stored, quantise, restore

PLANE = (13, 9)


def softmax(logits):
    raised = np.exp(logits - logits.max(axis=0))
    return (raised / raised.sum(axis=0)).astype(np.float32)


def nearly_equal(count, rng):
    """Return logits that differ by less than a step can tell, and by more."""
    scale = rng.choice([1e-6, 1e-5, 1e-4, 1.0], size=(1, *PLANE))
    return (rng.normal(size=(count, *PLANE)) * scale).astype(np.float32)


@pytest.mark.parametrize("count", [2, 3, 7, 60])
def test_labels_are_decided_as_the_logits_decided_even_where_classes_are_nearly_equal(count):
    rng = np.random.default_rng(count)
    logits, targets = nearly_equal(count, rng), classes(count)
    steps = quantise(softmax(logits), logits.argmax(axis=0), targets)
    assert steps.shape == (num_stored(targets), *PLANE) == (count - 1, *PLANE)
    assert np.array_equal(restore(steps, targets, targets).argmax(axis=0), logits.argmax(axis=0))


def test_regions_are_inside_where_their_logit_is_above_0_however_close():
    targets = regions(2)
    logits = np.array([[[0.0, 1e-9, -1e-9, 3.0]], [[-0.0, 1e-6, -1e-6, -3.0]]], np.float32)
    probabilities = (1 / (1 + np.exp(-logits))).astype(np.float32)
    steps = quantise(probabilities, logits > 0, targets)
    assert np.array_equal(restore(steps, targets, targets) > 0.5, logits > 0)


@pytest.mark.parametrize("targets", [classes(4), regions(3)])
def test_probabilities_come_back_within_a_step_for_each_class(targets):
    rng = np.random.default_rng(1)
    logits = rng.normal(size=(targets.num_outputs, *PLANE)).astype(np.float32) * 4
    if targets.has_regions:
        found, decided = (1 / (1 + np.exp(-logits))).astype(np.float32), logits > 0
    else:
        found, decided = softmax(logits), logits.argmax(axis=0)
    again = restore(quantise(found, decided, targets), targets, targets)
    assert again.dtype == np.float32
    assert np.abs(again - found).max() < targets.num_outputs / STEPS


def test_labels_restored_as_regions_are_the_sums_of_their_classes():
    own, wanted = classes(4), regions(3)
    shares = np.random.default_rng(2).dirichlet(np.ones(4), size=PLANE)
    found = np.moveaxis(shares, -1, 0).astype(np.float32)
    steps = quantise(found, found.argmax(axis=0), own)
    joined = restore(steps, own, wanted)
    expected = np.stack([found[list(region)].sum(axis=0) for region in wanted.regions])
    assert np.abs(joined - expected).max() < 4 / STEPS
    assert joined.max() <= 1


def test_what_is_stored_of_nothing_is_nothing_and_says_background():
    targets = classes(3)
    steps = np.zeros((2, *PLANE), np.uint16)
    assert np.array_equal(restore(steps, targets, targets)[0], np.ones(PLANE, np.float32))
    assert not restore(steps, targets, regions(2)).any()
