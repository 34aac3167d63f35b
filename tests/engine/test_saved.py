"""What a checkpoint may lack or hold instead is told in words, before any of it is taken up."""

import copy
import re

import pytest
import torch

from tests.engine.phantoms import batch_of, configuration_of, fit_of, training_of
from tumorseg.engine.learner import Inputs
from tumorseg.engine.saved import _moments_problem, course_problem, state_problem
from tumorseg.schema.losses import LossSpec
from tumorseg.schema.optimizers import AdamW, PlateauSchedule, RAdam, Sgd
from tumorseg.schema.training import EarlyStop, Ema
from tumorseg.schema.weighting import UncertaintyWeighting

TRAINING = training_of(1, 2, ema=Ema(), early_stop=EarlyStop(), validation_iterations=1)
CONFIGURATION = configuration_of(schedule=PlateauSchedule())
NAME = "stages.0.0.0.weight"
TAIL = {"start": 1, "end": 2, "lr_from": 0.1, "lr_to": 0.01}


def fresh():
    return fit_of(CONFIGURATION, TRAINING, num_workers=0)


@pytest.fixture(scope="module")
def saved():
    fit = fresh()
    assert fit.run()
    return copy.deepcopy(fit.state())


@pytest.fixture(scope="module")
def fit():
    return fresh()


def put(*path, value):
    """Return what sets a part of a state, named by its keys; NAME stands for the first name there is."""

    def change(state):
        *parents, last = path
        for key in parents:
            state = state[key]
        state[next(iter(state)) if last == NAME else last] = value

    return change


def drop(*path):
    def change(state):
        *parents, last = path
        for key in parents:
            state = state[key]
        state.pop(next(iter(state)) if last == NAME else last)

    return change


def rename(state):
    state["network"]["other\x1b"] = state["network"].pop(next(iter(state["network"])))


def add(state):
    state["network"]["other\x1b"] = torch.zeros(1)


def test_the_state_of_a_training_has_no_problem(saved, fit):
    assert state_problem(saved, fit) is None
    assert state_problem(fit.state(), fit) is None
    kept = {"progress": {"iteration": 2, "losses": []}, "length": {"tail": None, "watch": None}}
    assert course_problem(kept, training_of(1, 2)) is None


@pytest.mark.parametrize("optimizer", [Sgd(lr=0.1), Sgd(lr=0.1, momentum=0), AdamW(lr=0.1), RAdam(lr=0.1)])
def test_every_optimizer_knows_its_own_moments(optimizer):
    loss = LossSpec(**configuration_of().loss.model_dump(exclude={"weighting"}), weighting=UncertaintyWeighting())
    learnt = fit_of(configuration_of(optimizer=optimizer, loss=loss), training_of(1, 1), num_workers=0)
    assert state_problem(learnt.state(), learnt) is None
    learnt.learner.step(Inputs(*batch_of()), 0)
    assert state_problem(learnt.state(), learnt) is None


def test_none_is_as_good_as_no_moment_and_no_moment_is_not_a_lost_one():
    inputs = Inputs(*batch_of())
    for momentum, problem in ((0, None), (0.9, "holds 0 values, expected momentum_buffer")):
        learnt = fit_of(configuration_of(optimizer=Sgd(lr=0.1, momentum=momentum)), training_of(1, 1), num_workers=0)
        learnt.learner.step(inputs, 0)
        state = copy.deepcopy(learnt.state())
        state["optimizer"]["state"] = {0: {"momentum_buffer": None}}
        found = state_problem(state, learnt)
        assert found is problem if problem is None else problem in found


def test_moments_are_numbers_of_the_kind_of_their_parameter():
    parameter = torch.nn.Parameter(torch.zeros(3, dtype=torch.complex64))
    optimizer = torch.optim.Adam([parameter])
    parameter.grad = torch.ones(3, dtype=torch.complex64)
    optimizer.step()
    state = optimizer.state_dict()["state"]
    assert _moments_problem(state, [parameter], optimizer) is None
    state[0]["exp_avg"] = torch.zeros(3)
    assert "of another shape or type" in _moments_problem(state, [parameter], optimizer)


