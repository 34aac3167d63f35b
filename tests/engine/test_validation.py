import math

import pytest
import torch

from tests.engine.phantoms import cases_of, fit_of, weights_of
from tests.engine.waiting import CountWaits
from tumorseg.engine.batches import VALIDATION
from tumorseg.engine.feed import Data, Place
from tumorseg.engine.validation import validate


def held_out(fit, num_batches=2):
    return fit.feeds.batches(Place(VALIDATION, number) for number in range(num_batches))


def test_validation_trains_nothing_and_finds_the_same_again():
    fit = fit_of()
    before = weights_of(fit.learner)
    first, second = (validate(fit.learner, held_out(fit), iteration=0) for _ in range(2))
    assert first == second
    assert math.isfinite(first.loss)
    assert torch.equal(weights_of(fit.learner), before)


def test_without_held_out_cases_there_is_neither_loss_nor_dsc():
    fit = fit_of(data=Data(cases_of(1), None))
    assert validate(fit.learner, None, iteration=0) == (None, {})


@pytest.mark.parametrize("num_batches", [1, 3])
def test_the_device_is_waited_for_twice_however_many_batches_there_are(num_batches):
    fit = fit_of()
    batches = list(held_out(fit, num_batches))
    with CountWaits() as waits:
        validate(fit.learner, batches, iteration=0)
    assert waits.count == 2
