"""Shapes of what group normalisation returns."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from tumorseg.planning.memory.shapes import new, require

ATEN = torch.ops.aten


def _group_norm(
    features: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    batch: int,
    channels: int,
    voxels: int,
    groups: int,
    _: float,
) -> tuple[Tensor, ...]:
    # In half precision, the type of the statistics depends on that of the weight.
    require(features.dtype == torch.float32 and channels % groups == 0)
    require(features.shape[:2] == (batch, channels) and features.numel() == batch * channels * voxels)
    require(all(one is None or one.shape == (channels,) for one in (weight, bias)))
    return new(features.shape, features.dtype), *(new((batch, groups), features.dtype) for _ in range(2))


def _group_norm_backward(gradient: Tensor, features: Tensor, *rest: Any) -> tuple[Tensor | None, ...]:
    wanted: Sequence[bool] = rest[-1]
    require(features.dtype == torch.float32)
    shapes = (features.shape, features.shape[1:2], features.shape[1:2])
    return tuple(new(one, features.dtype) if is_wanted else None for one, is_wanted in zip(shapes, wanted, strict=True))


RULES: dict[Any, Callable[..., Any]] = {
    ATEN.native_group_norm.default: _group_norm,
    ATEN.native_group_norm_backward.default: _group_norm_backward,
}
