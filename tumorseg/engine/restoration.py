"""From slabs of logits back to the image's own grid, one slice at a time, and from logits to label values.

Logits are resampled as the plan says (linear) and handed on slice by slice, so that a full-resolution volume of logits
never exists.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from tumorseg.engine.sliding_window import Slab
from tumorseg.errors import InputError
from tumorseg.ops.labels import paint_regions, to_values
from tumorseg.ops.resampling import AxisOrders, axis_matrix
from tumorseg.schema.targets import Targets
from tumorseg.types import Segmentation, Shape


class _Slices(NamedTuple):
    """Slices of logits that are still needed."""

    start: int
    logits: Tensor


def restored_slices(slabs: Iterable[Slab], shapes: tuple[Shape, Shape], orders: AxisOrders) -> Iterator[Tensor]:
    """Resample slabs of logits, one slice of the result after the other.

    Args:
        slabs: consecutive, from the first slice to the last.
        shapes: voxels (Z, Y, X) of the logits' grid and of the result.
        orders: spline order per axis.

    Yields:
        Logits (K, Y, X) of each slice of the second shape, float32, on the slabs' device.

    Raises:
        InputError: logits are not finite, so that no decision could be trusted.
    """
    old, new = shapes
    along, down, across = (
        torch.from_numpy(axis_matrix(before, after, order))
        for before, after, order in zip(old, new, orders.orders, strict=True)
    )
    # `along` stays on the CPU: a row of it is all that a slice needs.
    first, last = _support(along)
    number = 0
    kept: _Slices | None = None
    for slab in slabs:
        _check_finite(slab)
        if kept is None:
            # Only the first slab tells on which device the logits are.
            down, across = down.to(slab.logits.device), across.to(slab.logits.device)
        kept = _append(kept, slab)
        end = kept.start + kept.logits.shape[1]
        # A slice is made as soon as the last logits that it needs are there, so that few are kept.
        while number < new[0] and last[number] < end:
            row = along[number, kept.start : end].to(kept.logits.device)
            yield _resample(kept.logits, row, (down, across))
            number += 1
        if number < new[0]:
            kept = _drop(kept, first[number])


def decide(logits: Tensor, targets: Targets) -> Segmentation:
    """Return the label values of a slice: of the likeliest class, or of regions painted one over the other.

    Args:
        logits: (K, Y, X).
        targets: what the K outputs mean.

    Returns:
        (Y, X), in the smallest integer type that holds all values.
    """
    if targets.has_regions:
        # A logit above 0 is a probability above a half.
        return paint_regions((logits > 0).cpu().numpy(), targets)
    return to_values(logits.argmax(dim=0).cpu().numpy(), targets)


def _check_finite(slab: Slab) -> None:
    if not bool(torch.isfinite(slab.logits).all()):
        raise InputError(
            "the network's logits are not finite; look at the image for extreme intensities; if every image fails, the "
            "model's weights are damaged: train it again"
        )


def _support(matrix: Tensor) -> tuple[list[int], list[int]]:
    """Return the first and last column of each row that matters."""
    # Nothing in float32, as in ops.resampling; without a bound a spline's row would ask for every slice there is.
    matters = matrix.abs() > 1e-7
    columns = torch.arange(matrix.shape[1])
    first = torch.where(matters, columns, matrix.shape[1]).min(dim=1).values
    return first.tolist(), torch.where(matters, columns, -1).max(dim=1).values.tolist()


def _append(kept: _Slices | None, slab: Slab) -> _Slices:
    if kept is None:
        return _Slices(slab.start, slab.logits)
    return _Slices(kept.start, torch.cat([kept.logits, slab.logits], dim=1))


def _drop(kept: _Slices, first: int) -> _Slices:
    """Forget the slices before the first one that is still needed."""
    drop = min(max(first - kept.start, 0), kept.logits.shape[1])
    # A copy, as a view would keep the memory of what is dropped.
    return _Slices(kept.start + drop, kept.logits[:, drop:].clone() if drop else kept.logits)


def _resample(logits: Tensor, row: Tensor, planes: tuple[Tensor, Tensor]) -> Tensor:
    """Return one slice (K, Y, X) of the result: weighted slices, then both axes of the plane."""
    plane = _weighted(logits, row)
    down, across = planes
    # A square matrix is the identity: both grids cover the same extent.
    if down.shape[0] != down.shape[1]:
        plane = down @ plane
    return plane @ across.T if across.shape[0] != across.shape[1] else plane


def _weighted(logits: Tensor, row: Tensor) -> Tensor:
    """Return the sum of slices, each with its weight."""
    used = torch.nonzero(row.abs() > 1e-7)[:, 0].tolist()
    first, *others = used
    # Where the axis is not resampled, a slice is just what it was.
    plane = logits[:, first] if not others and row[first] == 1 else logits[:, first] * row[first]
    for index in others:
        plane = torch.addcmul(plane, logits[:, index], row[index])
    return plane
