import pytest
import torch
from torch import nn

from tests.engine.phantoms import configuration_of, training_of
from tumorseg.engine.optimisation import Group, Optimisation, groups_of
from tumorseg.losses.weighting import build_weighting
from tumorseg.schema.optimizers import PolySchedule, Sgd
from tumorseg.schema.weighting import AdaptiveWeighting, UncertaintyWeighting


def optimisation_of(network, groups=(), lr=0.1, clip=12.0):
    configuration = configuration_of(
        optimizer=Sgd(lr=lr, momentum=0, weight_decay=0.01), schedule=PolySchedule(exponent=1)
    )
    scaler = torch.amp.GradScaler("cpu", enabled=False)
    return Optimisation(configuration, training_of(gradient_clip_norm=clip), network, list(groups), scaler)


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


def test_the_networks_gradient_alone_is_clipped_and_all_are_looked_at():
    network, other = nn.Linear(2, 1, bias=False), nn.Parameter(torch.ones(1))
    optimisation = optimisation_of(network, [Group([other], {})], clip=1.0)
    optimisation.begin_step(0)
    optimisation.backward(3 * network(torch.tensor([[1.0, 0.0]])).sum() + 5 * other.sum())
    assert [float(norm) for norm in optimisation.gradient_norms()] == pytest.approx([3.0, 5.0])
    assert float(network.weight.grad.norm()) == pytest.approx(1.0, rel=1e-4)
    assert float(other.grad) == 5.0


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
