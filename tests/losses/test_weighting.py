"""Weights of components that follow the course of a training."""

import pytest
import torch

from tests.losses.built import loss_of
from tumorseg.losses.weighting import build_weighting
from tumorseg.schema.losses import BoundaryLoss, CrossEntropyLoss, DiceLoss, FocalLoss, LossSpec
from tumorseg.schema.numbers import LinearSchedule, StepSchedule
from tumorseg.schema.weighting import (
    AdaptiveWeighting,
    DynamicAverageWeighting,
    FixedWeighting,
    UncertaintyWeighting,
)

NAMES = ("a", "b")


def values(*numbers):
    return {name: torch.tensor(number) for name, number in zip(NAMES, numbers, strict=True)}


def factors(weighting):
    found, _ = weighting((1.0, 1.0))
    return found.tolist()


def test_fixed_weights_are_the_plans_own():
    assert build_weighting(FixedWeighting(), NAMES)((1.0, 1.0)) == (None, 0.0)


def test_uncertainty_finds_the_known_optimum_of_two_tasks():
    """Of exp(-s) L + s the least lies at s = log L: each task then has the same share."""
    weighting = build_weighting(UncertaintyWeighting(), NAMES)
    losses = torch.tensor([4.0, 0.25])
    optimizer = torch.optim.SGD(weighting.parameters(), lr=0.05)
    for _ in range(2000):
        optimizer.zero_grad()
        found, added = weighting((1.0, 1.0))
        ((found * losses).sum() + added).backward()
        optimizer.step()
    torch.testing.assert_close(weighting.log_variances.data, losses.log(), atol=1e-3, rtol=0)
    assert factors(weighting) == pytest.approx([0.25, 4.0], rel=1e-2)


def test_dynamic_average_weighs_what_fell_less_in_the_last_epoch():
    weighting = build_weighting(DynamicAverageWeighting(temperature=1.0), NAMES)
    for epoch in ((4.0, 2.0), (2.0, 2.0)):
        assert factors(weighting) == [1.0, 1.0]
        for noise in (-0.1, 0.1):
            weighting.observe(values(*(value + noise for value in epoch)))
        weighting.end_epoch()
    expected = 2 * torch.softmax(torch.tensor([0.5, 1.0]), 0)
    assert factors(weighting) == pytest.approx(expected.tolist(), rel=1e-5)


def test_adaptive_weights_follow_progress_within_their_bounds():
    weighting = build_weighting(AdaptiveWeighting(memory=0.5, long_memory=0.99, temperature=0.01, least=0.2), NAMES)
    assert factors(weighting) == [1.0, 1.0]
    for step in range(50):
        weighting.observe(values(1.0 / (step + 1), 1.0))  # only the first falls
    assert factors(weighting) == pytest.approx([0.2, 1.8], rel=1e-3)
    assert sum(factors(weighting)) == pytest.approx(2.0)


def test_a_component_that_is_0_neither_takes_all_the_weight_nor_grows_without_bound():
    averaged = build_weighting(DynamicAverageWeighting(), NAMES)
    for epoch in ((0.0, 1.0), (0.1, 1.0)):
        averaged.observe(values(*epoch))
        averaged.end_epoch()
    assert min(factors(averaged)) > 0.5
    adaptive = build_weighting(AdaptiveWeighting(temperature=0.1), NAMES)
    for value in (0.0, 0.0, 5.0):
        adaptive.observe(values(value, 1.0))
    assert min(factors(adaptive)) >= 0.2


def test_a_memory_that_is_the_longer_one_is_refused():
    with pytest.raises(ValueError, match=r"memory 0\.999 must be below long_memory 0\.9"):
        AdaptiveWeighting(memory=0.999, long_memory=0.9)


