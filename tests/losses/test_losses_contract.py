"""What every loss of the registry promises, alone and summed."""

from collections.abc import Mapping
from itertools import pairwise
from types import MappingProxyType
from typing import Any, NamedTuple

import pytest
import torch
from torch import nn

from tumorseg.engine.accumulation import backward_in_parts
from tumorseg.errors import InputError
from tumorseg.losses.presets import LOSS_PRESETS, loss_preset
from tumorseg.losses.registry import BUILDERS, build_loss
from tumorseg.schema.class_weights import EffectiveNumberWeights, GivenWeights, InverseFrequencyWeights
from tumorseg.schema.losses import (
    COMPONENTS,
    BinaryCrossEntropyLoss,
    BoundaryLoss,
    CrossEntropyLoss,
    DiceLoss,
    FocalLoss,
    GeneralizedDiceLoss,
    HardExampleLoss,
    HausdorffLoss,
    JaccardLoss,
    LossSpec,
    NeighbourLoss,
    SurfaceDiceLoss,
    TopKLoss,
    TverskyLoss,
    UnifiedFocalLoss,
)
from tumorseg.schema.numbers import LinearSchedule
from tumorseg.schema.targets import IGNORE, Targets

CLASSES = Targets(label_values=(0, 1, 2), label_names=("background", "edema", "core"), ignore_value=None)
REGIONS = CLASSES.model_copy(
    update={"region_names": ("whole", "core"), "regions": ((1, 2), (2,)), "region_values": (1, 2)}
)
SPACES = {"2d": (5, 7), "3d": (3, 4, 5)}
SMOOTHED = "smoothed labels keep the prediction from being sure"


class Case(NamedTuple):
    """Components and what they are about; what they do not promise, and why."""

    components: tuple[Any, ...]
    targets: Targets = CLASSES
    exempt: Mapping[str, str] = MappingProxyType({})
    """Property to the reason for which it does not hold."""


SMOOTH = MappingProxyType(dict.fromkeys(("a perfect prediction gives 0", "falls towards the reference"), SMOOTHED))
SELECTS = MappingProxyType({"every voxel is pulled": "easy voxels are left out on purpose"})
BORDERS = MappingProxyType(
    {
        "every voxel is pulled": "inside and outside of borders nothing is at stake",
        "the inverse is far worse": "on noise every voxel is a border of both",
    }
)
IN_MM = MappingProxyType({"the inverse is far worse": "measured in mm, not as a share"})
NEIGHBOURS = MappingProxyType(
    {
        "a perfect prediction gives 0": "least where logits are shares of neighbours, which keeps them from being sure",
        "falls towards the reference": "least where logits are shares of neighbours, which keeps them from being sure",
        "the inverse is far worse": "logits of the same size are as far away",
    }
)
LINEAR = {"start": 0.0, "end": 1.0}

