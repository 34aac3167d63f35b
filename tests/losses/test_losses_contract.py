"""What every loss of the registry promises, alone and summed."""

from itertools import pairwise
from typing import get_args

import pytest
import torch

from tumorseg.errors import InputError
from tumorseg.losses.registry import BUILDERS, build_loss
from tumorseg.schema.extensions import External
from tumorseg.schema.losses import (
    BinaryCrossEntropyLoss,
    CrossEntropyLoss,
    DiceLoss,
    FocalLoss,
    LossComponent,
    LossSpec,
    TverskyLoss,
)
from tumorseg.schema.targets import IGNORE, Targets

CLASSES = Targets(label_values=(0, 1, 2), label_names=("background", "edema", "core"), ignore_value=None)
REGIONS = CLASSES.model_copy(
    update={"region_names": ("whole", "core"), "regions": ((1, 2), (2,)), "region_values": (1, 2)}
)
SPACES = {"2d": (5, 7), "3d": (3, 4, 5)}

CASES = {
    "dice": ((DiceLoss(),), CLASSES),
    "dice of the batch": ((DiceLoss(batch=True),), CLASSES),
    "dice with background": ((DiceLoss(include_background=True),), CLASSES),
    "dice of regions": ((DiceLoss(),), REGIONS),
    "dice of regions of the batch": ((DiceLoss(batch=True),), REGIONS),
    "dice without smoothing": ((DiceLoss(smooth=0.0),), CLASSES),
    "cross_entropy": ((CrossEntropyLoss(),), CLASSES),
    "binary_cross_entropy": ((BinaryCrossEntropyLoss(),), REGIONS),
    "tversky": ((TverskyLoss(),), CLASSES),
    "tversky of the batch with background": ((TverskyLoss(batch=True, include_background=True),), CLASSES),
    "tversky of regions": ((TverskyLoss(alpha=0.6, beta=0.2),), REGIONS),
    "focal tversky": ((TverskyLoss(gamma=0.75),), CLASSES),
    "focal tversky of regions of the batch": ((TverskyLoss(gamma=1.5, batch=True),), REGIONS),
    "focal tversky without smoothing": ((TverskyLoss(gamma=0.75, smooth=0.0),), CLASSES),
    "focal": ((FocalLoss(),), CLASSES),
    "focal with alpha": ((FocalLoss(gamma=0.5, alpha=0.7),), CLASSES),
    "focal of regions": ((FocalLoss(),), REGIONS),
    "focal of regions with alpha": ((FocalLoss(gamma=1.0, alpha=0.25),), REGIONS),
    "tversky + cross_entropy": ((TverskyLoss(gamma=0.75), CrossEntropyLoss()), CLASSES),
    "dice + focal of regions": ((DiceLoss(), FocalLoss()), REGIONS),
    "dice + cross_entropy": ((DiceLoss(weight=0.5), CrossEntropyLoss(weight=2)), CLASSES),
    "dice + binary_cross_entropy": ((DiceLoss(), BinaryCrossEntropyLoss()), REGIONS),
}


@pytest.fixture(params=CASES)
def case(request):
    components, targets = CASES[request.param]
    return build_loss(LossSpec(preset="test", components=components), targets), targets


@pytest.fixture(params=SPACES)
def space(request):
    return SPACES[request.param]


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def target_of(space, batch=2, seed=0):
    return torch.randint(0, 3, (batch, *space), generator=generator(seed))


def logits_of(targets, space, batch=2, dtype=torch.float32):
    return torch.randn(batch, targets.num_outputs, *space, generator=generator(9), dtype=dtype)


def perfect_logits(targets, target, size=50.0):
    members = targets.regions or tuple((index,) for index in range(targets.num_classes))
    masks = [torch.isin(target, torch.tensor(classes)) for classes in members]
    return (torch.stack(masks, dim=1).float() * 2 - 1) * size


