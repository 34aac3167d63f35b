"""Mistakes for the previous segmentation of a cascade, so that the network learns not to believe all of it.

Each transform decides first (which labels of which samples, on the CPU) and applies after, on the part of the patch that
holds the label.

References:
    nnU-Net's transforms of its cascade.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from tumorseg.augmentation.draws import Generators, draw_chance
from tumorseg.schema.augmentation import PreviousMorphology, PreviousRemoval


def morphology(previous: Tensor, *, transform: PreviousMorphology, generators: Generators) -> Tensor:
    """Erode, dilate, open or close the labels that were drawn; a label that grows replaces others.

    What lies beyond the patch is unknown, and changes nothing inside.

    Args:
        previous: (B, *space) class indices.
        transform: probabilities and radii.
        generators: one per sample.
    """
    changed = previous.clone()
    for sample, label in _drawn_labels(previous, transform, generators):
        operation = OPERATIONS[_draw_integer(0, len(OPERATIONS), generators[sample])]
        radius = _draw_integer(transform.least_radius, transform.largest_radius + 1, generators[sample])
        part = _part(changed[sample], label, margin=2 * radius)  # as far as a closing looks
        if part.numel():  # another label may have taken its place
            mask = part == label
            grown = operation(mask, radius)
            # The part is a view: writing to it changes the sample.
            part[mask & ~grown] = 0
            part[grown] = label
    return changed


def removal(previous: Tensor, *, transform: PreviousRemoval, generators: Generators) -> Tensor:
    """Remove a random component of the labels that were drawn, among those that are small against the patch.

    Args:
        previous: (B, *space) class indices.
        transform: probabilities, and what is small.
        generators: one per sample.
    """
    changed = previous.clone()
    for sample, label in _drawn_labels(previous, transform, generators):
        part = _part(changed[sample], label, margin=0)
        components, sizes = _components((part == label).cpu().numpy())
        small = np.flatnonzero(sizes < transform.largest_share * changed[sample].numel())
        if len(small):
            # Components are numbered from 1, sizes from 0.
            chosen = 1 + small[_draw_integer(0, len(small), generators[sample])]
            part[torch.from_numpy(components == chosen).to(part.device)] = 0
    return changed


def _drawn_labels(
    previous: Tensor, transform: PreviousMorphology | PreviousRemoval, generators: Generators
) -> list[tuple[int, int]]:
    """Return sample and label of what is to be changed."""
    drawn = []
    for sample in draw_chance(transform.probability, (), generators).nonzero().flatten().tolist():
        labels = [value for value in torch.unique(previous[sample]).tolist() if value > 0]
        chosen = draw_chance(transform.label_probability, (len(labels),), [generators[sample]])[0].tolist()
        for label, is_chosen in zip(labels, chosen, strict=True):
            if is_chosen:
                drawn.append((sample, label))
    return drawn


def _draw_integer(low: int, high: int, generator: torch.Generator) -> int:
    """Return an integer from low to high - 1."""
    return int(torch.randint(low, high, (), generator=generator))


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