CASES = {
    "dice": Case((DiceLoss(),)),
    "dice of the batch": Case((DiceLoss(batch=True),)),
    "dice with background": Case((DiceLoss(include_background=True),)),
    "dice of regions": Case((DiceLoss(),), REGIONS),
    "dice of regions of the batch": Case((DiceLoss(batch=True),), REGIONS),
    "dice without smoothing": Case((DiceLoss(smooth=0.0),)),
    "squared dice": Case((DiceLoss(denominator="squared"),)),
    "squared dice of regions": Case((DiceLoss(denominator="squared", batch=True),), REGIONS),
    "generalized dice": Case((GeneralizedDiceLoss(),)),
    "generalized dice of the batch": Case((GeneralizedDiceLoss(batch=True, class_weighting="simple"),)),
    "generalized dice of regions": Case((GeneralizedDiceLoss(class_weighting="uniform"),), REGIONS),
    "jaccard": Case((JaccardLoss(),)),
    "squared jaccard of regions": Case((JaccardLoss(denominator="squared"),), REGIONS),
    "tversky": Case((TverskyLoss(),)),
    "tversky of the batch with background": Case((TverskyLoss(batch=True, include_background=True),)),
    "tversky of regions": Case((TverskyLoss(alpha=0.6, beta=0.2),), REGIONS),
    "focal tversky": Case((TverskyLoss(gamma=0.75),)),
    "focal tversky of regions of the batch": Case((TverskyLoss(gamma=1.5, batch=True),), REGIONS),
    "focal tversky without smoothing": Case((TverskyLoss(gamma=0.75, smooth=0.0),)),
    "unified focal": Case((UnifiedFocalLoss(),)),
    "unified focal of regions": Case((UnifiedFocalLoss(balance=0.3, gamma=0.2),), REGIONS),
    "cross_entropy": Case((CrossEntropyLoss(),)),
    "cross_entropy with given weights": Case((CrossEntropyLoss(class_weights=GivenWeights(values=(0.2, 1.0, 3.0))),)),
    "cross_entropy by frequency": Case((CrossEntropyLoss(class_weights=InverseFrequencyWeights(of="batch")),)),
    "cross_entropy by effective number": Case(
        (CrossEntropyLoss(class_weights=EffectiveNumberWeights(voxels=(900.0, 90.0, 10.0), beta=0.99)),)
    ),
    "smoothed cross_entropy": Case((CrossEntropyLoss(label_smoothing=0.1),), exempt=SMOOTH),
    "binary_cross_entropy": Case((BinaryCrossEntropyLoss(),), REGIONS),
    "binary_cross_entropy by frequency": Case(
        (BinaryCrossEntropyLoss(class_weights=InverseFrequencyWeights(of="batch", power=0.5)),), REGIONS
    ),
    "smoothed binary_cross_entropy": Case((BinaryCrossEntropyLoss(label_smoothing=0.1),), REGIONS, SMOOTH),
    "focal": Case((FocalLoss(),)),
    "focal with alpha": Case((FocalLoss(gamma=0.5, alpha=0.7),)),
    "focal with an alpha of each class": Case((FocalLoss(alpha=(0.2, 0.5, 2.0)),)),
    "focal of regions": Case((FocalLoss(),), REGIONS),
    "focal of regions with alpha": Case((FocalLoss(gamma=1.0, alpha=0.25),), REGIONS),
    "focal of regions with an alpha of each": Case((FocalLoss(alpha=(0.2, 2.0)),), REGIONS),
    "topk": Case((TopKLoss(k=0.3),), exempt=SELECTS),
    "topk of regions": Case((TopKLoss(k=0.3),), REGIONS, SELECTS),
    "topk of all": Case((TopKLoss(k=1.0),)),
    "ohem": Case((HardExampleLoss(k=0.3),), exempt=SELECTS),
    "ohem of regions": Case((HardExampleLoss(k=0.3),), REGIONS, SELECTS),
    "nacl": Case((NeighbourLoss(weight=1.0),), exempt=NEIGHBOURS),
    "squared nacl": Case((NeighbourLoss(distance="l2", kernel_size=5),), exempt=NEIGHBOURS),
    "boundary": Case((BoundaryLoss(),), exempt=IN_MM),
    "boundary without limit": Case((BoundaryLoss(max_distance_mm=None),), exempt=IN_MM),
    "boundary of regions": Case((BoundaryLoss(max_distance_mm=3.0),), REGIONS, IN_MM),
    "hausdorff": Case((HausdorffLoss(),), exempt=IN_MM),
    "hausdorff of regions": Case((HausdorffLoss(alpha=1.0, max_distance_mm=None),), REGIONS, IN_MM),
    "surface_dice": Case((SurfaceDiceLoss(tolerance_mm=0.4),), exempt=BORDERS),
    "surface_dice without smoothing": Case((SurfaceDiceLoss(tolerance_mm=0.4, smooth=0.0),), exempt=BORDERS),
    "surface_dice of regions": Case((SurfaceDiceLoss(tolerance_mm=0.4),), REGIONS, BORDERS),
    "tversky + cross_entropy": Case((TverskyLoss(gamma=0.75), CrossEntropyLoss())),
    "dice + focal of regions": Case((DiceLoss(), FocalLoss()), REGIONS),
    "dice + cross_entropy": Case((DiceLoss(weight=0.5), CrossEntropyLoss(weight=2))),
    "dice + binary_cross_entropy": Case((DiceLoss(), BinaryCrossEntropyLoss()), REGIONS),
    "all that share a pass": Case(
        (
            DiceLoss(denominator="squared"),
            JaccardLoss(),
            CrossEntropyLoss(label_smoothing=0.1),
            FocalLoss(),
            BoundaryLoss(weight=LinearSchedule(**LINEAR)),
        ),
        exempt=IN_MM | SMOOTH,
    ),
}
CASES |= {
    f"preset {name}{' of regions' if targets.has_regions else ''}": Case(
        loss_preset(name, has_regions=targets.has_regions, batch_dice=True, deep_supervision_weights=(1.0,)).components,
        targets,
        IN_MM if "boundary" in name else {},
    )
    for name in LOSS_PRESETS
    for targets in (CLASSES, REGIONS)
}


