"""Random numbers and buffers of a training's steps."""

from copy import deepcopy

import pytest
import torch
from torch import nn

from tests.engine.phantoms import batch_of, configuration_of, learner_of, training_of, weights_of
from tests.engine.test_dividing import WIDE, short_of_memory, wide_batch
from tumorseg.engine.batches import TRAINING, Item
from tumorseg.engine.learner import Inputs
from tumorseg.engine.moments import draws_random_numbers, seeded
from tumorseg.schema.training import Ema


def with_parts(configuration, **parts):
    return configuration.model_copy(update={"network": configuration.network.changed(**parts)})


def dropping(num_parts=1):
    return with_parts(configuration_of(gradient_accumulation=num_parts), dropout=0.5)


def stepped(learner, numbers):
    for number in numbers:
        learner.step(Inputs(*batch_of(number)), number)
    return learner


def broken_batch():
    images, segmentations = batch_of()
    images[0, 0, 0, 0, 0] = torch.inf
    return Inputs(images, segmentations)


@pytest.mark.parametrize("num_parts", [1, 2])
def test_a_step_that_is_skipped_leaves_running_means_alone(num_parts):
    configuration = with_parts(configuration_of(gradient_accumulation=num_parts), norm="batch")
    sound, struck = (stepped(learner_of(configuration, training_of(ema=Ema(decay=0.9))), [0]) for _ in range(2))
    assert not struck.step(broken_batch(), 1).has_stepped
    for learner in (sound, struck):
        learner.step(Inputs(*batch_of(2)), 2)
    for found, expected in ((struck.network, sound.network), (struck.predictor, sound.predictor)):
        torch.testing.assert_close(found.state_dict(), expected.state_dict(), rtol=0, atol=0)
        assert all(buffer.isfinite().all() for buffer in found.buffers())


@pytest.mark.parametrize("num_parts", [1, 2])
def test_a_resumed_training_drops_what_the_uninterrupted_one_does(num_parts):
    torch.manual_seed(1)
    learner = stepped(learner_of(dropping(num_parts)), [0])
    state = deepcopy(learner.state())
    resumed = learner_of(dropping(num_parts))
    resumed.restore(state)
    expected = weights_of(stepped(learner, [1, 2]))
    # As in another process, whose generator has come to another state.
    torch.manual_seed(2)
    assert torch.equal(weights_of(stepped(resumed, [1, 2])), expected)


def test_what_is_dropped_differs_from_step_to_step_and_between_seeds():
    found = []
    for seed, iteration in ((0, 0), (0, 0), (0, 1), (1, 0)):
        learner = learner_of(dropping())
        learner.seed = seed
        found.append(learner.step(Inputs(*batch_of()), iteration).total)
    assert found[0] == found[1]
    assert len(set(found)) == 3


def test_a_divided_step_drops_what_one_that_was_planned_so_does():
    planned, divided = (
        learner_of(with_parts(configuration_of(**WIDE, **parts), dropout=0.5))
        for parts in ({"gradient_accumulation": 2}, {})
    )
    short_of_memory(divided, 2, backward=True)
    for learner in (planned, divided):
        learner.step(wide_batch(), 0)
    assert divided.division.num_parts == 2
    assert torch.equal(weights_of(planned), weights_of(divided))


def test_steps_leave_the_global_generator_alone():
    learner = learner_of(dropping())
    before = torch.get_rng_state()
    stepped(learner, [0])
    assert torch.equal(torch.get_rng_state(), before)


def test_each_process_draws_its_own():
    seeds = {Item(0, TRAINING, 5, first).network_seed() for first in (0, 2)}
    assert len(seeds) == 2
    drawn = []
    for seed in seeds:
        with seeded(seed, torch.device("cpu")):
            drawn.append(torch.rand(3))
    assert not torch.equal(*drawn)


def test_a_network_that_does_not_say_whether_it_draws_may():
    assert draws_random_numbers(nn.Dropout(0.5))
