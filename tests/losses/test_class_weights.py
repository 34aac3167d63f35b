"""Cross-entropy with class weights and smoothed labels, against torch."""

import pytest
import torch
from torch.nn import functional as F

from tests.losses.built import CLASSES, REGIONS, loss_of, value_of
from tumorseg.errors import PlanError
from tumorseg.losses.cross_entropy import weights_of
from tumorseg.schema.class_weights import EffectiveNumberWeights, GivenWeights, InverseFrequencyWeights
from tumorseg.schema.losses import BinaryCrossEntropyLoss, CrossEntropyLoss
from tumorseg.schema.targets import IGNORE

WEIGHTS = (0.2, 1.0, 3.0, 0.0)


@pytest.fixture
def logits():
    return torch.randn(2, 4, 4, 6, 5, generator=torch.Generator().manual_seed(0)) * 2


@pytest.fixture
def target():
    target = torch.randint(0, 4, (2, 4, 6, 5), generator=torch.Generator().manual_seed(1))
    target[0, 0] = IGNORE
    return target


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("values", [None, WEIGHTS])
def test_cross_entropy_is_torchs(logits, target, smoothing, values):
    weights = None if values is None else GivenWeights(values=values)
    expected = F.cross_entropy(
        logits,
        target,
        None if values is None else torch.tensor(values),
        ignore_index=IGNORE,
        label_smoothing=smoothing,
    )
    found = value_of(CrossEntropyLoss(class_weights=weights, label_smoothing=smoothing), logits, target)
    torch.testing.assert_close(found, expected)


def test_gradients_of_weighted_and_smoothed_cross_entropy_are_torchs(logits, target):
    ours, theirs = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    loss_of(CrossEntropyLoss(class_weights=GivenWeights(values=WEIGHTS), label_smoothing=0.1))(
        ours, target
    ).total.backward()
    F.cross_entropy(theirs, target, torch.tensor(WEIGHTS), ignore_index=IGNORE, label_smoothing=0.1).backward()
    torch.testing.assert_close(ours.grad, theirs.grad)


def test_smoothed_regions_move_towards_one_half(logits, target):
    outputs, smoothing = logits[:, :3], 0.2
    masks = torch.stack([target >= 1, target >= 2, target >= 3], dim=1).float()
    soft = masks * (1 - smoothing) + smoothing / 2
    known = (target != IGNORE)[:, None].expand_as(soft)
    expected = F.binary_cross_entropy_with_logits(outputs[known], soft[known])
    found = value_of(BinaryCrossEntropyLoss(label_smoothing=smoothing), outputs, target, REGIONS)
    torch.testing.assert_close(found, expected)


def test_regions_are_weighted(logits, target):
    outputs, values = logits[:, :3], (1.0, 0.0, 3.0)
    single = BinaryCrossEntropyLoss(class_weights=GivenWeights(values=values))
    masks = torch.stack([target >= 1, target >= 2, target >= 3], dim=1).float()
    entropies = F.binary_cross_entropy_with_logits(outputs, masks, reduction="none")
    known = (target != IGNORE)[:, None]
    means = (entropies * known).sum((0, 2, 3, 4)) / known.sum()
    expected = (means * torch.tensor(values)).sum() / sum(values)
    torch.testing.assert_close(value_of(single, outputs, target, REGIONS), expected)


def test_weights_by_frequency_are_1_on_average_over_voxels():
    voxels = torch.tensor([900.0, 90.0, 10.0, 0.0])
    inverse = weights_of(InverseFrequencyWeights(), voxels)
    torch.testing.assert_close(inverse[:3] * voxels[:3], torch.full((3,), 1000 / 3))
    assert inverse[3] == inverse[2]  # what has no voxel weighs as much as the rarest
    for spec in (InverseFrequencyWeights(power=0.5), EffectiveNumberWeights(beta=0.999)):
        weights = weights_of(spec, voxels)
        assert (weights * voxels).sum() == pytest.approx(1000, rel=1e-5)
        assert weights[0] < weights[1] < weights[2]
        assert weights[2] / weights[0] < inverse[2] / inverse[0]


def test_effective_numbers_are_those_of_the_paper():
    voxels = torch.tensor([5000.0, 100.0], dtype=torch.float64)
    weights = weights_of(EffectiveNumberWeights(beta=0.99), voxels)
    expected = (1 - 0.99) / (1 - 0.99**voxels)
    torch.testing.assert_close(weights[1] / weights[0], expected[1] / expected[0])
    alike = weights_of(EffectiveNumberWeights(beta=0.0), voxels)
    torch.testing.assert_close(alike, torch.ones(2, dtype=torch.float64))


def test_where_nothing_has_a_voxel_all_weigh_1():
    assert weights_of(InverseFrequencyWeights(), torch.zeros(3)).tolist() == [1.0, 1.0, 1.0]


def test_the_voxels_of_the_dataset_are_those_of_the_plan(logits, target):
    planned = CrossEntropyLoss(class_weights=InverseFrequencyWeights(voxels=(8.0, 4.0, 2.0, 2.0)))
    expected = F.cross_entropy(logits, target, torch.tensor((0.5, 1.0, 2.0, 2.0)), ignore_index=IGNORE)
    torch.testing.assert_close(value_of(planned, logits, target), expected)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (InverseFrequencyWeights(), "the plan does not hold them"),
        (GivenWeights(values=(1.0, 1.0)), r"2 entries for 4 outputs \(background, a, b, c\)"),
        (EffectiveNumberWeights(voxels=(1.0,)), "1 entries for 4 outputs"),
    ],
)
def test_weights_that_do_not_fit_are_refused(weights, message):
    with pytest.raises(PlanError, match=message):
        loss_of(CrossEntropyLoss(class_weights=weights), targets=CLASSES)


def test_a_beta_near_1_keeps_its_digits():
    voxels = torch.tensor([5e6, 1e3])
    found = weights_of(EffectiveNumberWeights(beta=0.99999999), voxels)
    exact = (1 - 0.99999999) / (1 - 0.99999999 ** voxels.double())
    torch.testing.assert_close(found[1] / found[0], (exact[1] / exact[0]).float(), rtol=1e-4, atol=0)