def properties_of(case, name):
    """Skip a property that a loss does not promise, with its reason."""
    if name in case.exempt:
        pytest.skip(case.exempt[name])


def places():
    """Return names of cases with names of spaces: each in volumes, and the first of each loss in planes too."""
    known, in_planes = set(), []
    for name, case in CASES.items():
        kinds = {component.name for component in case.components}
        if not kinds <= known:
            in_planes.append((name, "2d"))
        known |= kinds
    return [(name, "3d") for name in CASES] + in_planes


@pytest.fixture(params=places(), ids=lambda place: "-".join(place))
def place(request):
    return request.param


@pytest.fixture
def properties(place):
    return CASES[place[0]]


@pytest.fixture
def space(place):
    return SPACES[place[1]]


@pytest.fixture
def case(properties, space):
    spec = LossSpec(preset="test", components=properties.components)
    loss = build_loss(spec, properties.targets, (1.5, 0.8, 0.7)[: len(space)])
    loss.progress = 0.5
    return loss, properties.targets


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def target_of(space, batch=2, seed=0):
    return torch.randint(0, 3, (batch, *space), generator=generator(seed))


def logits_of(targets, space, batch=2, dtype=torch.float32, seed=9):
    return torch.randn(batch, targets.num_outputs, *space, generator=generator(seed), dtype=dtype)


def perfect_logits(targets, target, size=50.0):
    members = targets.regions or tuple((index,) for index in range(targets.num_classes))
    masks = [torch.isin(target, torch.tensor(classes)) for classes in members]
    return (torch.stack(masks, dim=1).float() * 2 - 1) * size


