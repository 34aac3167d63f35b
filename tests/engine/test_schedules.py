import itertools

import numpy as np
import pytest
import torch

from tumorseg.engine.schedules import Plateau, Poly, build_optimizer, build_schedule
from tumorseg.schema.optimizers import AdamW, PlateauSchedule, PolySchedule, Sgd


def plateau(epochs=20, iterations=5, **changes):
    changes = {"factor": 0.5} | changes
    return Plateau(PlateauSchedule(**changes), 1.0, epochs=epochs, iterations_per_epoch=iterations)


def lrs_of(schedule, losses, iterations=5):
    """Return the lr at the end of each epoch of these mean losses."""
    found = []
    for epoch, loss in enumerate(losses):
        found.append(schedule.lr((epoch + 1) * iterations - 1))
        schedule.end_epoch(loss)
    return found


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
    schedule.end_epoch(1.0)
    schedule.restore(schedule.state())
    assert schedule.state() == {}
    assert [schedule.lr(iteration) for iteration in range(6)] == [1, 1, 1, 0.25, 0.25, 0.25]


def test_a_stalled_loss_lowers_the_lr_once_a_window_as_far_as_the_floor():
    lrs = lrs_of(plateau(epochs=30, floor=0.1), [0.7] * 30)
    assert lrs[:24] == [1] * 6 + [0.5] * 3 + [0.25] * 3 + [0.125] * 3 + [0.1] * 9


def test_a_falling_loss_keeps_the_lr():
    assert lrs_of(plateau(), 1 - 0.01 * np.arange(20))[:16] == [1] * 16


@pytest.mark.parametrize(("fall", "expected"), [(0.09, 0.5), (0.11, 1.0)])
@pytest.mark.parametrize("offset", [0.0, -2.0, -1.0, 40.0])
def test_a_fall_counts_by_its_share_of_the_whole_fall_wherever_zero_is(fall, expected, offset):
    schedule = plateau(epochs=20, threshold=0.1)
    lrs_of(schedule, offset + np.repeat([2.0, 1.0, 1.0 - fall], 2))
    assert schedule.lr(0) == expected


def test_one_lucky_epoch_lowers_the_lr_once_at_most():
    falling = 1 - 0.01 * np.arange(50)
    falling[12] = -3.0
    assert lrs_of(plateau(epochs=50), falling)[39] == 0.5


def test_the_lr_does_not_depend_on_how_a_training_is_cut_into_epochs():
    loss_of_step = np.concatenate([np.linspace(2, 1, 500), np.ones(500)])
    lrs = []
    for epochs in (10, 20, 50, 200):
        length = 1000 // epochs
        found = lrs_of(plateau(epochs, length), loss_of_step.reshape(epochs, length).mean(1), length)
        lrs.append(np.repeat(found, length)[99::100].tolist())
    assert lrs[0][:8] == [1] * 7 + [0.5]
    assert lrs[1:] == lrs[:1] * 3


def hippocampus_loss(epochs, iterations, seed):
    """Return what was measured on Task04_Hippocampus at a constant lr: it hardly falls after 1,000 steps."""
    noise = np.random.default_rng(seed).normal(size=epochs) * 0.03 / iterations**0.5
    return 0.173 + 1.77 * (1 + np.arange(epochs) * iterations / 181) ** -3.5 + noise


@pytest.mark.parametrize("epochs", [24, 50, 151, 1000])
def test_on_a_real_loss_the_lr_is_high_for_a_third_and_off_the_floor_for_three_quarters(epochs):
    for seed in range(5):
        schedule = Plateau(PlateauSchedule(), 1.0, epochs=epochs, iterations_per_epoch=20)
        lrs = lrs_of(schedule, hippocampus_loss(epochs, 20, seed), 20)
        assert lrs[epochs // 3] >= 0.6
        assert lrs[3 * epochs // 4] > 1.5 * PlateauSchedule().floor


@pytest.mark.parametrize("is_stalled", [False, True])
def test_the_last_fifth_falls_along_one_line_to_one_percent_whatever_the_loss_does(is_stalled):
    schedule = plateau(epochs=50, iterations=4)
    lrs = []
    for epoch in range(50):
        lrs += [schedule.lr(4 * epoch + step) for step in range(4)]
        schedule.end_epoch(1.0 if is_stalled else -float(epoch))
    start, last = lrs[159], lrs[160:]
    assert start == pytest.approx(0.05 if is_stalled else 1)
    assert last[-1] == pytest.approx(0.01 * start)
    steps = [before - after for before, after in itertools.pairwise([start, *last])]
    assert steps == pytest.approx([0.99 * start / 40] * 40)


def test_annealing_can_be_turned_off():
    assert [plateau(anneal_fraction=0).lr(iteration) for iteration in (0, 99)] == [1, 1]


@pytest.mark.parametrize("stop_at", [1, 2, 3, 7, 10])
def test_a_plateau_goes_on_from_its_state(stop_at):
    losses = [1, 0.9, 0.9, 0.95, 0.7, 0.8, 0.8, 0.8, 0.8, 0.8, 0.7, 0.6]
    whole, first, second = (plateau() for _ in range(3))
    lrs_of(whole, losses)
    lrs_of(first, losses[:stop_at])
    second.restore(first.state())
    lrs_of(second, losses[stop_at:])
    assert second.state() == whole.state()
    assert second.lr(50) == whole.lr(50) < 1


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
