"""The losses' values against torch, MONAI and nnU-Net's formula written out."""

import pytest
import torch
from torch.nn import functional as F

from tumorseg.losses.registry import build_loss
from tumorseg.schema.losses import (
    BinaryCrossEntropyLoss,
    CrossEntropyLoss,
    DiceLoss,
    FocalLoss,
    GeneralizedDiceLoss,
    JaccardLoss,
    LossSpec,
    TverskyLoss,
)
from tumorseg.schema.targets import IGNORE, Targets

SPACING = (1.0, 1.0, 1.0)
CLASSES = Targets(label_values=(0, 1, 2, 3), label_names=("background", "a", "b", "c"), ignore_value=None)
REGIONS = CLASSES.model_copy(
    update={"region_names": ("abc", "bc", "c"), "regions": ((1, 2, 3), (2, 3), (3,)), "region_values": (1, 2, 3)}
)
SPACE = (3, 6, 5)


@pytest.fixture
def logits():
    return torch.randn(2, 4, *SPACE, generator=torch.Generator().manual_seed(0)) * 2


@pytest.fixture
def target():
    return torch.randint(0, 4, (2, *SPACE), generator=torch.Generator().manual_seed(1))


def total(components, logits, target, targets=CLASSES):
    return build_loss(LossSpec(preset="test", components=components), targets, SPACING)(logits, target).total


def region_masks(target):
    return torch.stack([target >= 1, target >= 2, target >= 3], dim=1)


@pytest.mark.parametrize("batch", [False, True])
@pytest.mark.parametrize("include_background", [False, True])
def test_dice_of_classes_equals_monai(monai_losses, logits, target, batch, include_background):
    oracle = monai_losses.DiceLoss(
        include_background=include_background,
        to_onehot_y=True,
        softmax=True,
        batch=batch,
        smooth_nr=1e-5,
        smooth_dr=1e-5,
    )
    component = DiceLoss(batch=batch, include_background=include_background)
    torch.testing.assert_close(total((component,), logits, target), oracle(logits, target[:, None]))


@pytest.mark.parametrize("batch", [False, True])
def test_dice_of_regions_equals_monai(monai_losses, logits, target, batch):
    oracle = monai_losses.DiceLoss(sigmoid=True, batch=batch, smooth_nr=1e-5, smooth_dr=1e-5)
    expected = oracle(logits[:, :3], region_masks(target).float())
    torch.testing.assert_close(total((DiceLoss(batch=batch),), logits[:, :3], target, REGIONS), expected)


def test_dice_and_cross_entropy_equal_monai(monai_losses, logits, target):
    oracle = monai_losses.DiceCELoss(
        include_background=False, to_onehot_y=True, softmax=True, smooth_nr=1e-5, smooth_dr=1e-5
    )
    expected = oracle(logits, target[:, None])
    torch.testing.assert_close(total((DiceLoss(), CrossEntropyLoss()), logits, target), expected)


def test_gradients_equal_monai(monai_losses, logits, target):
    oracle = monai_losses.DiceCELoss(
        include_background=False, to_onehot_y=True, softmax=True, smooth_nr=1e-5, smooth_dr=1e-5
    )
    ours, theirs = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    total((DiceLoss(), CrossEntropyLoss()), ours, target).backward()
    oracle(theirs, target[:, None]).backward()
    torch.testing.assert_close(ours.grad, theirs.grad)


def test_cross_entropy_equals_torch_with_and_without_ignored_voxels(logits, target):
    torch.testing.assert_close(total((CrossEntropyLoss(),), logits, target), F.cross_entropy(logits, target))
    target[0, :2] = IGNORE
    expected = F.cross_entropy(logits, target, ignore_index=IGNORE)
    torch.testing.assert_close(total((CrossEntropyLoss(),), logits, target), expected)


def test_binary_cross_entropy_equals_torch_over_supervised_voxels(logits, target):
    masks = region_masks(target).float()
    target[0, :2] = IGNORE
    kept = (target != IGNORE)[:, None].expand(-1, 3, -1, -1, -1)
    expected = F.binary_cross_entropy_with_logits(logits[:, :3][kept], masks[kept])
    torch.testing.assert_close(total((BinaryCrossEntropyLoss(),), logits[:, :3], target, REGIONS), expected)


@pytest.mark.parametrize("batch", [False, True])
def test_dice_is_one_more_than_nnunets_formula(logits, target, batch):
    target[1, :, :2] = IGNORE
    mask = (target != IGNORE)[:, None]
    reference = F.one_hot(target.clamp(min=0), 4).movedim(-1, 1)[:, 1:] * mask
    predicted = logits.softmax(1)[:, 1:] * mask
    axes = (0, 2, 3, 4) if batch else (2, 3, 4)
    sums = reference.sum(axes) + predicted.sum(axes) + 1e-5
    expected = -((2 * (predicted * reference).sum(axes) + 1e-5) / sums.clip(1e-8)).mean()
    torch.testing.assert_close(total((DiceLoss(batch=batch),), logits, target), expected + 1)


