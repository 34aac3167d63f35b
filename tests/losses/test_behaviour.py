"""What losses do to a prediction, on small fits with a known answer."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from tests.losses.built import BINARY_REGION, loss_of
from tumorseg.ops.distances import border_distances
from tumorseg.ops.metrics.surfaces import surface_dice
from tumorseg.schema.losses import BinaryCrossEntropyLoss, BoundaryLoss, DiceLoss, HausdorffLoss, TverskyLoss

SIZE = 24


def phantom():
    """Return an image (1, 1, Z, Y, X) of a lobed target in noise, with spots elsewhere, and the target."""
    rng = np.random.default_rng(0)
    grid = np.indices((SIZE,) * 3) - SIZE / 2 + 0.5
    angle = np.arctan2(grid[1], grid[2])
    target = np.sqrt((grid**2).sum(0)) < 7 + 1.5 * np.cos(3 * angle)
    spots = ndimage.gaussian_filter(rng.normal(size=target.shape), 1.2)
    image = ndimage.gaussian_filter(target.astype(float), 1.0) + 6 * (spots > np.quantile(spots, 0.97)) * 0.1
    image += rng.normal(size=target.shape) * 0.35
    return torch.from_numpy(image).float()[None, None], torch.from_numpy(target).long()[None]


def features(image):
    """Return (1, C, Z, Y, X): the image at several scales, and 1."""
    scales = [torch.from_numpy(ndimage.gaussian_filter(image[0, 0].numpy(), sigma)) for sigma in (0.0, 0.7, 1.5, 3.0)]
    return torch.stack([*scales, torch.ones_like(scales[0])])[None].float()


def fitted(*components, steps=300):
    """Return the mask of a linear model of the features that minimises a loss, and the target."""
    image, target = phantom()
    given, weights = features(image), torch.zeros(5, requires_grad=True)
    loss, optimizer = loss_of(*components, targets=BINARY_REGION), torch.optim.Adam([weights], lr=0.2)
    for step in range(steps):
        loss.progress = step / steps
        optimizer.zero_grad()
        logits = torch.einsum("c,bczyx->bzyx", weights, given)[:, None]
        loss(logits, target).total.backward()
        optimizer.step()
    return (logits.detach()[0, 0] > 0).numpy(), target[0].numpy() > 0


def recall(found, target):
    return (found & target).sum() / target.sum()


def precision(found, target):
    return (found & target).sum() / found.sum()


def dsc(found, target):
    return 2 * (found & target).sum() / (found.sum() + target.sum())


@pytest.mark.slow
def test_recall_rises_and_precision_falls_with_beta():
    found = [fitted(TverskyLoss(alpha=1 - beta, beta=beta)) for beta in (0.1, 0.3, 0.5, 0.7, 0.9)]
    recalls, precisions = ([measure(*pair) for pair in found] for measure in (recall, precision))
    assert recalls == sorted(recalls)
    assert precisions == sorted(precisions, reverse=True)
    assert recalls[-1] - recalls[0] > 0.1


def look_alikes():
    """Return a target, its sure part, and a rim of it together with a far spot of as many voxels that look the same."""
    grid = np.indices((SIZE,) * 3) - 8
    radius = np.sqrt((grid**2).sum(0))
    target = radius < 6
    rim = target & (radius >= 5) & (grid[0] > 2)
    spot = np.zeros_like(target)
    spot[18:23, 18:23, 14:20] = True
    spot.ravel()[np.flatnonzero(spot)[rim.sum() :]] = False
    assert spot.sum() == rim.sum()
    return target, target & ~rim, rim | spot


@pytest.mark.slow
@pytest.mark.parametrize("surface", [BoundaryLoss(weight=0.5), HausdorffLoss(weight=0.05)])
def test_surface_terms_prefer_errors_near_the_surface_at_equal_dsc(surface):
    """Dice takes the look-alikes in or leaves them out at nearly the same cost; surfaces are right only without them."""
    target, sure, doubtful = look_alikes()
    scores = []
    for extra in ((), (surface,)):
        loss = loss_of(DiceLoss(), BinaryCrossEntropyLoss(), *extra, targets=BINARY_REGION)
        evidence = torch.zeros((), requires_grad=True)
        optimizer = torch.optim.Adam([evidence], lr=0.1)
        base, where = (torch.from_numpy(part).float() for part in (sure * 12.0 - 6.0 + doubtful * 6.0, doubtful))
        for _ in range(100):
            optimizer.zero_grad()
            loss((base + where * evidence)[None, None], torch.from_numpy(target).long()[None]).total.backward()
            optimizer.step()
        found = ((base + where * evidence.detach()) > 0).numpy()
        distances = border_distances(found, target, spacing_mm=(1.0, 1.0, 1.0))
        scores.append((dsc(found, target), surface_dice(*distances, tolerance_mm=1.0)))
    (dsc_without, nsd_without), (dsc_with, nsd_with) = scores
    assert dsc_with == pytest.approx(dsc_without, abs=0.01)
    assert nsd_with > nsd_without + 0.05
