"""Depthwise convolutions of three axes, plane by plane on a CPU.

There torch has fast depthwise convolutions of two axes, but slow ones of three. Of features that lie channels last, what a kernel's
planes give is therefore added up: the same result, up to the order of sums.
"""

from collections.abc import Iterator
from itertools import product
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from tumorseg.networks.channels_last import lies_channels_last
from tumorseg.networks.small_maps import is_unsafe
from tumorseg.schema.networks import Axes

LAST = torch.channels_last_3d
FLAT_LAST = torch.channels_last
DEPTH = 2
"""Axis of a volume (B, C, D, H, W) along which its planes lie."""


class Overlap(NamedTuple):
    """The voxels along an axis that one place of a kernel brings together."""

    source: slice
    """Of the features."""
    target: slice
    """Of the result, as many."""


def by_planes(features: Tensor, weight: Tensor, bias: Tensor, stride: Axes) -> Tensor:
    """Add up convolutions of planes, one for each plane of the kernel.

    Args:
        features: (B, C, *space).
        weight: (C, 1, *kernel), odd edges.
        bias: (C,).
        stride: per axis.

    Returns:
        (B, C, *space / stride), rounded up.
    """
    if not is_unsafe(features, features.shape[3:], weight.shape[3:]):
        features, weight, bias = _in_one_precision(features, weight, bias)
        return _sum_of_planes(features, weight, bias, stride)
    dtype = torch.get_autocast_dtype("cpu")
    with torch.autocast("cpu", enabled=False):
        return _sum_of_planes(features.float(), weight.float(), bias.float(), stride).to(dtype)


def _sum_of_planes(features: Tensor, weight: Tensor, bias: Tensor, stride: Axes) -> Tensor:
    return cast(Tensor, _Planes.apply(features, weight, bias, stride))  # type: ignore[no-untyped-call]


def depthwise(convolution: nn.Module, features: Tensor) -> Tensor:
    """Return what a depthwise convolution makes of features: plane by plane where they lie channels last on a CPU.

    Args:
        convolution: one, or a transposed one, of two or three axes, as many groups as channels, half an odd kernel of padding.
        features: (B, C, *space).
    """
    if not isinstance(convolution, nn.Conv3d | nn.ConvTranspose3d) or not lies_channels_last(features):
        return cast(Tensor, convolution(features))
    weight, stride = convolution.weight, tuple(convolution.stride)
    assert convolution.bias is not None  # a depthwise convolution of this package has one
    if isinstance(convolution, nn.ConvTranspose3d):
        # A transposed convolution is one that is turned round, of features with zeros between them.
        return by_planes(spread(features, stride), weight.flip(2, 3, 4), convolution.bias, (1, 1, 1))
    return by_planes(features, weight, convolution.bias, stride)


def spread(features: Tensor, stride: Axes) -> Tensor:
    """Return features (B, C, *space) with zeros between them, channels last: (B, C, *((space - 1) * stride + 1))."""
    batch, channels, *space = features.shape
    sizes = [(size - 1) * step + 1 for size, step in zip(space, stride, strict=True)]
    shape = (batch, channels, *sizes)
    found = torch.empty(shape, dtype=features.dtype, device=features.device, memory_format=LAST).zero_()
    every: tuple[Any, ...] = (..., *(slice(None, None, step) for step in stride))
    found[every] = features
    return found


