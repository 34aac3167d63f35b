"""Shapes and types of what torch's operations return, on tensors of the device `meta`.

Torch has rules of its own, of which many are written in Python for its compiler: they take up to a millisecond for an
operation and load the compiler, which is more than all else that a plan takes. Those that our networks and losses need
are therefore here, for usual arguments. Unusual ones, and shapes that do not fit together, are left to torch's rules, which
know what to say of them.
"""

import functools
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from tumorseg.planning.memory import attention_rules, group_norm_rules
from tumorseg.planning.memory.shapes import NoRuleError, new, require, require_axes

ATEN = torch.ops.aten


def run(func: Any, args: Sequence[Any], options: dict[str, Any]) -> Any:
    """Run an operation on `meta`."""
    rule = RULES.get(func) or (_pointwise(func) if _is_pointwise(func) else None)
    if rule is None or not (func in ANY_ORDER or _is_in_usual_order(_tensors(args), func)):
        return func(*args, **options)
    try:
        return rule(*args, **options)
    except NoRuleError:
        return func(*args, **options)


def _is_in_usual_order(tensors: Sequence[Tensor], func: Any) -> bool:
    if all(map(_is_in_order, tensors)):
        return True
    # An element-wise result lies as the first tensor does, if that has its shape and no gaps.
    return _is_pointwise(func) and _is_gapless(tensors[0]) and is_spread_over(tensors[0], tensors[1:])


def _is_gapless(tensor: Tensor) -> bool:
    # From the first value in memory to the last one.
    reach = 1 + sum((size - 1) * step for size, step in zip(tensor.shape, tensor.stride(), strict=True))
    return reach == tensor.numel()


