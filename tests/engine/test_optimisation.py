import math

import pytest
import torch
from torch import nn

from tests.engine.phantoms import configuration_of, learner_of, training_of
from tumorseg.engine.optimisation import Group, Optimisation, groups_of
from tumorseg.losses.weighting import build_weighting
from tumorseg.schema.optimizers import PolySchedule, Sgd
from tumorseg.schema.training import FineTuning
from tumorseg.schema.weighting import AdaptiveWeighting, UncertaintyWeighting


def optimisation_of(network, groups=(), lr=0.1, clip=12.0, training=None):
    configuration = configuration_of(
        optimizer=Sgd(lr=lr, momentum=0, weight_decay=0.01), schedule=PolySchedule(exponent=1)
    )
    scaler = torch.amp.GradScaler("cpu", enabled=False)
    training = training or training_of(gradient_clip_norm=clip)
    return Optimisation(configuration, training, network, list(groups), scaler)


def test_the_network_follows_the_schedule_and_another_group_keeps_its_lr():
    group = Group([nn.Parameter(torch.ones(2))], {"lr": 0.7, "weight_decay": 0.0})
    optimisation = optimisation_of(nn.Linear(2, 2), [group])
    for iteration, share in ((0, 1.0), (3, 0.5)):
        optimisation.begin_step(iteration)
        lrs = [group["lr"] for group in optimisation.optimizer.param_groups]
        assert lrs == pytest.approx([0.1 * share, 0.7])
    assert [group["weight_decay"] for group in optimisation.optimizer.param_groups] == [0.01, 0.0]


def test_learnt_loss_weights_are_a_group_of_their_own():
    (group,) = groups_of(build_weighting(UncertaintyWeighting(lr=0.3), ["dice", "cross_entropy"]))
    assert group.options == {"lr": 0.3, "weight_decay": 0.0}
    assert groups_of(build_weighting(AdaptiveWeighting(), ["dice"])) == []


def after_backward(factors, clip):
    """Return the gradients' norms before the clip and after it, of a network and of learnt loss weights."""
    network, other = nn.Linear(2, 1, bias=False), nn.Parameter(torch.ones(1))
    optimisation = optimisation_of(network, [Group([other], {})], clip=clip)
    optimisation.begin_step(0)
    optimisation.backward(factors[0] * network(torch.tensor([[1.0, 0.0]])).sum() + factors[1] * other.sum())
    norms = [float(norm) for norm in optimisation.gradient_norms()]
    return norms, [float(network.weight.grad.norm()), float(other.grad.norm())]


def test_network_and_learnt_loss_weights_are_clipped_each_by_its_own_norm():
    norms, clipped = after_backward((3.0, 5.0), clip=1.0)
    assert norms == pytest.approx([3.0, 5.0])
    assert clipped == pytest.approx([1.0, 1.0], rel=1e-4)
    # However large a loss weight's gradient is, the network moves as far as without it.
    norms, clipped = after_backward((0.5, 1e6), clip=1.0)
    assert norms == pytest.approx([0.5, 1e6])
    assert clipped == pytest.approx([0.5, 1.0], rel=1e-4)


@pytest.mark.parametrize("bad", [0, 1])
@pytest.mark.parametrize("clip", [1.0, None])
def test_a_gradient_that_is_not_finite_is_seen_with_a_clip_and_without(bad, clip):
    factors = [3.0, 5.0]
    norms, clipped = after_backward(factors, clip)
    assert norms == pytest.approx(factors)
    assert (clipped == norms) == (clip is None)
    factors[bad] = float("inf")
    norms, _ = after_backward(factors, clip)
    assert [math.isfinite(norm) for norm in norms] == [bad == 1, bad == 0]


def test_the_lr_rises_first_where_the_weights_were_given():
    training = training_of(10, 2, fine_tuning=FineTuning(warmup_fraction=0.2))
    optimisation = optimisation_of(nn.Linear(2, 2), training=training)
    plain = optimisation_of(nn.Linear(2, 2), training=training_of(10, 2))
    shares = [optimisation.lr(iteration) / plain.lr(iteration) for iteration in range(20)]
    assert shares == pytest.approx([0.2, 0.4, 0.6, 0.8] + [1] * 16)


def test_each_group_of_the_network_has_its_share_of_the_lr():
    network = learner_of().network
    fine_tuning = FineTuning(layer_decay=0.5)
    optimisation = optimisation_of(network, training=training_of(fine_tuning=fine_tuning))
    optimisation.begin_step(3)
    lrs = [group["lr"] for group in optimisation.optimizer.param_groups]
    assert max(lrs) == optimisation.lr(3) == pytest.approx(0.05)
    assert len(set(lrs)) == len(lrs) > 1


def test_a_step_that_is_not_taken_leaves_the_weights_alone():
    network = nn.Linear(2, 1)
    optimisation, before = optimisation_of(network), network.weight.detach().clone()
    optimisation.begin_step(0)
    optimisation.backward(network(torch.ones(1, 2)).sum())
    optimisation.gradient_norms()
    optimisation.end_step(is_taken=False)
    assert torch.equal(network.weight, before)
    optimisation.end_step(is_taken=True)
    assert not torch.equal(network.weight, before)
