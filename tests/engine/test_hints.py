import gc
import weakref

import pytest
import torch
from torch import nn

from tests.engine.phantoms import (
    CLASSES,
    NUM_CHANNELS,
    batch_of,
    cases_of,
    configuration_of,
    fit_of,
    gone_on,
    learner_of,
    training_of,
    weights_of,
)
from tumorseg.engine.distillation import Teacher, Teaching
from tumorseg.engine.feed import Data
from tumorseg.engine.hints import Hints, Tap
from tumorseg.engine.learner import Inputs
from tumorseg.engine.loop import _follow_first
from tumorseg.engine.ranks import Ranks
from tumorseg.errors import PlanError
from tumorseg.schema.distillation import Distillation
from tumorseg.schema.optimizers import AdamW, Sgd

SPEC = Distillation(weight=0.4, hints=0.5)
PROBE = torch.zeros(1, NUM_CHANNELS, 8, 8, 8)


def teacher_of(seed):
    own = learner_of(configuration_of(features=(6, 8)), training_of(seed=seed))
    return Teacher(own.network.eval().requires_grad_(False), CLASSES, NUM_CHANNELS)


def taught(learner, *teachers):
    teaching = Teaching(SPEC, CLASSES, teachers)
    teaching.hints = Hints(learner.network, teachers[0].network, [PROBE, PROBE], seed=1)
    learner.teach(teaching)
    return learner


def test_features_are_those_of_which_the_logits_are_made():
    network = learner_of().network.eval()
    tap, (images, _) = Tap(network, PROBE, whose="student"), batch_of()
    with torch.no_grad():
        logits = network(images)
    features = tap.features()
    assert features.shape == (2, tap.num_channels, 8, 8, 8)
    head = next(one for one in network.modules() if isinstance(one, nn.Conv3d) and one.out_channels == 3)
    assert torch.allclose(head(features), logits, atol=1e-5)


def test_the_distance_is_none_to_oneself_and_four_to_the_opposite():
    network = learner_of().network
    hints = Hints(network, network, [PROBE, PROBE], seed=1)
    features = torch.randn(2, hints.way.in_channels, 8, 8, 8)
    nn.init.dirac_(hints.way.weight)
    assert hints.loss(features, 3 * features + 1).item() == pytest.approx(0, abs=1e-5)
    assert hints.loss(features, -features).item() == pytest.approx(4, rel=1e-3)


def test_hints_draw_features_to_the_teachers_and_the_way_is_no_part_of_the_student():
    configuration = configuration_of(optimizer=AdamW(lr=1e-2))
    learner = taught(learner_of(configuration, training_of(epochs=40)), teacher_of(5), teacher_of(6))
    before = learner.teaching.hints.way.weight.clone()
    found = [learner.step(Inputs(*batch_of()), number).components["hints"] for number in range(25)]
    assert 0 < found[-1] < 0.8 * found[0] < 4
    assert not torch.equal(learner.teaching.hints.way.weight, before)
    assert learner.state()["network"].keys() == learner_of(configuration).state()["network"].keys()


def test_hints_of_a_batch_in_parts_are_the_same():
    # Without an optimizer that makes as much of a tiny gradient as of a large one.
    sgd = Sgd(lr=0.1, momentum=0, weight_decay=0)
    configurations = [configuration_of(optimizer=sgd, gradient_accumulation=parts) for parts in (1, 2)]
    learners = [taught(learner_of(one), teacher_of(5)) for one in configurations]
    results = [learner.step(Inputs(*batch_of()), 0) for learner in learners]
    assert results[0].components["hints"] == pytest.approx(results[1].components["hints"], rel=1e-5)
    assert torch.allclose(weights_of(learners[0]), weights_of(learners[1]), atol=1e-5)


def test_a_training_with_hints_goes_on_bit_for_bit():
    def fit():
        found = fit_of(training=training_of(epochs=2, iterations_per_epoch=2), data=Data(cases_of(2), None))
        taught(found.learner, teacher_of(5))
        return found

    whole, second = gone_on(fit, after=3)
    ways = [one.learner.teaching.hints.way.weight for one in (whole, second)]
    assert torch.equal(*ways)


def test_a_try_that_failed_and_held_out_patches_leave_no_features():
    fit = fit_of(training=training_of(iterations_per_epoch=2), data=Data(cases_of(2), cases_of(1)))
    learner = taught(fit.learner, teacher_of(5))
    taps = learner.teaching.hints._student, learner.teaching.hints._teacher
    forward, held = learner.network.forward, []

    def failing(images):
        held.append(taps[0]._taken)
        found = forward(images)
        if len(held) == 1:
            raise torch.OutOfMemoryError
        return found

    learner.network.forward = failing
    learner.step(Inputs(*batch_of()), 0)
    assert len(held) > 2
    assert held[:2] == [None, None]
    learner.network.forward = forward
    assert fit.run()
    assert [tap._taken for tap in taps] == [None, None]


def test_processes_that_train_together_have_the_same_way():
    class Following(Ranks):
        def follow_first(self, tensors):
            self.followed = {id(tensor) for tensor in tensors}

    learner = taught(learner_of(), teacher_of(5))
    learner.ranks = Following()
    _follow_first(learner)
    assert id(learner.teaching.hints.way.weight) in learner.ranks.followed


def test_what_taps_a_network_goes_when_it_is_let_go():
    network = learner_of().network
    tap = Tap(network, PROBE, whose="teacher")
    gone = weakref.ref(tap)
    del tap
    gc.collect()
    assert gone() is None
    assert not any(module._forward_pre_hooks for module in network.modules())


def test_a_network_without_a_last_layer_gives_no_hints():
    network = nn.Sequential(nn.Conv3d(NUM_CHANNELS, 3, 1), nn.Softmax(1))
    with pytest.raises(
        PlanError, match="one last layer at full resolution, which the teacher's do not; leave out --hints"
    ):
        Tap(network, PROBE, whose="teacher")
