"""Shapes of what networks of attention do besides products of matrices, whose rules are torch's own and quick."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from tumorseg.planning.memory.shapes import new, require, require_axes

ATEN = torch.ops.aten


def _layer_norm(
    features: Tensor, shape: Sequence[int], weight: Tensor | None, bias: Tensor | None, _: float
) -> tuple[Tensor, Tensor, Tensor]:
    require(tuple(features.shape[features.ndim - len(shape) :]) == tuple(shape))
    # In half precision, the type of the statistics depends on that of the weight.
    require(features.dtype == torch.float32)
    require(all(one is None or tuple(one.shape) == tuple(shape) for one in (weight, bias)))
    rows = (*features.shape[: features.ndim - len(shape)], *(1 for _ in shape))
    return (new(features.shape, features.dtype), *(new(rows, features.dtype) for _ in range(2)))  # type: ignore[return-value]


def _layer_norm_backward(
    gradient: Tensor, features: Tensor, shape: Sequence[int], *rest: Any
) -> tuple[Tensor | None, ...]:
    wanted: Sequence[bool] = rest[-1]
    shapes = (features.shape, shape, shape)
    require(features.dtype == torch.float32)
    return tuple(new(one, features.dtype) if is_wanted else None for one, is_wanted in zip(shapes, wanted, strict=True))


def _roll(tensor: Tensor, shifts: Sequence[int], axes: Sequence[int] = ()) -> Tensor:
    require_axes(axes, tensor.ndim)
    require(len(shifts) == len(axes))
    return new(tensor.shape, tensor.dtype)


RULES: dict[Any, Callable[..., Any]] = {
    ATEN.native_layer_norm.default: _layer_norm,
    ATEN.native_layer_norm_backward.default: _layer_norm_backward,
    ATEN.roll.default: _roll,
}
