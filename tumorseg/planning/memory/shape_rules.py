"""Shapes and types of what torch's operations return, on tensors of the device `meta`.

Torch has rules of its own, of which many are written in Python for its compiler: they take up to a millisecond for an
operation and load the compiler, which is more than all else that a plan takes. Those that our networks and losses need
are therefore here, for tensors of the usual order; for all others torch's are used. Both give the same.
"""

import functools
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

ATEN = torch.ops.aten


def run(func: Any, args: Sequence[Any], options: dict[str, Any]) -> Any:
    """Run an operation on `meta`."""
    rule = RULES.get(func) or (_pointwise(func) if _is_pointwise(func) else None)
    if rule is None or not (func in ANY_ORDER or all(map(_is_in_order, _tensors(args)))):
        return func(*args, **options)
    return rule(*args, **options)


def _tensors(args: Sequence[Any]) -> list[Tensor]:
    found: list[Tensor] = []
    for value in args:
        if isinstance(value, Tensor):
            found.append(value)
        elif isinstance(value, list | tuple):
            found.extend(one for one in value if isinstance(one, Tensor))
    return found


def _is_in_order(tensor: Tensor) -> bool:
    """Tell whether a tensor lies in memory axis after axis, gaps and repeated values allowed, so results do as well."""
    # The stride of an axis of one voxel may be any number, and that of a repeated axis is 0: neither says anything.
    strides = [step for step, size in zip(tensor.stride(), tensor.shape, strict=True) if step and size != 1]
    return all(outer >= inner for outer, inner in itertools.pairwise(strides))


