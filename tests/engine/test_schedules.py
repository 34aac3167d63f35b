import itertools

import numpy as np
import pytest
import torch
from torch.optim import lr_scheduler

from tumorseg.engine.schedules import BUILDERS, Plateau, Poly, build_schedule
from tumorseg.schema.extensions import records_of
from tumorseg.schema.optimizers import (
    ConstantSchedule,
    CosineSchedule,
    OneCycleSchedule,
    PlateauSchedule,
    PolySchedule,
    ScheduleSpec,
)


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


def test_every_schedule_of_a_plan_is_built():
    assert set(BUILDERS) == set(records_of(ScheduleSpec).values())
    for spec, kind in BUILDERS.items():
        assert type(build_schedule(spec(), 0.1, epochs=3, iterations_per_epoch=2)) is kind


def steps_of(spec, base_lr, *, epochs, iterations=5):
    schedule = build_schedule(spec, base_lr, epochs=epochs, iterations_per_epoch=iterations)
    return [schedule.lr(iteration) for iteration in range(epochs * iterations)]


def torchs(make, base_lr, num_steps):
    """Return the lr of each step of one of torch's schedulers."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=base_lr)
    scheduler = make(optimizer)
    found = []
    for _ in range(num_steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return found


def after_warm_up(optimizer, num_steps, start, after):
    rises = lr_scheduler.LinearLR(optimizer, start_factor=start, total_iters=num_steps)
    return lr_scheduler.SequentialLR(optimizer, [rises, after], milestones=[num_steps])


@pytest.mark.parametrize("exponent", [0.5, 0.9, 2.0])
def test_poly_is_torchs_polynomial_by_epochs(exponent):
    expected = torchs(lambda one: lr_scheduler.PolynomialLR(one, total_iters=40, power=exponent), 0.3, 40)
    found = steps_of(PolySchedule(exponent=exponent), 0.3, epochs=40, iterations=3)
    assert found == pytest.approx(np.repeat(expected, 3), rel=1e-12)


@pytest.mark.parametrize(("warm_up", "end"), [(0.0, 0.0), (0.1, 0.0), (0.35, 0.02)])
def test_cosine_is_torchs_after_its_linear_warm_up(warm_up, end):
    total, num_rising = 200, round(200 * warm_up)

    def make(optimizer):
        cosine = lr_scheduler.CosineAnnealingLR(optimizer, T_max=total - num_rising, eta_min=0.3 * end)
        return after_warm_up(optimizer, num_rising, 0.2, cosine) if num_rising else cosine

    spec = CosineSchedule(warmup_fraction=warm_up, warmup_from=0.2, anneal_to=end)
    assert steps_of(spec, 0.3, epochs=40) == pytest.approx(torchs(make, 0.3, total), rel=1e-12, abs=1e-15)


@pytest.mark.parametrize("peak_at", [0.05, 0.3, 0.77])
@pytest.mark.parametrize("total", [8, 101])
def test_one_cycle_is_torchs(peak_at, total):
    def make(optimizer):
        return lr_scheduler.OneCycleLR(
            optimizer, max_lr=0.3, total_steps=total + 1, pct_start=peak_at, div_factor=20.0, final_div_factor=300.0
        )

    spec = OneCycleSchedule(peak_at=peak_at, initial_divisor=20.0, final_divisor=300.0)
    # One step more than is looked at, as torch's refuses to be moved on after its last one.
    found = steps_of(spec, 0.3, epochs=total + 1, iterations=1)[:-1]
    assert found == pytest.approx(torchs(make, 0.3, total), rel=1e-12)


def test_one_cycle_begins_peaks_and_ends_as_its_fields_say():
    lrs = steps_of(OneCycleSchedule(peak_at=0.25), 0.5, epochs=20)
    assert (lrs[0], lrs[24], lrs[-1]) == pytest.approx((0.5 / 25, 0.5, 0.5 / 25 / 1e4))
    assert lrs[:25] == sorted(lrs[:25])
    assert lrs[24:] == sorted(lrs[24:], reverse=True)


@pytest.mark.parametrize("spec", [CosineSchedule(warmup_fraction=0.9), OneCycleSchedule(), ConstantSchedule()])
@pytest.mark.parametrize("total", [1, 2, 3])
def test_a_training_of_a_few_steps_has_an_lr_throughout(spec, total):
    assert all(0 < lr <= 1 for lr in steps_of(spec, 1.0, epochs=total, iterations=1))


@pytest.mark.parametrize("warm_up", [0.0, 0.2])
def test_constant_is_torchs_linear_warm_up_and_nothing_after(warm_up):
    def make(optimizer):
        constant = lr_scheduler.ConstantLR(optimizer, factor=1.0)
        return after_warm_up(optimizer, 10, 0.1, constant) if warm_up else constant

    found = steps_of(ConstantSchedule(warmup_fraction=warm_up), 0.3, epochs=10)
    assert found == pytest.approx(torchs(make, 0.3, 50), rel=1e-12)
    assert found[10:] == [0.3] * 40


def test_only_a_plateau_has_a_last_part_in_which_it_anneals():
    for spec in BUILDERS:
        schedule = build_schedule(spec(), 0.1, epochs=10, iterations_per_epoch=1)
        found = [schedule.is_annealing(iteration) for iteration in range(10)]
        assert found == [False] * 8 + [spec is PlateauSchedule] * 2