@pytest.mark.parametrize(
    "part", ["network", "average", "optimizer", "scaler", "schedule", "length", "loss", "progress"]
)
def test_a_part_that_is_missing_or_another_thing_is_named(saved, fit, part):
    state = copy.deepcopy(saved)
    state[part] = "text"
    assert part in state_problem(state, fit)
    del state[part]
    assert state_problem(state, fit) == f"{part} is missing"


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (drop("network", NAME), "network: .*weight is missing"),
        (rename, "network: .*weight is missing"),
        (add, r"network: 'other\\x1b' is none of its tensors"),
        (
            put("network", NAME, value=torch.zeros(3)),
            r"network: .*weight is of shape \(3,\), expected \(4, 2, 3, 3, 3\)",
        ),
        (put("network", NAME, value=[1.0]), "network: .*weight is no dense tensor"),
        (put("network", NAME, value=torch.zeros(4, 2, 3, 3, 3, dtype=torch.int8)), "of type torch.int8"),
        (drop("average", "trained", NAME), r"average\.trained: .*weight is missing"),
        (put("average", "updates", value=-1), r"average\.updates is no whole number"),
        (put("loss", "progress", value=None), r"loss\.progress is no number"),
        (drop("loss", "weighting"), r"loss\.weighting: found NoneType"),
        (drop("schedule", "scale"), "schedule is not that of the plan, which keeps scale, epochs"),
        (put("schedule", "scale", value="1"), "schedule is not that of the plan"),
        (put("scaler", "scale", value="1"), "scaler"),
        (put("optimizer", "state", value={}), "state is empty after steps were taken"),
        (drop("optimizer", "state", 0, "exp_avg"), r"state\[0\] holds 2 values, expected exp_avg, exp_avg_sq, step"),
        (put("optimizer", "state", 0, "exp_avg", value=torch.zeros(3)), r"state\[0\]\.exp_avg is of another shape"),
        (put("optimizer", "state", 0, "exp_avg", value="0"), r"state\[0\]\.exp_avg is no tensor"),
        (put("optimizer", "state", 99, value={}), r"state\[99\] is of no parameter"),
        (put("optimizer", "param_groups", value=[]), "param_groups are not the 1 of the plan"),
        (put("optimizer", "param_groups", 0, "params", value=[0]), r"param_groups\[0\] is of other parameters"),
        (drop("optimizer", "param_groups", 0, "lr"), r"param_groups\[0\]\.lr is missing"),
        (
            put("optimizer", "param_groups", 0, "betas", value=(0.9,)),
            r"param_groups\[0\]\.betas is missing, or of another",
        ),
        (drop("progress", "iteration"), r"progress\.iteration is no whole number"),
        (put("progress", "iteration", value=1.5), r"progress\.iteration is no whole number"),
        (put("progress", "iteration", value=True), r"progress\.iteration is no whole number"),
        (put("progress", "seed", value="0"), r"progress\.seed is no whole number"),
        (put("progress", "losses", value=["0"]), r"progress\.losses are no numbers"),
        (put("progress", "components", value={"dice": None}), r"progress\.components are no numbers"),
        (put("progress", "seen", value={"core": [1]}), r"progress\.seen are no pairs"),
        (put("progress", "best", value=None), r"progress\.running or progress\.best is no number"),
        (put("progress", "other", value=1), r"progress\.'other' is unknown"),
        (drop("length", "tail"), r"length\.tail or length\.watch is missing"),
        (put("length", "tail", value={"start": 1}), r"length\.tail is no end"),
        (put("length", "tail", value=TAIL | {"end": 1}), r"length\.tail is not within the 2 steps"),
        (put("length", "tail", value=TAIL | {"end": 10**400}), r"length\.tail is not within the 2 steps"),
        (
            put("optimizer", "state", 0, "exp_avg", value=None),
            r"state\[0\] holds 2 values, expected exp_avg, exp_avg_sq",
        ),
        (put("length", "watch", value={"sum": 0.0}), r"length\.watch is no watch"),
        (put("length", "watch", value=None), r"length\.watch is missing"),
    ],
)
def test_what_is_wrong_is_told_with_its_name(saved, fit, change, problem):
    state = copy.deepcopy(saved)
    change(state)
    found = state_problem(state, fit)
    assert found is not None
    assert "\x1b" not in found
    assert re.search(problem, found), found
