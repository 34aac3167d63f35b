import itertools

import pytest
import torch
from torch import nn

from tests.engine.phantoms import batch_of, configuration_of, learner_of, training_of
from tumorseg.engine.optimisation import Optimisation
from tumorseg.engine.optimizers import BUILDERS, build_optimizer
from tumorseg.engine.parameter_groups import ParameterGroup
from tumorseg.engine.schedules import BUILDERS as SCHEDULES
from tumorseg.engine.schedules import build_schedule
from tumorseg.schema.extensions import records_of
from tumorseg.schema.optimizers import AdamW, OptimizerSpec, RAdam, Sgd
from tumorseg.storage.checkpoints import load_checkpoint, save_checkpoint

LEARNING = [Sgd(lr=0.2, momentum=0.9), AdamW(lr=0.05), RAdam(lr=0.3)]
"""Every optimizer with an lr at which it learns the phantom."""
EPOCHS = 12
CONTRACT = list(itertools.product(LEARNING, SCHEDULES))


def group_of(spec, **changes):
    return ParameterGroup([torch.nn.Parameter(torch.ones(3))], 1.0, spec.weight_decay)._replace(**changes)


def built(spec):
    return build_optimizer(spec, [group_of(spec)])


def test_every_optimizer_of_a_plan_is_built():
    assert set(BUILDERS) == set(records_of(OptimizerSpec).values()) == {type(spec) for spec in LEARNING}


def test_sgd_is_as_planned():
    found = built(Sgd(lr=0.3, momentum=0.9, weight_decay=1e-3))
    assert type(found) is torch.optim.SGD
    expected = {"lr": 0.3, "momentum": 0.9, "nesterov": True, "weight_decay": 1e-3}
    assert {name: found.defaults[name] for name in expected} == expected


@pytest.mark.parametrize(("kind", "expected"), [(AdamW, torch.optim.AdamW), (RAdam, torch.optim.RAdam)])
def test_adam_and_its_kin_are_as_planned(kind, expected):
    found = built(kind(lr=0.2, betas=(0.8, 0.9), eps=1e-6, weight_decay=0.1))
    assert type(found) is expected
    options = {"lr": 0.2, "betas": (0.8, 0.9), "eps": 1e-6, "weight_decay": 0.1}
    assert {name: found.defaults[name] for name in options} == options


def test_sgd_without_momentum_is_no_error():
    assert not built(Sgd(momentum=0)).defaults["nesterov"]


@pytest.mark.parametrize("spec", [AdamW(lr=0.1, weight_decay=0.5), RAdam(lr=0.1, weight_decay=0.5)])
def test_weight_decay_of_adam_and_its_kin_is_decoupled(spec):
    optimizer = built(spec)
    (parameter,) = optimizer.param_groups[0]["params"]
    parameter.grad = torch.zeros(3)
    optimizer.step()
    assert parameter.tolist() == pytest.approx([1 - 0.1 * 0.5] * 3)


def test_a_group_has_a_weight_decay_of_its_own_or_the_plans():
    spec = Sgd()
    optimizer = build_optimizer(spec, [group_of(spec), group_of(spec, weight_decay=0.0)])
    assert [group["weight_decay"] for group in optimizer.param_groups] == [spec.weight_decay, 0.0]


def test_a_single_group_is_what_torch_makes_of_the_parameters_alone():
    spec = AdamW()
    group = group_of(spec)
    expected = torch.optim.AdamW(
        group.parameters, lr=spec.lr, betas=spec.betas, eps=spec.eps, weight_decay=spec.weight_decay
    )
    assert build_optimizer(spec, [group]).state_dict() == expected.state_dict()


def test_norms_and_biases_are_spared_the_decay_where_the_plan_says_so():
    found = learner_of(configuration_of(optimizer=AdamW(decay_norms_and_biases=False))).optimisation.optimizer
    axes = {group["weight_decay"]: {one.ndim for one in group["params"]} for group in found.param_groups}
    assert axes == {AdamW().weight_decay: {5}, 0.0: {1}}


class Pixels:
    """A training of a network that tells the classes of a phantom's voxels apart, by the optimisation alone."""

    def __init__(self, optimizer, schedule):
        torch.manual_seed(0)
        self.network = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 3))
        images, classes = batch_of(num_axes=2)
        self.voxels, self.classes = images.movedim(1, -1).flatten(0, -2), classes.flatten()
        configuration = configuration_of(2, optimizer=optimizer, schedule=schedule)
        scaler = torch.amp.GradScaler("cpu", enabled=False)
        self.optimisation = Optimisation(configuration, training_of(EPOCHS, 5), self.network, [], scaler)

    def run(self, epochs):
        """Return losses and learning rates of the steps of some epochs."""
        found = []
        for iteration in range(5 * epochs.start, 5 * epochs.stop):
            self.optimisation.begin_step(iteration)
            loss = nn.functional.cross_entropy(self.network(self.voxels), self.classes)
            self.optimisation.backward(loss)
            self.optimisation.gradient_norms()
            self.optimisation.end_step(is_taken=True)
            found.append((float(loss.detach()), self.optimisation.optimizer.param_groups[0]["lr"]))
            if iteration % 5 == 4:
                # As if it had stalled, for schedules that look at it.
                self.optimisation.end_epoch(iteration + 1, 1.0)
        return found

    def state(self):
        return {"network": self.network.state_dict(), **self.optimisation.state()}

    def restore(self, state):
        self.network.load_state_dict(state["network"])
        self.optimisation.restore(state)


def named(value):
    return getattr(value, "name", None) or value.model_fields["name"].default


@pytest.mark.parametrize(("optimizer", "kind"), CONTRACT, ids=named)
def test_each_optimizer_with_each_schedule_learns_the_phantom_and_goes_on_bit_for_bit(optimizer, kind, tmp_path):
    whole, resumed = (Pixels(optimizer, kind()) for _ in range(2))
    # Stopped where a plateau has been lowered, and before it anneals.
    first = whole.run(range(7))
    save_checkpoint(tmp_path / "a.ckpt", whole.state())
    last = whole.run(range(7, EPOCHS))
    assert last[-1][0] < 0.4 * first[0][0]
    schedule = build_schedule(kind(), optimizer.lr, epochs=EPOCHS, iterations_per_epoch=5)
    assert [lr for _, lr in first[:10]] == [schedule.lr(iteration) for iteration in range(10)]
    resumed.restore(load_checkpoint(tmp_path / "a.ckpt"))
    assert resumed.run(range(7, EPOCHS)) == last
    states = [str(one.optimisation.optimizer.state_dict()) for one in (resumed, whole)]
    assert states[0] == states[1]
    for one, other in zip(resumed.network.parameters(), whole.network.parameters(), strict=True):
        assert torch.equal(one, other)
