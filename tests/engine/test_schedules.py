import itertools
import math

import pytest
import torch

from tumorseg.engine.schedules import Plateau, Poly, build_optimizer, build_schedule
from tumorseg.schema.optimizers import AdamW, PlateauSchedule, PolySchedule, Sgd


def plateau(epochs=20, iterations=5, **changes):
    return Plateau(PlateauSchedule(**changes), 1.0, epochs=epochs, iterations_per_epoch=iterations)


def parameters():
    return [torch.nn.Parameter(torch.ones(3))]


def test_poly_is_nnunets_formula_by_epochs():
    schedule = Poly(PolySchedule(), 0.01, epochs=1000, iterations_per_epoch=250)
    for iteration in (0, 249, 250, 12_345, 249_999):
        assert schedule.lr(iteration) == pytest.approx(0.01 * (1 - (iteration // 250) / 1000) ** 0.9)
    assert schedule.lr(0) == 0.01
    assert schedule.lr(249) == schedule.lr(0) > schedule.lr(250)


def test_poly_ignores_losses_and_has_no_state():
    schedule = Poly(PolySchedule(exponent=2), 1.0, epochs=2, iterations_per_epoch=3)
    schedule.end_epoch(1.0, math.nan)
    schedule.restore(schedule.state())
    assert schedule.state() == {}
    assert [schedule.lr(iteration) for iteration in range(6)] == [1, 1, 1, 0.25, 0.25, 0.25]


def test_plateau_lowers_the_lr_once_patience_is_over():
    schedule = plateau(patience=2, factor=0.5)
    seen = []
    for _ in range(7):
        schedule.end_epoch(9.0, 1.0)
        seen.append(schedule.lr(0))
    assert seen == [1, 1, 1, 0.5, 0.5, 0.5, 0.25]


def test_plateau_keeps_the_lr_while_the_loss_falls():
    schedule = plateau(patience=0)
    for epoch in range(10):
        schedule.end_epoch(9.0, 1 - 0.01 * epoch)
    assert schedule.lr(0) == 1


@pytest.mark.parametrize(("step", "expected"), [(0.0005, 0.5), (0.002, 1.0)])
def test_only_a_relative_improvement_above_the_threshold_counts(step, expected):
    schedule = plateau(patience=0, threshold=1e-3)
    schedule.end_epoch(0, 1.0)
    schedule.end_epoch(0, 1.0 - step)
    assert schedule.lr(0) == expected


@pytest.mark.parametrize("patience", [0, 2])
def test_the_last_fifth_falls_along_one_line_to_one_percent_whatever_the_loss_does(patience):
    schedule = plateau(epochs=50, iterations=4, patience=patience)
    lrs = []
    for epoch in range(50):
        lrs += [schedule.lr(4 * epoch + step) for step in range(4)]
        schedule.end_epoch(1.0, 1.0)
    start, last = lrs[159], lrs[160:]
    assert last[-1] == pytest.approx(0.01 * start)
    steps = [before - after for before, after in itertools.pairwise([start, *last])]
    assert steps == pytest.approx([0.99 * start / 40] * 40)


def test_negative_losses_improve_downwards_too():
    schedule = plateau(patience=0)
    for loss in (-0.5, -0.6, -0.7):
        schedule.end_epoch(0, loss)
    assert schedule.lr(0) == 1
    schedule.end_epoch(0, -0.65)
    assert schedule.lr(0) == 0.5


def test_without_a_validation_loss_the_running_mean_of_the_training_loss_is_watched():
    schedule = plateau(patience=0, running_mean=0.9)
    schedule.end_epoch(1.0, None)
    schedule.end_epoch(0.5, None)  # mean .95
    schedule.end_epoch(0.9, None)  # .945: still better
    assert schedule.lr(0) == 1
    schedule.end_epoch(1.0, None)
    assert schedule.lr(0) == 0.5


def test_the_last_fifth_is_annealed_linearly_to_one_percent():
    schedule = plateau(epochs=20, iterations=5)
    rates = [schedule.lr(iteration) for iteration in range(100)]
    assert rates[:80] == [1.0] * 80
    assert rates[-1] == pytest.approx(0.01)
    steps = [before - after for before, after in itertools.pairwise(rates[79:])]
    assert steps == pytest.approx([0.99 / 20] * 20)


def test_annealing_starts_from_the_lowered_lr():
    schedule = plateau(patience=0)
    schedule.end_epoch(0, 1.0)
    schedule.end_epoch(0, 1.0)
    assert schedule.lr(79) == 0.5
    assert schedule.lr(99) == pytest.approx(0.005)


def test_annealing_can_be_turned_off():
    assert [plateau(anneal_fraction=0).lr(iteration) for iteration in (0, 99)] == [1, 1]


def test_a_plateau_goes_on_from_its_state():
    losses = [1, 0.9, 0.9, 0.95, 0.7, 0.8, 0.8, 0.8, 0.8]
    for validation in (True, False):
        whole, first, second = (plateau(patience=1) for _ in range(3))
        for number, loss in enumerate(losses):
            half = first if number < 4 else second
            if number == 4:
                second.restore(first.state())
            for schedule in (whole, half):
                schedule.end_epoch(loss, loss if validation else None)
        assert second.state() == whole.state()
        assert second.lr(50) == whole.lr(50)


def test_a_plan_names_the_schedule():
    build = {"epochs": 3, "iterations_per_epoch": 2}
    assert isinstance(build_schedule(PolySchedule(), 0.1, **build), Poly)
    assert isinstance(build_schedule(PlateauSchedule(), 0.1, **build), Plateau)


def test_a_plan_names_the_optimizer():
    sgd = build_optimizer(Sgd(lr=0.3, momentum=0.9, weight_decay=1e-3), parameters())
    assert isinstance(sgd, torch.optim.SGD)
    assert {name: sgd.defaults[name] for name in ("lr", "momentum", "nesterov", "weight_decay")} == {
        "lr": 0.3,
        "momentum": 0.9,
        "nesterov": True,
        "weight_decay": 1e-3,
    }
    adamw = build_optimizer(AdamW(betas=(0.8, 0.9), eps=1e-6), parameters())
    assert isinstance(adamw, torch.optim.AdamW)
    assert (adamw.defaults["betas"], adamw.defaults["eps"]) == ((0.8, 0.9), 1e-6)


def test_sgd_without_momentum_is_no_error():
    assert not build_optimizer(Sgd(momentum=0), parameters()).defaults["nesterov"]