def _new(shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    return torch.empty(tuple(shape), dtype=dtype, device="meta")


@functools.cache
def _is_pointwise(func: Any) -> bool:
    """Tell whether an operation returns one tensor, each value of which depends on one value of each that it takes."""
    schema = func._schema
    is_functional = not schema.is_mutable and not schema.name.endswith("_like") and len(schema.returns) == 1
    # Torch does not tag the last two as pointwise, though they are.
    is_known = torch.Tag.pointwise in func.tags or func in (ATEN.leaky_relu_backward.default, ATEN.floor_divide.default)
    return is_functional and is_known and schema.returns[0].alias_info is None


@functools.cache
def _pointwise(func: Any) -> Callable[..., Tensor]:
    """Return the rule of such an operation: its type is that of what it makes of single values, on the CPU."""

    def rule(*args: Any, **options: Any) -> Tensor:
        # On the CPU, where single values lie, whatever device was asked for.
        options.pop("device", None)
        singles, shapes = [], []
        for value in args:
            singles.append(_single(value) if isinstance(value, Tensor) else value)
            if isinstance(value, Tensor):
                shapes.append(value.shape)
        return _new(_broadcast(shapes), func(*singles, **options).dtype)

    return rule


def _single(tensor: Tensor) -> Tensor:
    """Return one value of a tensor's type; tensors without axes count less where types differ, so that they stay so."""
    return torch.ones((1,) * min(tensor.ndim, 1), dtype=tensor.dtype)


def _broadcast(shapes: Sequence[Sequence[int]]) -> list[int]:
    num_axes = max(map(len, shapes))
    padded = [(1,) * (num_axes - len(shape)) + tuple(shape) for shape in shapes]
    common = []
    for sizes in zip(*padded, strict=True):
        # Not the maximum: an axis of no voxels wins over one of a single voxel.
        common.append(next((size for size in sizes if size != 1), 1))
    return common


def _convolution(
    features: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    transposed: bool,
    output_padding: Sequence[int],
    groups: int,
) -> Tensor:
    num_channels = weight.shape[1] * groups if transposed else weight.shape[0]
    sizes = []
    for axis, size in enumerate(features.shape[2:]):
        reach = dilation[axis] * (weight.shape[2 + axis] - 1) + 1
        if transposed:
            sizes.append((size - 1) * stride[axis] - 2 * padding[axis] + reach + output_padding[axis])
        else:
            sizes.append((size + 2 * padding[axis] - reach) // stride[axis] + 1)
    out = _new((features.shape[0], num_channels, *sizes), features.dtype)
    # Torch answers features in this order with a result in this order.
    channels_last = {4: torch.channels_last, 5: torch.channels_last_3d}.get(features.ndim)
    if channels_last and not _is_in_order(features) and features.is_contiguous(memory_format=channels_last):
        return out.to(memory_format=channels_last)
    return out


def _convolution_backward(
    gradient: Tensor, features: Tensor, weight: Tensor, bias_sizes: Sequence[int] | None, *rest: Any
) -> list[Tensor | None]:
    # The last argument says of input, weight and bias which gradients are wanted.
    wanted: Sequence[bool] = rest[-1]
    shapes = (features.shape, weight.shape, gradient.shape[1:2])
    return [_new(shape, gradient.dtype) if is_wanted else None for shape, is_wanted in zip(shapes, wanted, strict=True)]


def _batch_norm(features: Tensor, *_: Any) -> tuple[Tensor, Tensor, Tensor]:
    # The statistics are saved in the type of the features, as on the CPU.
    statistics = [_new(features.shape[1:2], features.dtype) for _ in range(2)]
    return (_new(features.shape, features.dtype), *statistics)  # type: ignore[return-value]


def _batch_norm_backward(gradient: Tensor, features: Tensor, weight: Tensor | None, *rest: Any) -> list[Tensor | None]:
    wanted: Sequence[bool] = rest[-1]
    dtype = features.dtype if weight is None else weight.dtype
    results = [(features.shape, features.dtype), (features.shape[1:2], dtype), (features.shape[1:2], dtype)]
    return [_new(*result) if is_wanted else None for result, is_wanted in zip(results, wanted, strict=True)]


def _pool(
    features: Tensor,
    kernel: Sequence[int],
    stride: Sequence[int] = (),
    padding: Sequence[int] = (0,),
    ceil_mode: bool = False,
    *_: Any,
) -> Tensor:
    num_axes = len(kernel)
    # Torch leaves the stride empty where it is the kernel's, and may give one padding for all axes.
    steps, pads = stride or kernel, list(padding) * (num_axes // len(padding))
    ends = features.shape[-num_axes:]
    lengths = [(size + 2 * pad - edge) / step for size, pad, edge, step in zip(ends, pads, kernel, steps, strict=True)]
    sizes = [(math.ceil if ceil_mode else math.floor)(length) + 1 for length in lengths]
    return _new((*features.shape[:-num_axes], *sizes), features.dtype)


def _like_second(_: Tensor, features: Tensor, *__: Any) -> Tensor:
    return _new(features.shape, features.dtype)


def _like(tensor: Tensor, *, dtype: torch.dtype | None = None, **_: Any) -> Tensor:
    return _new(tensor.shape, dtype or tensor.dtype)


def _flip(tensor: Tensor, _: Sequence[int]) -> Tensor:
    # From the first value in memory to the last one.
    reach = 1 + sum((size - 1) * step for size, step in zip(tensor.shape, tensor.stride(), strict=True))
    if reach == tensor.numel():  # without gaps, the order is kept
        return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device="meta")
    return _new(tensor.shape, tensor.dtype)


def _repeat(tensor: Tensor, counts: Sequence[int]) -> Tensor:
    shape = (1,) * (len(counts) - tensor.ndim) + tuple(tensor.shape)
    return _new([size * count for size, count in zip(shape, counts, strict=True)], tensor.dtype)


def _cat(tensors: Sequence[Tensor], axis: int = 0) -> Tensor:
    shape = list(tensors[0].shape)
    shape[axis] = sum(tensor.shape[axis] for tensor in tensors)
    return _new(shape, functools.reduce(torch.promote_types, (tensor.dtype for tensor in tensors)))


def _stack(tensors: Sequence[Tensor], axis: int = 0) -> Tensor:
    shape = list(tensors[0].shape)
    # A negative axis counts from the end of the result, which has one more.
    shape.insert(axis % (len(shape) + 1), len(tensors))
    return _new(shape, functools.reduce(torch.promote_types, (tensor.dtype for tensor in tensors)))


def _sum(tensor: Tensor, axes: Sequence[int] | None, keep: bool = False, *, dtype: torch.dtype | None = None) -> Tensor:
    # No axes, or an empty list of them, stands for all.
    kept = {axis % tensor.ndim for axis in axes} if axes else set(range(tensor.ndim))
    sizes = [1 if axis in kept else size for axis, size in enumerate(tensor.shape) if keep or axis not in kept]
    return _new(sizes, dtype or torch.sum(_single(tensor)).dtype)


def _mean(tensor: Tensor, *, dtype: torch.dtype | None = None) -> Tensor:
    return _new((), dtype or tensor.dtype)


def _arange(end: int, *, dtype: torch.dtype | None = None, **_: Any) -> Tensor:
    return _new((math.ceil(end),), dtype or torch.arange(end).dtype)


def _slice_backward(gradient: Tensor, sizes: Sequence[int], *_: Any) -> Tensor:
    return _new(sizes, gradient.dtype)


RULES: dict[Any, Callable[..., Any]] = {
    ATEN.convolution.default: _convolution,
    ATEN.convolution_backward.default: _convolution_backward,
    ATEN.native_batch_norm.default: _batch_norm,
    ATEN.native_batch_norm_backward.default: _batch_norm_backward,
    ATEN.avg_pool2d.default: _pool,
    ATEN.avg_pool3d.default: _pool,
    ATEN.avg_pool2d_backward.default: _like_second,
    ATEN.avg_pool3d_backward.default: _like_second,
    ATEN.empty_like.default: _like,
    ATEN.zeros_like.default: _like,
    ATEN.ones_like.default: _like,
    ATEN.flip.default: _flip,
    ATEN.repeat.default: _repeat,
    ATEN.cat.default: _cat,
    ATEN.stack.default: _stack,
    ATEN.sum.dim_IntList: _sum,
    ATEN.mean.default: _mean,
    ATEN.arange.default: _arange,
    ATEN.slice_backward.default: _slice_backward,
}
ANY_ORDER = (ATEN.convolution.default, ATEN.flip.default)
"""Their rules hold for tensors of any order, such as slices of a case as a batch of 2D tiles."""
