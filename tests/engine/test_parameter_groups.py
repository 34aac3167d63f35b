import copy

import pytest
import torch
from torch import nn

from tests.engine.phantoms import configuration_of, fit_of, training_of, weights_of
from tests.networks.transfer.nets import net
from tumorseg.engine.observers import Observer
from tumorseg.engine.parameter_groups import Freezing, parameter_groups
from tumorseg.errors import PlanError
from tumorseg.networks.registry import build_network
from tumorseg.schema.networks import PlainUNet
from tumorseg.schema.optimizers import AdamW, Sgd
from tumorseg.schema.training import FineTuning


@pytest.mark.parametrize("fine_tuning", [None, FineTuning(freeze=("encoder",), warmup_fraction=0.1)])
def test_by_default_all_parameters_are_one_group_in_the_networks_order(fine_tuning):
    network = net()
    (group,) = parameter_groups(network, Sgd(), fine_tuning)
    assert [id(one) for one in group.parameters] == [id(one) for one in network.parameters()]
    assert (group.lr_scale, group.weight_decay) == (1.0, Sgd().weight_decay)


def test_norms_and_biases_are_spared_the_decay_where_the_plan_says_so():
    network = net()
    spec = AdamW(decay_norms_and_biases=False)
    groups = parameter_groups(network, spec, None)
    assert sorted(group.weight_decay for group in groups) == [0.0, spec.weight_decay]
    spared = next(group for group in groups if not group.weight_decay)
    convolutions = [one for one in network.modules() if isinstance(one, nn.Conv2d | nn.ConvTranspose2d)]
    decayed = {id(one.weight) for one in convolutions}
    assert {id(one) for one in network.parameters()} - {id(one) for one in spared.parameters} == decayed


def test_the_lr_falls_from_the_heads_to_the_stem():
    network = net()
    groups = parameter_groups(network, AdamW(), FineTuning(layer_decay=0.5))
    scale_of = {id(one): group.lr_scale for group in groups for one in group.parameters}
    assert scale_of[id(network.heads[1].weight)] == 1
    assert scale_of[id(network.upsamplings[1].weight)] == scale_of[id(network.decoder[1][0][0].weight)] == 0.5
    assert scale_of[id(network.stages[2][0].first[0].weight)] == 0.125
    assert scale_of[id(network.stem[0].weight)] == 0.5**6
    assert sum(len(group.parameters) for group in groups) == len(list(network.parameters()))


def test_depth_and_decay_go_together():
    groups = parameter_groups(net(), AdamW(decay_norms_and_biases=False), FineTuning(layer_decay=0.5))
    assert len({(group.lr_scale, group.weight_decay) for group in groups}) == len(groups) == 14


def frozen_at(network, fine_tuning, iteration, num_iterations=10):
    Freezing(network, fine_tuning, num_iterations).apply(iteration)
    return {name.split(".")[0] for name, one in network.named_parameters() if not one.requires_grad}


@pytest.mark.parametrize(
    ("fraction", "iteration", "is_frozen"),
    [(0.5, 0, True), (0.5, 4, True), (0.5, 5, False), (1, 9, True), (1, 99, True)],
)
def test_what_is_frozen_follows_from_the_iteration_alone(fraction, iteration, is_frozen):
    network = net()
    fine_tuning = FineTuning(freeze=("encoder",), freeze_fraction=fraction)
    # Whatever step came before.
    for before in (9, 0):
        Freezing(network, fine_tuning, 10).apply(before)
        assert frozen_at(network, fine_tuning, iteration) == ({"stem", "stages"} if is_frozen else set())


def test_nothing_is_frozen_unless_the_plan_says_so():
    assert frozen_at(net(), None, 0) == frozen_at(net(), FineTuning(), 0) == set()


def test_a_frozen_part_stays_while_the_rest_learns():
    network = net()
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.1, weight_decay=0.5)
    before = {name: one.clone() for name, one in network.named_parameters()}
    Freezing(network, FineTuning(freeze=("stages.1",)), 10).apply(0)
    sum(one.square().mean() for one in network.train()(torch.randn(2, 1, 8, 8))).backward()
    optimizer.step()
    moved = {name for name, one in network.named_parameters() if not torch.equal(one, before[name])}
    assert {name for name in before if name.startswith("stages.1.")}.isdisjoint(moved)
    assert {"stem.0.weight", "stages.2.0.first.0.weight", "heads.0.weight"} <= moved


@pytest.mark.parametrize(("iteration", "is_frozen"), [(0, True), (5, False)])
def test_a_frozen_part_keeps_its_running_statistics(iteration, is_frozen):
    pairs = {"strides": ((1, 1), (2, 2)), "kernel_sizes": ((3, 3),) * 2}
    spec = PlainUNet(
        features_per_stage=(4, 8), **pairs, convs_per_stage=(1, 1), decoder_convs_per_stage=(1,), norm="batch"
    )
    network = build_network(spec, num_channels=1, num_outputs=2)
    before = {name: one.clone() for name, one in network.named_buffers()}
    network.train()
    Freezing(network, FineTuning(freeze=("encoder",), freeze_fraction=0.5), 10).apply(iteration)
    network(torch.randn(2, 1, 8, 8) + 3)
    still = {name.split(".")[0] for name, one in network.named_buffers() if torch.equal(one, before[name])}
    assert still == ({"stages"} if is_frozen else set())
    assert "decoder" in {name.split(".")[0] for name in before}


def test_a_plan_that_leaves_nothing_to_train_is_refused():
    with pytest.raises(PlanError, match="names the whole network"):
        Freezing(net(), FineTuning(freeze=("encoder", "decoder", "heads")), 10)


class Stopper(Observer):
    """Keeps the state with which a training stops after an iteration."""

    def __init__(self, stop_at):
        self.stop_at, self.steps, self.state = stop_at, 0, None

    def should_stop(self):
        return self.steps == self.stop_at

    def on_step(self, step):
        self.steps += 1

    def on_stop(self, state):
        self.state = copy.deepcopy(state)


def fine_tuned(stop_at=None):
    gentle = FineTuning(freeze=("stages.0",), freeze_fraction=0.5, warmup_fraction=0.4, layer_decay=0.7)
    fit = fit_of(configuration_of(), training_of(epochs=1, iterations_per_epoch=6, fine_tuning=gentle))
    stopper = Stopper(stop_at)
    fit.observers, fit.should_stop = (stopper,), stopper.should_stop
    return fit, stopper


def test_a_training_that_stops_while_a_part_is_frozen_or_after_goes_on_bit_for_bit():
    whole, _ = fine_tuned()
    first = whole.learner.network.stages[0][0][0].weight.detach().clone()
    assert whole.run()
    assert not torch.equal(whole.learner.network.stages[0][0][0].weight, first)
    for stop_at in (2, 3, 5):
        stopped, stopper = fine_tuned(stop_at)
        assert not stopped.run()
        assert torch.equal(stopped.learner.network.stages[0][0][0].weight, first) == (stop_at <= 3)
        resumed, _ = fine_tuned()
        resumed.restore(stopper.state)
        assert resumed.run()
        assert torch.equal(weights_of(resumed.learner), weights_of(whole.learner))