def test_regions_that_overlap_in_any_way_are_looked_up(logits, target):
    odd = REGIONS.model_copy(update={"regions": ((1, 3), (2,), (1, 2))})
    masks = torch.stack([(target == 1) | (target == 3), target == 2, (target == 1) | (target == 2)], dim=1)
    expected = F.binary_cross_entropy_with_logits(logits[:, :3], masks.float())
    torch.testing.assert_close(total((BinaryCrossEntropyLoss(),), logits[:, :3], target, odd), expected)


def test_dice_of_a_large_patch_keeps_its_digits():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(1, 2, 96, 96, 96, generator=generator)
    target = (torch.rand(1, 96, 96, 96, generator=generator) < 0.9).long()
    targets = Targets(label_values=(0, 1), label_names=("background", "a"), ignore_value=None)
    single = total((DiceLoss(),), logits, target, targets)
    double = total((DiceLoss(),), logits.double(), target, targets)
    assert abs(single.item() - double.item()) < 1e-6


@pytest.mark.parametrize("batch", [False, True])
@pytest.mark.parametrize("include_background", [False, True])
@pytest.mark.parametrize(("alpha", "beta"), [(0.3, 0.7), (0.5, 0.5), (1.0, 0.0)])
def test_tversky_of_classes_equals_monai(monai_losses, logits, target, batch, include_background, alpha, beta):
    oracle = monai_losses.TverskyLoss(
        include_background=include_background,
        to_onehot_y=True,
        softmax=True,
        alpha=alpha,
        beta=beta,
        batch=batch,
        smooth_nr=1e-5,
        smooth_dr=1e-5,
    )
    component = TverskyLoss(alpha=alpha, beta=beta, batch=batch, include_background=include_background)
    torch.testing.assert_close(
        total((component,), logits, target), oracle(logits, target[:, None]), rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize("batch", [False, True])
def test_tversky_of_regions_equals_monai(monai_losses, logits, target, batch):
    oracle = monai_losses.TverskyLoss(sigmoid=True, alpha=0.2, beta=0.6, batch=batch, smooth_nr=1e-5, smooth_dr=1e-5)
    expected = oracle(logits[:, :3], region_masks(target).float())
    component = TverskyLoss(alpha=0.2, beta=0.6, batch=batch)
    torch.testing.assert_close(total((component,), logits[:, :3], target, REGIONS), expected, rtol=1e-5, atol=1e-5)


def test_tversky_with_equal_weights_is_dice(logits, target):
    halves = TverskyLoss(alpha=0.5, beta=0.5, smooth=0.0)
    torch.testing.assert_close(total((halves,), logits, target), total((DiceLoss(smooth=0.0),), logits, target))


@pytest.mark.parametrize("gamma", [0.75, 2.0])
def test_focal_tversky_is_each_class_to_its_power(monai_losses, logits, target, gamma):
    oracle = monai_losses.TverskyLoss(
        include_background=False,
        to_onehot_y=True,
        softmax=True,
        alpha=0.3,
        beta=0.7,
        reduction="none",
        smooth_nr=1e-5,
        smooth_dr=1e-5,
    )
    expected = (oracle(logits, target[:, None]) ** gamma).mean()
    torch.testing.assert_close(total((TverskyLoss(gamma=gamma),), logits, target), expected)


def test_misses_cost_more_than_false_alarms_where_beta_is_larger(target):
    masks = region_masks(target).float()
    missed, invented = masks.clone(), masks.clone()
    missed[:, :, 0], invented[:, :, 0] = 0, 1
    spec = TverskyLoss(alpha=0.1, beta=0.9)
    assert masks[:, :, 0].mean() == pytest.approx(0.5, abs=0.2)  # as many voxels to miss as to invent
    miss, invention = (total((spec,), (found * 2 - 1) * 50, target, REGIONS) for found in (missed, invented))
    assert miss > invention


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
@pytest.mark.parametrize("alpha", [None, 0.3])
def test_focal_of_classes_equals_monai(monai_losses, logits, target, gamma, alpha):
    oracle = monai_losses.FocalLoss(to_onehot_y=True, use_softmax=True, gamma=gamma, alpha=alpha)
    expected = oracle(logits, target[:, None]) * 4  # which divides by the number of classes too
    found = total((FocalLoss(gamma=gamma, alpha=alpha),), logits, target)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
@pytest.mark.parametrize("alpha", [None, 0.3])
def test_focal_of_regions_equals_monai(monai_losses, logits, target, gamma, alpha):
    oracle = monai_losses.FocalLoss(gamma=gamma, alpha=alpha)
    expected = oracle(logits[:, :3], region_masks(target).float())
    found = total((FocalLoss(gamma=gamma, alpha=alpha),), logits[:, :3], target, REGIONS)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_gradients_of_focal_and_tversky_equal_monai(monai_losses, logits, target):
    focal = monai_losses.FocalLoss(to_onehot_y=True, use_softmax=True, gamma=2.0)
    tversky = monai_losses.TverskyLoss(
        include_background=False, to_onehot_y=True, softmax=True, alpha=0.3, beta=0.7, smooth_nr=1e-5, smooth_dr=1e-5
    )
    ours, theirs = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    total((TverskyLoss(), FocalLoss()), ours, target).backward()
    (tversky(theirs, target[:, None]) + 4 * focal(theirs, target[:, None])).backward()
    torch.testing.assert_close(ours.grad, theirs.grad)


@pytest.mark.parametrize("targets", [CLASSES, REGIONS], ids=["classes", "regions"])
def test_focal_without_gamma_is_cross_entropy(logits, target, targets):
    outputs = logits[:, : targets.num_outputs]
    entropy = BinaryCrossEntropyLoss() if targets.has_regions else CrossEntropyLoss()
    target[0, :2] = IGNORE
    plain, focal = (total((term,), outputs, target, targets) for term in (entropy, FocalLoss(gamma=0.0)))
    torch.testing.assert_close(focal, plain)


@pytest.mark.parametrize("batch", [False, True])
@pytest.mark.parametrize("include_background", [False, True])
@pytest.mark.parametrize("jaccard", [False, True])
def test_squared_dice_and_jaccard_of_classes_equal_monai(
    monai_losses, logits, target, batch, include_background, jaccard
):
    oracle = monai_losses.DiceLoss(
        include_background=include_background,
        to_onehot_y=True,
        softmax=True,
        squared_pred=True,
        jaccard=jaccard,
        batch=batch,
        smooth_nr=1e-5,
        smooth_dr=1e-5,
    )
    kind = JaccardLoss if jaccard else DiceLoss
    component = kind(batch=batch, include_background=include_background, denominator="squared")
    found = total((component,), logits, target)
    torch.testing.assert_close(found, oracle(logits, target[:, None]), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("batch", [False, True])
def test_jaccard_of_regions_equals_monai(monai_losses, logits, target, batch):
    oracle = monai_losses.DiceLoss(sigmoid=True, jaccard=True, batch=batch, smooth_nr=1e-5, smooth_dr=1e-5)
    expected = oracle(logits[:, :3], region_masks(target).float())
    found = total((JaccardLoss(batch=batch),), logits[:, :3], target, REGIONS)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("batch", [False, True])
@pytest.mark.parametrize("weighting", ["square", "simple", "uniform"])
@pytest.mark.parametrize("lacks_a_class", [False, True])
def test_generalized_dice_of_classes_equals_monai(monai_losses, logits, target, batch, weighting, lacks_a_class):
    if lacks_a_class:
        target[0][target[0] == 2] = 1
    oracle = monai_losses.GeneralizedDiceLoss(
        include_background=True, to_onehot_y=True, softmax=True, w_type=weighting, batch=batch, smooth_nr=0, smooth_dr=0
    )
    component = GeneralizedDiceLoss(batch=batch, class_weighting=weighting, smooth=0.0)
    found = total((component,), logits, target)
    torch.testing.assert_close(found, oracle(logits, target[:, None]), rtol=1e-5, atol=1e-5)


def test_generalized_dice_of_regions_equals_monai(monai_losses, logits, target):
    oracle = monai_losses.GeneralizedDiceLoss(sigmoid=True, smooth_nr=0, smooth_dr=0)
    expected = oracle(logits[:, :3], region_masks(target).float())
    found = total((GeneralizedDiceLoss(smooth=0.0),), logits[:, :3], target, REGIONS)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_dice_and_focal_of_regions_equal_monai(monai_losses, logits, target):
    """Of classes MONAI sums a softmax Dice and a sigmoid focal loss, which is another loss."""
    oracle = monai_losses.DiceFocalLoss(sigmoid=True, gamma=2.0, smooth_nr=1e-5, smooth_dr=1e-5)
    expected = oracle(logits[:, :3], region_masks(target).float())
    found = total((DiceLoss(), FocalLoss()), logits[:, :3], target, REGIONS)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_generalized_dice_and_focal_of_regions_equal_monai(monai_losses, logits, target):
    oracle = monai_losses.GeneralizedDiceFocalLoss(sigmoid=True, gamma=2.0, smooth_nr=0, smooth_dr=0)
    expected = oracle(logits[:, :3], region_masks(target).float())
    found = total((GeneralizedDiceLoss(smooth=0.0), FocalLoss()), logits[:, :3], target, REGIONS)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("edge", [8, 96])
def test_generalized_dice_does_not_fade_with_the_size_of_a_patch(edge):
    """Weights of 1 / n^2 make masses of 1 / n, which a fixed `smooth` would outweigh."""
    targets = Targets(label_values=(0, 1), label_names=("background", "a"), ignore_value=None)
    target = (torch.arange(edge) < edge // 2).long().expand(1, edge, edge, edge)
    wrong = torch.stack([target, 1 - target], dim=1) * 60.0 - 30.0
    assert total((GeneralizedDiceLoss(),), wrong, target, targets).item() == pytest.approx(1.0, abs=1e-3)
    nothing_there = torch.zeros(1, edge, edge, edge, dtype=torch.int64)
    invented = torch.stack([nothing_there, nothing_there + 1], dim=1) * 60.0 - 30.0
    assert total((GeneralizedDiceLoss(),), invented, nothing_there, targets).item() == pytest.approx(1.0, abs=1e-3)