def padding_of(weight: Tensor) -> Axes:
    """Return the padding that keeps the size."""
    return tuple(edge // 2 for edge in weight.shape[2:])


def _in_one_precision(*tensors: Tensor) -> tuple[Tensor, ...]:
    """Return tensors as autocast would give them to a convolution: our own operations are none that it knows."""
    if not torch.is_autocast_enabled("cpu"):
        return tensors
    dtype = torch.get_autocast_dtype("cpu")
    return tuple(tensor.to(dtype) for tensor in tensors)


def overlap_of(size: int, place: int, edge: int, step: int) -> Overlap | None:
    """Return what a place of a kernel of so many voxels brings together along an axis; None if all of it is padding."""
    # The voxel `target` of the result sees the voxel `target * step + shift` of the features.
    shift = place - edge // 2
    first = -(min(shift, 0) // step)
    last = min((size - 1) // step, (size - 1 - shift) // step)
    if last < first:
        return None
    source = slice(first * step + shift, last * step + shift + 1, step)
    return Overlap(source, slice(first, last + 1))


def _planes_of(volume: Tensor) -> Tensor:
    """Return a volume (B, C, D, H, W) that lies channels last as planes (B x D, C, H, W) that do, without a copy."""
    return volume.transpose(1, DEPTH).flatten(0, 1)


def _volume_of(planes: Tensor, batch: int) -> Tensor:
    count, *sizes = planes.shape
    return planes.view(batch, count // batch, *sizes).transpose(1, DEPTH)


def _outer_planes(sizes: torch.Size, weight: Tensor, step: int) -> Iterator[tuple[int, int, Overlap]]:
    """Yield each sample with each plane of a kernel but the middle one, and the planes of features and result that meet there."""
    edge = weight.shape[DEPTH]
    for sample, place in product(range(sizes[0]), range(edge)):
        overlap = overlap_of(sizes[DEPTH], place, edge, step)
        if place != edge // 2 and overlap is not None:
            yield sample, place, overlap


class _Planes(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, features: Tensor, weight: Tensor, bias: Tensor, stride: Axes) -> Tensor:
        features = features.contiguous(memory_format=LAST)
        ctx.save_for_backward(features, weight)
        ctx.stride = stride
        flat, padding, groups = stride[1:], padding_of(weight)[1:], len(weight)
        # The middle plane of the kernel meets every plane of the result, and of all samples at once.
        middle = weight.shape[DEPTH] // 2
        every = features[:, :, :: stride[0]].contiguous(memory_format=LAST)
        planes = F.conv2d(_planes_of(every), weight[:, :, middle], bias, flat, padding, groups=groups)
        found = _volume_of(planes.contiguous(memory_format=FLAT_LAST), len(features))
        for sample, place, (source, target) in _outer_planes(features.shape, weight, stride[0]):
            shown = features[sample].transpose(0, 1)[source]
            part = F.conv2d(shown, weight[:, :, place], None, flat, padding, groups=groups)
            found[sample].transpose(0, 1)[target] += part
        return found

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        features, weight = ctx.saved_tensors
        gradient = gradient.contiguous(memory_format=LAST)
        step, middle = ctx.stride[0], weight.shape[DEPTH] // 2
        wanted = [bool(one) for one in ctx.needs_input_grad[:3]]
        every = features[:, :, ::step].contiguous(memory_format=LAST)
        pair = _planes_of(gradient), _planes_of(every)
        moved, of_weight, of_bias = _plane_gradients(pair, weight[:, :, middle], ctx.stride, wanted)
        of_weights, of_features = torch.zeros_like(weight), None
        of_weights[:, :, middle] = 0 if of_weight is None else of_weight
        if moved is not None:
            of_features = _spread_planes(_volume_of(moved, len(features)), features, step)
        for sample, place, (source, target) in _outer_planes(features.shape, weight, step):
            pair = gradient[sample].transpose(0, 1)[target], features[sample].transpose(0, 1)[source]
            moved, of_weight, _ = _plane_gradients(pair, weight[:, :, place], ctx.stride, [*wanted[:2], False])
            if of_weight is not None:
                of_weights[:, :, place] += of_weight
            if of_features is not None and moved is not None:
                of_features[sample].transpose(0, 1)[source] += moved
        return of_features, of_weights if wanted[1] else None, of_bias, None


def _plane_gradients(
    pair: tuple[Tensor, Tensor], weight: Tensor, stride: Axes, wanted: list[bool]
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Return gradients of planes, weight and bias from that of a convolution of planes; those that are wanted."""
    gradient, planes = (one.contiguous(memory_format=FLAT_LAST) for one in pair)
    groups, padding = len(weight), padding_of(weight)
    bias_sizes = [groups] if wanted[2] else None
    found = torch.ops.aten.convolution_backward(
        gradient, planes, weight, bias_sizes, stride[1:], padding, (1, 1), False, (0, 0), groups, wanted
    )
    return cast(tuple[Tensor | None, Tensor | None, Tensor | None], found)


def _spread_planes(volume: Tensor, like: Tensor, step: int) -> Tensor:
    """Return the gradients of every `step`-th plane among zeros for the others; the volume itself if there are no others."""
    if step == 1:
        return volume.contiguous(memory_format=LAST)
    spread = torch.zeros_like(like)
    spread[:, :, ::step] = volume
    return spread
