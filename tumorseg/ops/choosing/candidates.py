"""Which steps of postprocessing are worth a trial for some labels."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from tumorseg.ops.choosing.protocol import IntArray
from tumorseg.ops.cropping import mask_box, whole_box
from tumorseg.schema.ensembles import FillHoles, KeepLargest, PostprocessingStep, RemoveSmall, ReplaceSmall
from tumorseg.types import Segmentation

LADDER_MM3 = (30.0, 100.0, 300.0, 1000.0, 3000.0)
"""Least volumes that are tried."""
BACKGROUND = "background"
_MOST_GROUPS = 12
"""With more labels or regions, each is offered its largest part alone: every step costs a pass over all cases."""


def candidate_steps(
    groups: Mapping[str, Sequence[str]], neighbours: Mapping[str, str], *, ladder_mm3: Sequence[float] = LADDER_MM3
) -> tuple[PostprocessingStep, ...]:
    """Return the steps that are tried: of all foreground, of each label or region, and of tiny structures.

    Args:
        groups: label or region that is scored, to the names of its labels.
        neighbours: label to the one that takes its place where it is tiny (`nested_neighbours`, `touching_neighbours`).
        ladder_mm3: volumes, rising.
    """
    labels = tuple(dict.fromkeys(label for found in groups.values() for label in found))
    unions = tuple(dict.fromkeys([labels, *(tuple(found) for found in groups.values())]))
    steps: list[PostprocessingStep] = [KeepLargest(labels=union) for union in unions]
    is_few = len(groups) <= _MOST_GROUPS
    for volume in ladder_mm3:
        steps += [RemoveSmall(labels=union, least_mm3=volume) for union in (unions if is_few else unions[:1])]
    if is_few:
        steps += [FillHoles(label=label) for label in labels]
        for label, by in neighbours.items():
            steps += [ReplaceSmall(label=label, by=by, least_mm3=volume) for volume in ladder_mm3]
    # Several regions may be one label each, or have the same labels.
    return tuple(dict.fromkeys(steps))


def nested_neighbours(groups: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """Return which label takes the place of another in regions that lie in each other: what the next larger one adds.

    ET within TC within WT: enhancing tumour becomes the core that does not enhance, as in BraTS, and this edema. A region that is no
    part of the next larger one begins a chain of its own; where one adds several labels, the first takes their place.

    Args:
        groups: region to the names of its labels.
    """
    found: dict[str, str] = {}
    for inner, outer in _chained(groups):
        added = [label for label in outer if label not in inner]
        for label in inner:
            if added:
                found.setdefault(label, added[0])
    return found


def _chained(groups: Mapping[str, Sequence[str]]) -> Iterator[tuple[Sequence[str], Sequence[str]]]:
    """Yield each region with the smallest one that holds it, small regions first."""
    ordered = sorted(groups.values(), key=len)
    for place, inner in enumerate(ordered):
        holders = [outer for outer in ordered[place + 1 :] if set(inner) < set(outer)]
        if holders:
            yield inner, holders[0]


def touching_neighbours(touched: IntArray, labels: Sequence[str]) -> dict[str, str]:
    """Return for each label the one that it touches most, where that is another label and not the background.

    Args:
        touched: (L + 1, L + 1), the sum of `contacts` over cases.
        labels: names of the L labels.
    """
    names = (BACKGROUND, *labels)
    found = {}
    for place, label in enumerate(labels, start=1):
        most = int(touched[place].argmax())
        if most and touched[place, most]:
            found[label] = names[most]
    return found


def contacts(segmentation: Segmentation, values: Sequence[int]) -> IntArray:
    """Return how many pairs of voxels of two labels share a face (L + 1, L + 1), symmetric; place 0 is the background.

    Args:
        segmentation: (Z, Y, X), label values; others than these count as background.
        values: of the L labels.
    """
    box = mask_box(segmentation != 0) or whole_box(segmentation.shape)
    # A voxel more on each side: the background that the foreground touches.
    grown = [slice(max(0, lower - 1), upper + 1) for lower, upper in box]
    cut = segmentation[tuple(grown)]
    places = np.zeros(cut.shape, dtype=np.int32)
    for place, value in enumerate(values, start=1):
        places[cut == value] = place
    size = len(values) + 1
    counts = np.zeros(size * size, dtype=np.int64)
    for axis in range(places.ndim):
        along = np.moveaxis(places, axis, 0)
        differ = along[1:] != along[:-1]
        counts += np.bincount(along[1:][differ] * size + along[:-1][differ], minlength=size * size)
    pairs = counts.reshape(size, size)
    touched: IntArray = pairs + pairs.T
    return touched