def test_log_variances_come_back_from_their_bounds():
    weighting = build_weighting(UncertaintyWeighting(), NAMES)
    optimizer = torch.optim.SGD(weighting.parameters(), lr=0.05)
    for losses in ([0.0, 1e4], [1.0, 1.0]):
        for _ in range(800):
            optimizer.zero_grad()
            found, added = weighting((1.0, 1.0))
            ((found * torch.tensor(losses)).sum() + added).backward()
            optimizer.step()
            weighting.observe({})
        if losses[0] == 0:
            assert weighting.log_variances.tolist() == pytest.approx([-4.0, 4.0])
    assert factors(weighting) == pytest.approx([1.0, 1.0], abs=0.05)


def test_a_component_without_weight_does_not_move_its_log_variance():
    weighting = build_weighting(UncertaintyWeighting(), NAMES)
    found, added = weighting((0.0, 1.0))
    ((found * torch.tensor([0.0, 2.0])).sum() + added).backward()
    assert weighting.log_variances.grad.tolist() == [0.0, -1.0]


def test_the_reference_loss_does_not_fall_because_a_weight_does():
    loss = loss_of(DiceLoss(weight=LinearSchedule(start=1.0, end=0.25)), CrossEntropyLoss(weight=2.0))
    for loss.progress in (0.0, 1.0):
        assert loss.reference_loss({"dice": 0.5, "cross_entropy": 0.1}) == pytest.approx(0.7)


@pytest.mark.parametrize("spec", [UncertaintyWeighting(), DynamicAverageWeighting(), AdaptiveWeighting()])
def test_a_state_that_is_restored_goes_on_as_before(spec):
    first, second = (build_weighting(spec, NAMES) for _ in range(2))
    for number in range(7):
        first.observe(values(3.0 / (number + 1), 1.0))
        if number % 2:
            first.end_epoch()
    second.load_state_dict({name: value.clone() for name, value in first.state_dict().items()})
    for weighting in (first, second):
        weighting.observe(values(0.5, 0.9))
        weighting.end_epoch()
    assert factors(first) == factors(second)


def test_the_sum_is_weighted_by_schedules_and_factors():
    components = (DiceLoss(weight=LinearSchedule(start=1.0, end=0.0)), CrossEntropyLoss(), FocalLoss(weight=0.0))
    loss = loss_of(*components, weighting=UncertaintyWeighting())
    assert [term.name for term in loss.terms] == ["dice", "cross_entropy"]
    loss.weighting.log_variances.data = torch.tensor([0.5, -0.5])
    loss.progress = 0.25
    expected = {"dice": 0.75 * 0.606531, "cross_entropy": 1.648721}
    assert loss.weights() == pytest.approx(expected, rel=1e-5)
    logits = torch.randn(1, 4, 3, 3, 3, generator=torch.Generator().manual_seed(0))
    value = loss(logits, torch.ones(1, 3, 3, 3, dtype=torch.int64))
    total = sum(weight * value.components[name] for name, weight in loss.weights().items())
    torch.testing.assert_close(value.total.detach(), total + 0.0)


def test_weights_that_vanish_at_some_time_are_refused():
    gone = DiceLoss(weight=LinearSchedule(start=1.0, end=0.0, until=0.5))
    with pytest.raises(ValueError, match="sum to 0 after 50% of the training"):
        LossSpec(preset="x", components=(gone,))
    between = DiceLoss(weight=StepSchedule(steps=(1.0, 0.0, 1.0), milestones=(0.501, 0.504)))
    with pytest.raises(ValueError, match="sum to 0 after 50% of the training"):
        LossSpec(preset="x", components=(between,))


def test_boundaries_share_their_distances_unless_they_never_count():
    other = BoundaryLoss(max_distance_mm=3.0, distance_maps="loader")
    with pytest.raises(ValueError, match="share one distance map"):
        LossSpec(preset="x", components=(BoundaryLoss(), other))
    unused = LossSpec(preset="x", components=(BoundaryLoss(), other.model_copy(update={"weight": 0.0})))
    assert not unused.reads_distances