class TestEveryLoss:
    def test_a_perfect_prediction_is_near_0(self, case, space):
        loss, targets = case
        target = target_of(space)
        value = loss(perfect_logits(targets, target), target)
        assert value.total.shape == ()
        assert abs(value.total.item()) < 1e-5

    def test_the_inverse_prediction_is_far_worse(self, case, space):
        loss, targets = case
        target = target_of(space)
        assert loss(-perfect_logits(targets, target), target).total > 0.4

    def test_falls_as_the_prediction_moves_to_the_reference(self, case, space):
        loss, targets = case
        target = target_of(space)
        start, end = logits_of(targets, space), perfect_logits(targets, target, 8.0)
        values = [loss(start + (end - start) * step, target).total.item() for step in torch.linspace(0, 1, 6)]
        assert all(after < before for before, after in pairwise(values))

    def test_gradients_equal_finite_differences(self, case, space):
        loss, targets = case
        target = target_of(space)
        target[0, 0, :2] = IGNORE
        logits = logits_of(targets, space, dtype=torch.float64).requires_grad_()
        assert torch.autograd.gradcheck(lambda x: loss(x, target).total, logits, fast_mode=True)

    @pytest.mark.parametrize("size", [50.0, -50.0])
    def test_extreme_logits_stay_finite(self, case, space, size):
        loss, targets = case
        logits = (logits_of(targets, space).sign() * size).requires_grad_()
        value = loss(logits, target_of(space))
        value.total.backward()
        assert value.total.isfinite()
        assert logits.grad.isfinite().all()

    @pytest.mark.parametrize("index", [0, 2], ids=["empty", "full"])
    def test_empty_and_full_foreground_stay_finite(self, case, space, index):
        loss, targets = case
        logits = logits_of(targets, space).requires_grad_()
        value = loss(logits, torch.full((2, *space), index))
        value.total.backward()
        assert value.total.isfinite()
        assert logits.grad.isfinite().all()

    def test_the_order_of_the_batch_does_not_matter(self, case, space):
        loss, targets = case
        logits, target = logits_of(targets, space, batch=3), target_of(space, batch=3)
        order = torch.tensor([2, 0, 1])
        torch.testing.assert_close(loss(logits[order], target[order]).total, loss(logits, target).total)

    def test_ignored_voxels_have_exactly_zero_gradient_and_others_do_not(self, case, space):
        loss, targets = case
        target = target_of(space)
        target[:, 0] = IGNORE
        logits = logits_of(targets, space).requires_grad_()
        loss(logits, target).total.backward()
        assert (logits.grad[:, :, 0] == 0).all()
        assert (logits.grad[:, :, 1:].abs().amax(1) > 0).all()

    def test_ignored_voxels_do_not_count(self, case, space):
        loss, targets = case
        logits, target = logits_of(targets, space), target_of(space)
        target[:, -1] = IGNORE
        cut = loss(logits[:, :, :-1], target[:, :-1]).total
        torch.testing.assert_close(loss(logits, target).total, cut)

    def test_no_supervised_voxel_gives_0_and_zero_gradient(self, case, space):
        loss, targets = case
        logits = logits_of(targets, space).requires_grad_()
        value = loss(logits, torch.full((2, *space), IGNORE))
        value.total.backward()
        assert value.total == 0
        assert (logits.grad == 0).all()

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
    def test_half_precision_logits_are_summed_in_float32(self, case, space, dtype):
        loss, targets = case
        logits, target = logits_of(targets, space).to(dtype), target_of(space)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            value = loss(logits, target)
        assert value.total.dtype == torch.float32
        torch.testing.assert_close(value.total, loss(logits.float(), target).total)

    def test_labels_of_any_integer_type_give_the_same(self, case, space):
        loss, targets = case
        logits, target = logits_of(targets, space), target_of(space)
        expected = loss(logits, target).total
        for dtype in (torch.uint8, torch.int8, torch.int16, torch.int32):
            assert loss(logits, target.to(dtype)).total == expected

    def test_components_are_detached_and_add_up(self, case, space):
        loss, targets = case
        value = loss(logits_of(targets, space).requires_grad_(), target_of(space))
        assert not any(component.requires_grad for component in value.components.values())
        added = sum(term.weight * value.components[term.name] for term in loss.terms)
        torch.testing.assert_close(value.total.detach(), added)

    def test_shapes_that_do_not_fit_are_both_named(self, case, space):
        loss, targets = case
        logits, target = logits_of(targets, space), target_of(space)
        for wrong in (logits[:, :, 1:], logits[:1], logits[:, :1], logits[..., None]):
            with pytest.raises(InputError) as raised:
                loss(wrong, target)
            assert str(tuple(wrong.shape)) in str(raised.value)
            assert str(tuple(target.shape)) in str(raised.value)

    @pytest.mark.parametrize("index", [3, -2])
    def test_an_index_that_is_no_class_is_named(self, case, space, index):
        loss, targets = case
        target = target_of(space)
        target[0, 0, 0] = index
        with pytest.raises(InputError, match=f"{index}.*expected 0 to 2, or -1"):
            loss(logits_of(targets, space), target)

    def test_a_target_of_floats_is_refused(self, case, space):
        loss, targets = case
        with pytest.raises(InputError, match=r"torch\.float32.*integer"):
            loss(logits_of(targets, space), target_of(space).float())


def test_registry_and_schema_name_the_same_losses():
    records = [get_args(member)[0] for member in get_args(get_args(LossComponent)[0])]
    assert {r.model_fields["name"].default for r in records if not issubclass(r, External)} == set(BUILDERS)
    assert {component.name for components, _ in CASES.values() for component in components} == set(BUILDERS)
