"""Losses that choose voxels, or weight them by how hard they are."""

import pytest
import torch
from torch.nn import functional as F

from tests.losses.built import BINARY, BINARY_REGION, CLASSES, REGIONS, loss_of, value_of
from tumorseg.errors import PlanError
from tumorseg.schema.losses import (
    BinaryCrossEntropyLoss,
    CrossEntropyLoss,
    FocalLoss,
    HardExampleLoss,
    TopKLoss,
    UnifiedFocalLoss,
)
from tumorseg.schema.numbers import LinearSchedule
from tumorseg.schema.targets import IGNORE

SPACE = (4, 6, 5)


@pytest.fixture
def logits():
    return torch.randn(2, 4, *SPACE, generator=torch.Generator().manual_seed(0)) * 2


@pytest.fixture
def target():
    return torch.randint(0, 4, (2, *SPACE), generator=torch.Generator().manual_seed(1))


def entropies(logits, target):
    return F.cross_entropy(logits, target, ignore_index=IGNORE, reduction="none")


@pytest.mark.parametrize("k", [0.001, 0.1, 0.5])
def test_topk_is_the_mean_of_the_worst_voxels_of_the_batch(logits, target, k):
    worst = entropies(logits, target).flatten().sort(descending=True).values
    expected = worst[: max(1, int(len(worst) * k))].mean()
    torch.testing.assert_close(value_of(TopKLoss(k=k), logits, target), expected)


@pytest.mark.parametrize("targets", [CLASSES, REGIONS], ids=["classes", "regions"])
@pytest.mark.parametrize("ignores", [False, True])
def test_topk_of_all_is_cross_entropy(logits, target, targets, ignores):
    outputs = logits[:, : targets.num_outputs]
    target[0, :2] = IGNORE if ignores else 0
    plain = BinaryCrossEntropyLoss() if targets.has_regions else CrossEntropyLoss()
    pair = [value_of(one, outputs, target, targets) for one in (TopKLoss(k=1.0), plain)]
    torch.testing.assert_close(*pair)


def test_topk_takes_its_share_of_supervised_voxels_only(logits, target):
    target[:, :2] = IGNORE
    known = entropies(logits, target)[:, 2:].flatten().sort(descending=True).values
    expected = known[: int(len(known) * 0.3)].mean()
    torch.testing.assert_close(value_of(TopKLoss(k=0.3), logits, target), expected)


def test_the_share_of_topk_may_fall_with_time(logits, target):
    loss = loss_of(TopKLoss(k=LinearSchedule(start=1.0, end=0.5)))
    found = []
    for loss.progress in (0.0, 0.5, 1.0):
        found.append(loss(logits, target).total)
    expected = [value_of(TopKLoss(k=k), logits, target) for k in (1.0, 0.75, 0.5)]
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("ignores", [False, True])
def test_ohem_keeps_all_foreground_and_the_worst_background(logits, target, ignores):
    target[0, :1] = IGNORE if ignores else 0
    values = entropies(logits, target)
    outside = values[target == 0].sort(descending=True).values
    count = -(-len(outside) // 4)
    expected = torch.cat((values[target > 0], outside[:count])).mean()
    torch.testing.assert_close(value_of(HardExampleLoss(k=0.25), logits, target), expected)


def test_ohem_of_everything_is_cross_entropy(logits, target):
    torch.testing.assert_close(value_of(HardExampleLoss(k=1.0), logits, target), F.cross_entropy(logits, target))


@pytest.mark.parametrize(("balance", "delta", "gamma"), [(0.5, 0.7, 0.5), (0.2, 0.6, 0.1), (0.9, 0.4, 0.75)])
def test_unified_focal_of_two_classes_equals_monai(monai_losses, logits, target, balance, delta, gamma):
    oracle = monai_losses.AsymmetricUnifiedFocalLoss(to_onehot_y=True, weight=balance, gamma=gamma, delta=delta)
    logits, target = logits[:, :2], (target > 1).long()
    expected = oracle(logits.softmax(1), target[:, None])
    component = UnifiedFocalLoss(balance=balance, delta=delta, gamma=gamma)
    found = value_of(component, logits, target, BINARY)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    one = (logits[:, 1] - logits[:, 0]).unsqueeze(1)  # the same two probabilities as one sigmoid
    torch.testing.assert_close(value_of(component, one, target, BINARY_REGION), found, rtol=1e-5, atol=1e-6)


def test_focal_weighs_each_class_by_its_alpha(logits, target):
    alpha = (0.1, 0.5, 1.0, 2.0)
    values = entropies(logits, target)
    expected = ((1 - torch.exp(-values)) ** 2 * values * torch.tensor(alpha)[target]).mean()
    torch.testing.assert_close(value_of(FocalLoss(alpha=alpha), logits, target), expected)
    with pytest.raises(PlanError, match="alpha of focal has 3 entries for 4 outputs"):
        loss_of(FocalLoss(alpha=(1.0, 1.0, 1.0)))
