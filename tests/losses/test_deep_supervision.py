"""The sum over resolutions, and how it is put together."""

import pytest
import torch
from torch.nn import functional as F

from tumorseg.errors import InputError, PlanError
from tumorseg.losses.level import downsample
from tumorseg.losses.registry import build_loss
from tumorseg.schema.losses import BinaryCrossEntropyLoss, CrossEntropyLoss, DiceLoss, LossSpec
from tumorseg.schema.targets import IGNORE, Targets

SPACING = (1.0, 1.0, 1.0)
CLASSES = Targets(label_values=(0, 1, 2), label_names=("background", "a", "b"), ignore_value=None)
REGIONS = CLASSES.model_copy(update={"region_names": ("ab",), "regions": ((1, 2),), "region_values": (1,)})
SPACES = ((6, 8, 10), (6, 4, 5), (3, 2, 5))


def spec(*components, weights=(1.0,)):
    return LossSpec(preset="test", components=components, deep_supervision_weights=weights)


@pytest.fixture
def target():
    return torch.randint(0, 3, (2, *SPACES[0]), generator=torch.Generator().manual_seed(0))


@pytest.fixture
def outputs():
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(2, 3, *space, generator=generator) for space in SPACES]


def test_each_level_is_weighted_against_the_nearest_labels(target, outputs):
    value = build_loss(spec(CrossEntropyLoss(weight=3), weights=(4.0, 2.0, 2.0)), CLASSES, SPACING)(outputs, target)
    expected = torch.zeros(())
    for logits, weight in zip(outputs, (0.5, 0.25, 0.25), strict=True):
        coarse = F.interpolate(target[:, None].float(), logits.shape[2:], mode="nearest-exact")[:, 0].long()
        expected += weight * F.cross_entropy(logits, coarse)
    torch.testing.assert_close(value.components["cross_entropy"], expected)
    torch.testing.assert_close(value.total, 3 * expected)


def test_levels_of_weight_0_are_skipped(target, outputs):
    loss = build_loss(spec(DiceLoss(), CrossEntropyLoss(), weights=(2.0, 1.0, 0.0)), CLASSES, SPACING)
    outputs[2] = torch.full_like(outputs[2], torch.nan).requires_grad_()
    outputs[0].requires_grad_()
    loss(outputs, target).total.backward()
    assert outputs[2].grad is None
    assert outputs[0].grad.isfinite().all()


def test_one_tensor_is_the_full_resolution_alone(target, outputs):
    deep = build_loss(spec(DiceLoss(), CrossEntropyLoss(), weights=(2.0, 1.0, 0.0)), CLASSES, SPACING)
    single = build_loss(spec(DiceLoss(), CrossEntropyLoss()), CLASSES, SPACING)
    assert deep(outputs[0], target).total == single([outputs[0]], target).total


def test_ignored_voxels_are_ignored_at_every_level(target, outputs):
    target[:, :, :4] = IGNORE
    outputs = [logits.requires_grad_() for logits in outputs]
    build_loss(spec(DiceLoss(), CrossEntropyLoss(), weights=(3.0, 2.0, 1.0)), CLASSES, SPACING)(
        outputs, target
    ).total.backward()
    for logits, border in zip(outputs, (4, 2, 1), strict=True):
        assert (logits.grad[:, :, :, :border] == 0).all()
        assert logits.grad[:, :, :, border:].abs().sum() > 0


@pytest.mark.parametrize("shape", [(7, 9), (3, 9), (7, 4), (2, 3), (1, 1)])
def test_labels_shrink_as_torchs_nearest_exact(shape):
    target = torch.arange(2 * 7 * 9).reshape(2, 7, 9)
    expected = F.interpolate(target[:, None].double(), shape, mode="nearest-exact")[:, 0].long()
    assert torch.equal(downsample(target, torch.Size(shape)), expected)


def test_another_number_of_outputs_than_weights_is_named(target, outputs):
    with pytest.raises(InputError, match="3 outputs, but the loss has 1"):
        build_loss(spec(DiceLoss()), CLASSES, SPACING)(outputs, target)


def test_a_coarse_output_of_another_batch_is_named(target, outputs):
    outputs[1] = outputs[1][:1]
    with pytest.raises(
        InputError, match=r"output 1 .* of shape \(1, 3, 6, 4, 5\), the target .* of shape \(2, 6, 8, 10\)"
    ):
        build_loss(spec(DiceLoss(), weights=(1.0, 1.0, 1.0)), CLASSES, SPACING)(outputs, target)


def test_repeated_components_are_told_apart(target, outputs):
    loss = build_loss(spec(DiceLoss(), DiceLoss(batch=True)), CLASSES, SPACING)
    value = loss(outputs[0], target)
    assert list(value.components) == ["dice", "dice_2"]
    assert value.components["dice"] != value.components["dice_2"]


def test_components_of_weight_0_are_not_computed(target, outputs):
    loss = build_loss(spec(DiceLoss(), CrossEntropyLoss(weight=0)), CLASSES, SPACING)
    assert list(loss(outputs[0], target).components) == ["dice"]


def test_a_loss_has_no_state():
    assert build_loss(spec(DiceLoss()), REGIONS, SPACING).state_dict() == {}


def test_components_that_do_not_fit_the_targets_are_plan_errors():
    with pytest.raises(PlanError, match="use binary_cross_entropy"):
        build_loss(spec(CrossEntropyLoss()), REGIONS, SPACING)
    with pytest.raises(PlanError, match="use cross_entropy"):
        build_loss(spec(BinaryCrossEntropyLoss()), CLASSES, SPACING)
