"""Distances and borders against scipy, MONAI and by hand."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from tests.losses.built import BINARY, BINARY_REGION, loss_of, value_of
from tumorseg.errors import InputError
from tumorseg.losses.distance_maps import distances_to, shifted_distances, signed_distances
from tumorseg.schema.losses import BoundaryLoss, CrossEntropyLoss, HausdorffLoss, NeighbourLoss, SurfaceDiceLoss
from tumorseg.schema.targets import IGNORE

SPACING = (3.0, 0.7, 1.1)
SPACE = (6, 9, 8)


@pytest.fixture
def logits():
    return torch.randn(2, 4, *SPACE, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.fixture
def target():
    """Return blobs, so that distances differ."""
    noise = torch.randn(2, *SPACE, generator=torch.Generator().manual_seed(1)).numpy()
    smooth = np.stack([ndimage.gaussian_filter(one, 1.2) for one in noise])
    return torch.from_numpy(np.digitize(smooth, np.quantile(smooth, [0.5, 0.7, 0.85]))).long()


def scipy_distance(mask, spacing, limit=np.inf):
    """Return the signed distance in float64: to the nearest voxel of the other kind, negative inside."""
    if mask.all() or not mask.any():
        return np.zeros(mask.shape)
    outside, inside = (ndimage.distance_transform_edt(kind, sampling=spacing) for kind in (~mask, mask))
    return np.minimum(outside, limit) - np.minimum(inside, limit)


def masks_of(target):
    return torch.stack([target == number for number in range(1, 4)], dim=1)


@pytest.mark.parametrize("limit", [None, 2.0])
@pytest.mark.parametrize("shape", [(5, 6, 7), (1, 9, 4), (12, 3), (1, 1, 1)])
def test_distances_on_both_kinds_of_device_are_scipys(shape, limit):
    spacing = (0.8, 2.5, 1.3)[: len(shape)]
    mask = torch.rand(4, *shape, generator=torch.Generator().manual_seed(2)) < 0.1
    mask[0] = False
    mask[1].view(-1)[0] = True
    found = distances_to(mask, spacing, limit)
    on_gpu = shifted_distances(mask, list(spacing), -1.0 if limit is None else limit)
    for one, shifted, chosen in zip(found, on_gpu, mask.numpy(), strict=True):
        if not chosen.any():
            assert (one == (limit or 0.0)).all()
            continue
        expected = torch.from_numpy(ndimage.distance_transform_edt(~chosen, sampling=spacing)).float()
        torch.testing.assert_close(one, expected.clamp(max=limit or np.inf))
        torch.testing.assert_close(shifted.clamp(max=limit or np.inf), expected.clamp(max=limit or np.inf))


def test_unknown_voxels_are_neither_inside_nor_outside():
    mask, known = torch.zeros(1, 1, 7, dtype=torch.bool), torch.ones(1, 1, 7, dtype=torch.bool)
    mask[..., 2:4], known[..., 4:6] = True, False
    found = signed_distances(mask, known, (5.0, 2.0), None)
    assert found[known].tolist() == [4.0, 2.0, -2.0, -4.0, 6.0]
    assert (signed_distances(mask, mask, (5.0, 2.0), None) == 0).all()


@pytest.mark.parametrize("limit", [None, 2.5])
def test_boundary_is_the_mean_of_errors_times_scipys_distance(logits, target, limit):
    p = logits.softmax(1)[:, 1:].numpy()
    masks = masks_of(target).numpy()
    fields = [[scipy_distance(mask, SPACING, limit or np.inf) for mask in sample] for sample in masks]
    found = value_of(BoundaryLoss(max_distance_mm=limit), logits, target, spacing=SPACING)
    assert found.item() == pytest.approx(((p - masks) * np.array(fields)).mean(), rel=1e-5)


def test_boundary_of_coarser_outputs_takes_the_distances_at_their_centres(logits, target):
    coarse = logits[:, :, ::2, ::3]
    loss = loss_of(BoundaryLoss(), spacing=SPACING, deep_supervision_weights=(1.0, 1.0))
    fine = value_of(BoundaryLoss(), logits, target, spacing=SPACING)
    fields = torch.from_numpy(
        np.array([[scipy_distance(mask, SPACING, 20.0) for mask in sample] for sample in masks_of(target).numpy()])
    )
    errors = coarse.softmax(1)[:, 1:] - masks_of(target)[:, :, 1::2, 1::3].double()
    expected = (errors * fields[:, :, 1::2, 1::3]).mean()
    torch.testing.assert_close(
        loss([logits, coarse], target).total.double(), (fine + expected) / 2, rtol=1e-5, atol=1e-6
    )


def test_a_target_that_a_patch_does_not_show_adds_nothing(logits):
    target = torch.ones(2, *SPACE, dtype=torch.int64)
    assert value_of(BoundaryLoss(), logits, target, spacing=SPACING) == 0


@pytest.mark.parametrize("alpha", [1.0, 2.0])
def test_hausdorff_of_unit_voxels_equals_monai(monai_losses, logits, target, alpha):
    oracle = monai_losses.HausdorffDTLoss(alpha=alpha, include_background=False, to_onehot_y=True, softmax=True)
    expected = oracle(logits * 3, target[:, None])
    found = value_of(HausdorffLoss(alpha=alpha, max_distance_mm=None), logits * 3, target)
    torch.testing.assert_close(found.double(), expected.double(), rtol=1e-5, atol=1e-5)


def test_gradients_of_hausdorff_equal_monai(monai_losses, logits, target):
    oracle = monai_losses.HausdorffDTLoss(include_background=False, to_onehot_y=True, softmax=True)
    ours, theirs = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    loss_of(HausdorffLoss(max_distance_mm=None))(ours, target).total.backward()
    oracle(theirs, target[:, None]).backward()
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("distance", ["l1", "l2"])
def test_nacl_with_cross_entropy_equals_monai(monai_losses, logits, target, distance):
    oracle = monai_losses.NACLLoss(classes=4, dim=3, distance_type=distance, alpha=0.1)
    oracle = oracle.double()
    found = loss_of(CrossEntropyLoss(), NeighbourLoss(distance=distance))(logits, target).total
    torch.testing.assert_close(found.double(), oracle(logits, target), rtol=1e-5, atol=1e-5)


def cube(low, high, size=16):
    mask = torch.zeros(1, size, size, size, dtype=torch.int64)
    mask[:, low:high, low:high, low:high] = 1
    return mask


def sure(mask, targets=BINARY_REGION):
    return (torch.stack([mask == number for number in range(1, 2)], dim=1).float() * 2 - 1) * 60


@pytest.mark.parametrize(("tolerance_mm", "expected"), [(0.0, 1.0), (0.4, 1.0), (1.0, 0.0), (3.0, 0.0)])
def test_surface_dice_forgives_what_lies_within_the_tolerance(tolerance_mm, expected):
    shifted = cube(4, 12)
    found = value_of(SurfaceDiceLoss(tolerance_mm=tolerance_mm), sure(cube(3, 13)), shifted, BINARY_REGION)
    assert found.item() == pytest.approx(expected, abs=1e-4)


def test_surface_dice_measures_its_tolerance_in_mm():
    spacing = (1.0, 1.0, 4.0)
    moved, target = cube(4, 12), cube(4, 12).roll(1, dims=3)
    within = value_of(SurfaceDiceLoss(tolerance_mm=4.0), sure(moved), target, BINARY_REGION, spacing)
    beyond = value_of(SurfaceDiceLoss(tolerance_mm=1.0), sure(moved), target, BINARY_REGION, spacing)
    assert within.item() < 1e-4 < 0.2 < beyond.item()


@pytest.mark.parametrize("component", [BoundaryLoss(), HausdorffLoss(), SurfaceDiceLoss()])
def test_ignored_voxels_have_no_border(component, target):
    logits = torch.randn(2, 2, *SPACE, generator=torch.Generator().manual_seed(4))
    target = (target > 1).long()
    target[:, :2] = IGNORE
    cut = value_of(component, logits[:, :, 2:], target[:, 2:], BINARY, SPACING)
    torch.testing.assert_close(value_of(component, logits, target, BINARY, SPACING), cut)


def test_distances_of_another_shape_are_refused(logits, target):
    loss = loss_of(BoundaryLoss(), spacing=SPACING)
    with pytest.raises(InputError, match=r"distances have shape .*, output 0 .*; expected the same"):
        loss(logits, target, torch.zeros(3, 4, *SPACE))
    with pytest.raises(InputError, match="built for 2 axes"):
        loss_of(BoundaryLoss(), spacing=(1.0, 1.0))(logits, target)