class TestEveryLoss:
    def test_a_perfect_prediction_is_near_its_least(self, case, space, properties):
        loss, targets = case
        target = target_of(space)
        perfect = loss(perfect_logits(targets, target, 8.0), target).total
        if properties.exempt is not NEIGHBOURS:
            for seed in range(3):
                assert perfect < loss(logits_of(targets, space, seed=seed), target).total
        properties_of(properties, "a perfect prediction gives 0")
        value = loss(perfect_logits(targets, target), target)
        assert value.total.shape == ()
        assert abs(value.total.item()) < 1e-5

    def test_the_inverse_prediction_is_far_worse(self, case, space, properties):
        properties_of(properties, "the inverse is far worse")
        loss, targets = case
        target = target_of(space)
        assert loss(-perfect_logits(targets, target), target).total > 0.4

    def test_falls_as_the_prediction_moves_to_the_reference(self, case, space, properties):
        properties_of(properties, "falls towards the reference")
        loss, targets = case
        target = target_of(space)
        start, end = logits_of(targets, space), perfect_logits(targets, target, 8.0)
        values = [loss(start + (end - start) * step, target).total.item() for step in torch.linspace(0, 1, 6)]
        assert all(after < before or before == 0 for before, after in pairwise(values))

    def test_gradients_equal_finite_differences(self, case, space):
        loss, targets = case
        target = target_of(space)
        target[0, 0, :2] = IGNORE
        logits = logits_of(targets, space, dtype=torch.float64).requires_grad_()
        assert torch.autograd.gradcheck(lambda x: loss(x, target).total, logits, fast_mode=True)

    def test_extreme_logits_stay_finite(self, case, space):
        loss, targets = case
        for size in (50.0, -50.0):
            logits = (logits_of(targets, space).sign() * size).requires_grad_()
            value = loss(logits, target_of(space))
            value.total.backward()
            assert value.total.isfinite()
            assert logits.grad.isfinite().all()

    def test_empty_and_full_foreground_stay_finite(self, case, space):
        loss, targets = case
        for index in (0, 2):
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

    def test_ignored_voxels_have_exactly_zero_gradient_and_others_do_not(self, case, space, properties):
        loss, targets = case
        target = target_of(space)
        target[:, 0] = IGNORE
        logits = logits_of(targets, space).requires_grad_()
        loss(logits, target).total.backward()
        assert (logits.grad[:, :, 0] == 0).all()
        properties_of(properties, "every voxel is pulled")
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

    def test_half_precision_logits_are_summed_in_float32(self, case, space):
        loss, targets = case
        target = target_of(space)
        for dtype in (torch.float16, torch.bfloat16):
            logits = logits_of(targets, space).to(dtype)
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

    def test_a_batch_in_uneven_parts_has_the_loss_and_gradient_of_the_whole(self, case, space):
        loss, targets = case
        target = target_of(space, batch=3)
        target[0, 1:], target[2, 1:] = IGNORE, 0
        images = torch.randn(3, 2, *space, generator=generator(), dtype=torch.float64)
        kind = nn.Conv2d if len(space) == 2 else nn.Conv3d
        network = kind(2, targets.num_outputs, 3, padding=1, dtype=torch.float64)

        def backward(logits):
            value = loss(logits, target)
            value.total.backward()
            return value

        expected, slope = backward(network(images)), network.weight.grad
        network.zero_grad()
        found = backward_in_parts(network, images.tensor_split(2), forward=network, backward=backward)
        torch.testing.assert_close((found.total, found.components), (expected.total, expected.components))
        torch.testing.assert_close(network.weight.grad, slope)

    def test_components_are_detached_and_add_up(self, case, space):
        loss, targets = case
        value = loss(logits_of(targets, space).requires_grad_(), target_of(space))
        assert not any(component.requires_grad for component in value.components.values())
        added = sum(weight * value.components[name] for name, weight in loss.weights().items())
        torch.testing.assert_close(value.total.detach(), added)

    def test_shapes_that_do_not_fit_are_both_named(self, case, space):
        loss, targets = case
        logits, target = logits_of(targets, space), target_of(space)
        for wrong in (logits[:, :, 1:], logits[:1], logits[:, :1], logits[..., None]):
            with pytest.raises(InputError) as raised:
                loss(wrong, target)
            assert str(tuple(wrong.shape)) in str(raised.value)
            assert str(tuple(target.shape)) in str(raised.value)

    def test_an_index_that_is_no_class_is_named(self, case, space):
        loss, targets = case
        logits = logits_of(targets, space)
        for index in (3, -2):
            target = target_of(space)
            target[0, 0, 0] = index
            with pytest.raises(InputError, match=f"{index}.*expected 0 to 2, or -1") as raised:
                loss(logits, target)
            assert str(tuple(logits.shape)) in str(raised.value)
            assert str(tuple(target.shape)) in str(raised.value)

    def test_wrong_types_are_refused_with_both_shapes(self, case, space):
        loss, targets = case
        logits, target = logits_of(targets, space), target_of(space)
        pairs = [(logits, target.to(kind)) for kind in (torch.float32, torch.bool, torch.complex64)]
        pairs += [(logits.to(kind), target) for kind in (torch.int64, torch.bool, torch.complex64)]
        for wrong in pairs:
            with pytest.raises(
                InputError, match=r"expected (integer class indices|logits of a floating type)"
            ) as raised:
                loss(*wrong)
            assert str(tuple(logits.shape)) in str(raised.value)
            assert str(tuple(target.shape)) in str(raised.value)

    def test_what_lies_in_ignored_voxels_has_no_influence_even_if_it_is_not_finite(self, case, space):
        loss, targets = case
        logits, target = logits_of(targets, space), target_of(space)
        target[:, 0] = IGNORE
        clean, spoiled = logits.clone().requires_grad_(), logits.clone()
        spoiled[:, :, 0] = torch.inf
        spoiled.requires_grad_()
        values = [loss(given, target).total for given in (clean, spoiled)]
        torch.testing.assert_close(*values)


def test_registry_and_schema_name_the_same_losses():
    assert set(COMPONENTS) == set(BUILDERS)
    assert {component.name for case in CASES.values() for component in case.components} == set(BUILDERS)
    assert all(record.facts.formula for record in COMPONENTS.values())