def _new_like(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    return torch.empty_strided(tensor.shape, tensor.stride(), dtype=dtype, device="meta")


def is_spread_over(tensor: Tensor, others: Sequence[Tensor]) -> bool:
    """Tell whether values of other tensors can be spread over all of one, whose shape stays."""
    try:
        return _broadcast([tensor.shape, *(other.shape for other in others)]) == list(tensor.shape)
    except NoRuleError:
        return False


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


@functools.cache
def _is_pointwise(func: Any) -> bool:
    """Tell whether an operation returns one tensor, each value of which depends on one value of each that it takes."""
    schema = func._schema
    is_functional = not schema.is_mutable and not schema.name.endswith("_like") and len(schema.returns) == 1
    is_known = torch.Tag.pointwise in func.tags or func in UNTAGGED
    return is_functional and is_known and schema.returns[0].alias_info is None


@functools.cache
def _pointwise(func: Any) -> Callable[..., Tensor]:
    """Return the rule of such an operation: its type is that of what it makes of single values, on the CPU."""

    def rule(*args: Any, **options: Any) -> Tensor:
        # A device is always the CPU's, where single values lie; an order in memory that is asked for is torch's to keep.
        require(not options.keys() - {"device"})
        singles, shapes = [], []
        for value in args:
            singles.append(_single(value) if isinstance(value, Tensor) else value)
            if isinstance(value, Tensor):
                shapes.append(value.shape)
        shape, dtype, first = _broadcast(shapes), func(*singles).dtype, _tensors(args)[0]
        return new(shape, dtype) if _is_in_order(first) else _new_like(first, dtype)

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
        wide = set(sizes) - {1}
        require(len(wide) <= 1)
        common.append(wide.pop() if wide else 1)
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
    require(
        features.ndim == weight.ndim
        and features.shape[1] == (weight.shape[0] if transposed else weight.shape[1] * groups)
    )
    require(bias is None or bias.shape == (num_channels,))
    require(len(stride) == len(padding) == len(dilation) == len(output_padding) == features.ndim - 2)
    sizes = []
    for axis, size in enumerate(features.shape[2:]):
        reach = dilation[axis] * (weight.shape[2 + axis] - 1) + 1
        if transposed:
            sizes.append((size - 1) * stride[axis] - 2 * padding[axis] + reach + output_padding[axis])
        else:
            sizes.append((size + 2 * padding[axis] - reach) // stride[axis] + 1)
    require(min(sizes) > 0)
    out = new((features.shape[0], num_channels, *sizes), features.dtype)
    # Torch answers flat features in this order with a result in this order.
    if out.ndim == 4 and not _is_in_order(features) and features.is_contiguous(memory_format=torch.channels_last):
        return out.to(memory_format=torch.channels_last)
    return out


def _convolution_backward(
    gradient: Tensor, features: Tensor, weight: Tensor, bias_sizes: Sequence[int] | None, *rest: Any
) -> list[Tensor | None]:
    # The last argument says of input, weight and bias which gradients are wanted.
    wanted: Sequence[bool] = rest[-1]
    shapes = (features.shape, weight.shape, gradient.shape[1:2])
    return [new(shape, gradient.dtype) if is_wanted else None for shape, is_wanted in zip(shapes, wanted, strict=True)]


def _batch_norm(
    features: Tensor, weight: Tensor | None, bias: Tensor | None, mean: Any, variance: Any, training: bool, *_: Any
) -> tuple[Tensor, Tensor, Tensor]:
    require(all(one is None or one.shape == features.shape[1:2] for one in (weight, bias)))
    # The statistics are saved in the type of the features, as on the CPU; running ones are there already.
    statistics = [new(features.shape[1:2] if training else (0,), features.dtype) for _ in range(2)]
    return (new(features.shape, features.dtype), *statistics)  # type: ignore[return-value]


def _batch_norm_backward(gradient: Tensor, features: Tensor, weight: Tensor | None, *rest: Any) -> list[Tensor | None]:
    wanted: Sequence[bool] = rest[-1]
    dtype = features.dtype if weight is None else weight.dtype
    results = [(features.shape, features.dtype), (features.shape[1:2], dtype), (features.shape[1:2], dtype)]
    return [new(*result) if is_wanted else None for result, is_wanted in zip(results, wanted, strict=True)]


def _pool(
    features: Tensor,
    kernel: Sequence[int],
    stride: Sequence[int] = (),
    padding: Sequence[int] = (0,),
    ceil_mode: bool = False,
    *_: Any,
) -> Tensor:
    num_axes = len(kernel)
    # Whether a last window that is cut off counts depends on where it begins.
    require(not ceil_mode)
    # Torch leaves the stride empty where it is the kernel's, and may give one padding for all axes.
    steps, pads = stride or kernel, list(padding) * (num_axes // len(padding))
    ends = features.shape[-num_axes:]
    sizes = [
        (size + 2 * pad - edge) // step + 1 for size, pad, edge, step in zip(ends, pads, kernel, steps, strict=True)
    ]
    require(min(sizes) > 0 and all(2 * pad <= edge for pad, edge in zip(pads, kernel, strict=True)))
    return new((*features.shape[:-num_axes], *sizes), features.dtype)


def _like_second(_: Tensor, features: Tensor, *__: Any) -> Tensor:
    return new(features.shape, features.dtype)


def _like(
    tensor: Tensor, *, dtype: torch.dtype | None = None, memory_format: torch.memory_format | None = None, **_: Any
) -> Tensor:
    require(memory_format in (None, torch.preserve_format))
    return new(tensor.shape, dtype or tensor.dtype)


def _flip(tensor: Tensor, axes: Sequence[int]) -> Tensor:
    require_axes(axes, tensor.ndim)
    # Without gaps, the order is kept.
    return _new_like(tensor, tensor.dtype) if _is_gapless(tensor) else new(tensor.shape, tensor.dtype)


def _repeat(tensor: Tensor, counts: Sequence[int]) -> Tensor:
    require(len(counts) >= tensor.ndim)
    shape = (1,) * (len(counts) - tensor.ndim) + tuple(tensor.shape)
    return new([size * count for size, count in zip(shape, counts, strict=True)], tensor.dtype)


def _cat(tensors: Sequence[Tensor], axis: int = 0) -> Tensor:
    shape = list(tensors[0].shape)
    require_axes([axis], len(shape))
    others = [size for number, size in enumerate(shape) if number != axis % len(shape)]
    for tensor in tensors:
        require(tensor.ndim == len(shape))
        require([size for number, size in enumerate(tensor.shape) if number != axis % len(shape)] == others)
    shape[axis] = sum(tensor.shape[axis] for tensor in tensors)
    return new(shape, functools.reduce(torch.promote_types, (tensor.dtype for tensor in tensors)))


def _stack(tensors: Sequence[Tensor], axis: int = 0) -> Tensor:
    shape = list(tensors[0].shape)
    require(all(tensor.shape == tensors[0].shape for tensor in tensors))
    require_axes([axis], len(shape) + 1)
    # A negative axis counts from the end of the result, which has one more.
    shape.insert(axis % (len(shape) + 1), len(tensors))
    return new(shape, functools.reduce(torch.promote_types, (tensor.dtype for tensor in tensors)))


def _any(tensor: Tensor, axes: Sequence[int] | None = None, keep: bool = False) -> Tensor:
    return _sum(tensor, axes, keep, dtype=torch.bool)


def _amin(tensor: Tensor, axes: Sequence[int] = (), keep: bool = False) -> Tensor:
    return _sum(tensor, axes, keep, dtype=tensor.dtype)


def _index(tensor: Tensor, indices: Sequence[Tensor | None]) -> Tensor:
    *before, index = indices
    # Rows or columns of a table, and nothing else.
    require(index is not None and index.dtype == torch.int64 and set(before) <= {None} and len(before) < tensor.ndim)
    axis = len(before)
    return new((*tensor.shape[:axis], *index.shape, *tensor.shape[axis + 1 :]), tensor.dtype)  # type: ignore[union-attr]


def _softmax(tensor: Tensor, axis: int, half_to_float: bool) -> Tensor:
    require_axes([axis], tensor.ndim)
    require(not half_to_float)
    return new(tensor.shape, tensor.dtype)


def _sum(tensor: Tensor, axes: Sequence[int] | None, keep: bool = False, *, dtype: torch.dtype | None = None) -> Tensor:
    require_axes(axes or [], tensor.ndim)
    # No axes, or an empty list of them, stands for all.
    kept = {axis % tensor.ndim for axis in axes} if axes else set(range(tensor.ndim))
    sizes = [1 if axis in kept else size for axis, size in enumerate(tensor.shape) if keep or axis not in kept]
    return new(sizes, dtype or torch.sum(_single(tensor)).dtype)


def _mean(tensor: Tensor, *, dtype: torch.dtype | None = None) -> Tensor:
    require((dtype or tensor.dtype).is_floating_point)
    return new((), dtype or tensor.dtype)


def _arange(end: int, *, dtype: torch.dtype | None = None, **_: Any) -> Tensor:
    return new((math.ceil(end),), dtype or torch.arange(end).dtype)


def _arange_from(start: int, end: int, *, dtype: torch.dtype | None = None, **_: Any) -> Tensor:
    require(end >= start)
    return new((math.ceil(end - start),), dtype or torch.arange(start, end).dtype)


def _slice_backward(gradient: Tensor, sizes: Sequence[int], *_: Any) -> Tensor:
    return new(sizes, gradient.dtype)


UNTAGGED = (
    ATEN.leaky_relu_backward.default,
    ATEN.floor_divide.default,
    ATEN.bitwise_not.default,
    ATEN.bitwise_and.Tensor,
)
"""Element by element, though torch does not tag them so."""
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
    ATEN.any.dims: _any,
    ATEN.amin.default: _amin,
    ATEN.amax.default: _amin,
    ATEN.index.Tensor: _index,
    ATEN._softmax.default: _softmax,
    **attention_rules.RULES,
    **group_norm_rules.RULES,
    ATEN.mean.default: _mean,
    ATEN.arange.default: _arange,
    ATEN.arange.start: _arange_from,
    ATEN.slice_backward.default: _slice_backward,
}
ANY_ORDER = (
    ATEN.convolution.default,
    ATEN.flip.default,
    ATEN.any.dims,
    ATEN.native_layer_norm_backward.default,
)
"""Their rules hold for tensors of any order, such as slices of a case as a batch of 2D tiles, or gradients of channels last."""
