"""Mistakes for the previous segmentation of a cascade, so that the network learns not to believe all of it.

Whether a sample is corrupted is drawn first, which of its labels once they are seen; all happens in the part of the patch that holds
the label.

References:
    nnU-Net's transforms of its cascade.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from tumorseg.augmentation.dice import Dice
from tumorseg.augmentation.samples import Sample
from tumorseg.schema.transforms.base import CountRange, PatchFacts
from tumorseg.schema.transforms.cascade import PreviousMorphology, PreviousRemoval


class CorruptionDraw(NamedTuple):
    """Mistakes of a previous segmentation; the rest is drawn once its labels are seen."""

    transform: PreviousMorphology | PreviousRemoval
    seed: int


def draw_corruption(
    transform: PreviousMorphology | PreviousRemoval, facts: PatchFacts, dice: Dice
) -> CorruptionDraw | None:
    """Decide whether a sample's previous segmentation is corrupted."""
    return CorruptionDraw(transform, dice.seed()) if dice.chance(transform.probability) else None


def apply_morphology(sample: Sample, draw: CorruptionDraw, facts: PatchFacts) -> Sample:
    """Erode, dilate, open or close the labels that are drawn; a label that grows replaces others.

    What lies beyond the patch is unknown, and changes nothing inside.
    """
    transform, dice, previous = draw.transform, Dice(draw.seed), sample.segmentation[1]
    assert isinstance(transform, PreviousMorphology)
    for label in _drawn_labels(previous, transform.label_probability, dice):
        operation = dice.choice(OPERATIONS)
        radius = dice.integer(CountRange(low=transform.least_radius, high=transform.largest_radius))
        part = _part(previous, label, margin=2 * radius)  # as far as a closing looks
        if part.numel():  # another label may have taken its place
            mask = part == label
            grown = operation(mask, radius)
            # The part is a view: writing to it changes the sample.
            part[mask & ~grown] = 0
            part[grown] = label
    return sample


def apply_removal(sample: Sample, draw: CorruptionDraw, facts: PatchFacts) -> Sample:
    """Remove a random component of the labels that are drawn, among those that are small against the patch."""
    transform, dice, previous = draw.transform, Dice(draw.seed), sample.segmentation[1]
    assert isinstance(transform, PreviousRemoval)
    for label in _drawn_labels(previous, transform.label_probability, dice):
        part = _part(previous, label, margin=0)
        components, sizes = _components((part == label).cpu().numpy())
        small = np.flatnonzero(sizes < transform.largest_share * previous.numel()).tolist()
        if small:
            # Components are numbered from 1, sizes from 0.
            chosen = 1 + dice.choice(small)
            part[torch.from_numpy(components == chosen).to(part.device)] = 0
    return sample


def _drawn_labels(previous: Tensor, probability: float, dice: Dice) -> list[int]:
    """Return the labels that are to be changed."""
    labels = [value for value in torch.unique(previous).tolist() if value > 0]
    return [label for label in labels if dice.chance(probability)]


def _part(segmentation: Tensor, label: int, *, margin: int) -> Tensor:
    """Return a view of the box that holds a label, with a margin inside the patch; nothing of it if the label is gone."""
    mask = segmentation == label
    part = segmentation
    for axis, size in enumerate(segmentation.shape):
        others = [other for other in range(mask.ndim) if other != axis]
        found = mask.sum(others).nonzero().flatten()
        first, last = (int(found[0]), int(found[-1]) + 1) if len(found) else (0, 0)
        start = max(first - margin, 0)
        part = part.narrow(axis, start, max(min(last + margin, size) - start, 0))
    return part


def _dilate(mask: Tensor, radius: int) -> Tensor:
    """Return the voxels within a distance of True ones, exactly: squared distances are found axis by axis."""
    # Above the radius squared whatever is added; all sums are whole numbers, which float32 holds exactly.
    far = float((radius + 1) ** 2 * mask.ndim)
    squared = torch.where(mask, 0.0, far)
    for axis in range(mask.ndim):
        size = mask.shape[axis]
        # `pad` counts axes from the last: none after this one are widened, then this one before and behind.
        widths = [0, 0] * (mask.ndim - 1 - axis) + [radius, radius]
        padded = F.pad(squared, widths, value=far)
        for step in range(-radius, radius + 1):
            squared = torch.minimum(squared, padded.narrow(axis, radius + step, size) + float(step * step))
    return squared <= radius * radius


def _erode(mask: Tensor, radius: int) -> Tensor:
    # Negated, what lies beyond the patch counts as the label, as in a dilation it counts as none: neither reaches in.
    return ~_dilate(~mask, radius)


OPERATIONS: tuple[Callable[[Tensor, int], Tensor], ...] = (
    _dilate,
    _erode,
    lambda mask, radius: _dilate(_erode(mask, radius), radius),
    lambda mask, radius: _erode(_dilate(mask, radius), radius),
)
"""Dilation, erosion, opening, closing."""


def _components(mask: Any) -> tuple[Any, Any]:
    """Return the components of a mask, numbered from 1, touching corners included, and their sizes in voxels."""
    from scipy import ndimage

    components, count = ndimage.label(mask, np.ones((3,) * mask.ndim))
    # The first count is the background's.
    return components, np.bincount(components.ravel(), minlength=count + 1)[1:]
