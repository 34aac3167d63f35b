"""Linear interpolation along one axis."""

from typing import NamedTuple

import torch
from torch import Tensor

from tumorseg.augmentation.parts import PART


class Between(NamedTuple):
    """Places along an axis, each between two of its voxels or on one."""

    low: Tensor
    """(N,) int32, the voxel before."""
    high: Tensor
    """(N,) int32, the one after."""
    share: Tensor
    """(N,) float32, how far the place lies from the one to the other, from 0 to 1."""


def between(places: Tensor, size: int) -> Between:
    """Return places (N,) along an axis of a size, from 0 to the last voxel."""
    low = places.int().clamp(max=max(size - 2, 0))
    return Between(low, (low + 1).clamp(max=size - 1), places - low)


def interpolate_axis(values: Tensor, axis: int, places: Between) -> Tensor:
    """Return values (…) interpolated linearly at N places along an axis, which may not be negative; the others stay."""
    if axis == values.ndim - 1 and values.device.type == "cpu":
        return _interpolate_rows(values, places)
    share = places.share.to(values.dtype).reshape([-1 if other == axis else 1 for other in range(values.ndim)])
    return values.index_select(axis, places.low).lerp_(values.index_select(axis, places.high), share)


def _interpolate_rows(values: Tensor, places: Between) -> Tensor:
    """Do so along the last axis, some rows at a time: column by column torch would take twice as long as from one flat row."""
    size, num_places = values.shape[-1], len(places.low)
    rows, share = values.reshape(-1, size), places.share.to(values.dtype)
    step = max(1, PART // num_places)
    starts = torch.arange(0, step * size, size, dtype=torch.int32)[:, None]
    low, high = (starts + places.low).flatten(), (starts + places.high).flatten()
    found = values.new_empty(len(rows), num_places)
    for some, target in zip(torch.split(rows, step), torch.split(found, step), strict=True):
        flat = some.flatten()
        below, above = (
            flat.index_select(0, numbers[: target.numel()]).reshape(target.shape) for numbers in (low, high)
        )
        torch.lerp(below, above, share, out=target)
    return found.reshape(*values.shape[:-1], num_places)
