"""Label values outside, class indices inside, and where each class lies."""

import math
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tumorseg.errors import InputError
from tumorseg.schema.targets import IGNORE, Targets
from tumorseg.types import Segmentation

PART = 1 << 22
"""Voxels of which wider copies are made at once."""
FEW_CLASSES = 8
"""Up to here it is cheaper to look for each class by itself."""
MIN_LOCATIONS = 10_000
"""Voxels of a class that are remembered at least (all, if there are fewer), as in nnU-Net."""
SHARE_OF_LOCATIONS = 0.01
"""Share of a class's voxels that is remembered at least."""


def to_indices(segmentation: Segmentation, targets: Targets) -> Segmentation:
    """Replace label values by class indices, and the ignore label by `IGNORE`.

    Returns:
        Same shape; int8, or int16 above 127 classes.

    Raises:
        InputError: a value that is neither a label nor the ignore label.
    """
    # Signed, as IGNORE is -1.
    dtype = np.int8 if targets.num_classes <= 127 else np.int16
    known = dict(zip(targets.label_values, range(targets.num_classes), strict=True))
    if targets.ignore_value is not None:
        known[targets.ignore_value] = IGNORE
    values, counts = count_values(segmentation)
    unknown = []
    for value, count in zip(values, counts, strict=True):
        if value not in known:
            unknown.append(f"{value} ({count} voxels)")
    if unknown:
        raise InputError(
            f"label values {', '.join(unknown[:5])} are not in the dataset's labels {sorted(known)}; "
            "add them to the dataset description or correct the segmentation"
        )
    return _look_up(segmentation, values, np.array([known[value] for value in values], dtype))


def count_values(segmentation: Segmentation) -> tuple[list[int], list[int]]:
    """Return the values of a segmentation, sorted, and how many voxels hold each."""
    totals: Counter[int] = Counter()
    for part in _parts(segmentation):
        # Most voxels are background, which it would take long to count one by one.
        foreground = part[part != 0]
        totals[0] += part.size - foreground.size
        if foreground.size:
            totals.update(dict(zip(*_count_part(foreground), strict=True)))
    found = sorted(value for value, count in totals.items() if count)
    return found, [totals[value] for value in found]


def _parts(segmentation: Segmentation) -> Iterator[Segmentation]:
    """Yield slabs along the first axis, so that no wider copy of the whole is made."""
    step = max(1, PART * len(segmentation) // max(segmentation.size, 1))
    return (segmentation[start : start + step] for start in range(0, len(segmentation), step))


def _count_part(values: NDArray[Any]) -> tuple[list[int], list[int]]:
    lowest = int(values.min())
    # Counting is faster than sorting, but takes memory by the range; differences of narrow integers would overflow.
    if int(values.max()) - lowest < 65536:
        counts = np.bincount(values.astype(np.int64) - lowest)
        found = np.flatnonzero(counts)
        return (found + lowest).tolist(), counts[found].tolist()
    found, counts = np.unique(values, return_counts=True)
    return found.tolist(), counts.tolist()


def _look_up(segmentation: Segmentation, values: list[int], replacements: Segmentation) -> Segmentation:
    """Return `replacements` where `segmentation` is one of the sorted `values`."""
    # Labels 0, 1, 2, … are their own indices.
    if values == replacements.tolist():
        return segmentation.astype(replacements.dtype)
    if values[-1] - values[0] < 65536:
        table = np.zeros(values[-1] - values[0] + 1, replacements.dtype)
        table[np.array(values) - values[0]] = replacements
        parts = [table[part.astype(np.int64) - values[0]] for part in _parts(segmentation)]
    else:
        parts = [replacements[np.searchsorted(values, part)] for part in _parts(segmentation)]
    return np.concatenate(parts)


def to_values(indices: Segmentation, targets: Targets) -> Segmentation:
    """Replace class indices by label values; `IGNORE` becomes the ignore label's value.

    Returns:
        Same shape; the smallest integer type that holds the values.
    """
    table = np.array(targets.label_values, smallest_dtype(targets))
    if targets.ignore_value is None:
        return np.asarray(table[indices])
    return np.where(indices == IGNORE, table.dtype.type(targets.ignore_value), table[np.maximum(indices, 0)])


def keep_labels(segmentation: Segmentation, values: Collection[int]) -> Segmentation:
    """Return a segmentation in which all other values than these became background.

    Args:
        segmentation: (Z, Y, X), label values.
        values: what is kept; one that does not occur does no harm.

    Returns:
        Same shape and type.
    """
    found, _ = count_values(segmentation)
    kept = [value if value in values else 0 for value in found]
    return _look_up(segmentation, found, np.array(kept, segmentation.dtype))


def smallest_dtype(targets: Targets) -> np.dtype[np.integer[Any]]:
    """Return the smallest integer type that holds all label values, the ignore label's included."""
    values = [*targets.label_values, *targets.region_values, targets.ignore_value or 0]
    return np.promote_types(np.min_scalar_type(min(values)), np.min_scalar_type(max(values)))


def paint_regions(masks: NDArray[np.bool_], targets: Targets) -> Segmentation:
    """Return label values where regions are predicted, later regions over earlier ones.

    Args:
        masks: (R, ...), one per region.
        targets: the value of each region.
    """
    painted = np.zeros(masks.shape[1:], smallest_dtype(targets))
    for mask, value in zip(masks, targets.region_values, strict=True):
        painted[mask] = value
    return painted


def class_locations(
    indices: Segmentation, targets: Targets, rng: np.random.Generator
) -> tuple[NDArray[np.int32], list[int]]:
    """Draw voxels of every foreground class, to centre training patches on; with an ignore label of background too.

    Args:
        indices: class indices (Z, Y, X).
        targets: what the indices mean.
        rng: draws without replacement.

    Returns:
        Voxels (N, 3) grouped by class, and the row at which each class index begins, with N at the end.
    """
    found_of = _voxels_by_class(indices, targets.num_classes)
    voxels: list[NDArray[np.int32]] = []
    first = 1 if targets.ignore_value is None else 0
    # The background has a start too, even where none of its voxels are drawn.
    starts = [0] * (first + 1)
    for index in range(first, targets.num_classes):
        found = found_of(index)
        count = max(min(MIN_LOCATIONS, found.size), math.ceil(SHARE_OF_LOCATIONS * found.size))
        chosen = found if count == found.size else np.sort(rng.choice(found, count, replace=False))
        voxels.append(np.stack(np.unravel_index(chosen, indices.shape), axis=1).astype(np.int32))
        starts.append(starts[-1] + count)
    return (np.concatenate(voxels) if voxels else np.zeros((0, 3), np.int32)), starts


def _voxels_by_class(indices: Segmentation, num_classes: int) -> Callable[[int], NDArray[np.intp]]:
    """Return what finds the flat positions of a class: a look at each voxel, or, of many classes, one sorting of all."""
    flat = indices.ravel()
    if num_classes <= FEW_CLASSES:
        return lambda index: np.flatnonzero(flat == index)
    foreground = np.flatnonzero(flat > 0)
    grouped = foreground[np.argsort(flat[foreground], kind="stable")]
    ends = np.cumsum(np.bincount(flat[foreground], minlength=num_classes))
    return lambda index: grouped[ends[index - 1] : ends[index]] if index else np.flatnonzero(flat == 0)
