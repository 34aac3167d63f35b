"""Forms of depthwise convolutions of three axes that give the same result, for `benchmarks.networks` to compare."""

from collections.abc import Callable, Iterator, Mapping
from itertools import product
from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from tumorseg.networks.depthwise import LAST, by_planes, overlap_of, padding_of, spread
from tumorseg.schema.networks import Axes

Form = Callable[[Tensor, Tensor, Tensor, Axes], Tensor]
"""(features (B, C, *space), weight (C, 1, *kernel), bias (C,), stride) -> (B, C, *space / stride, rounded up)."""


def by_torch(features: Tensor, weight: Tensor, bias: Tensor, stride: Axes) -> Tensor:
    """Convolve as torch does, in the order in which the features lie."""
    return F.conv3d(features, weight, bias, stride, padding_of(weight), groups=len(weight))


def by_torch_last(features: Tensor, weight: Tensor, bias: Tensor, stride: Axes) -> Tensor:
    """Convolve as torch does, channels last."""
    return by_torch(features.contiguous(memory_format=LAST), weight, bias, stride)


def by_shifts(features: Tensor, weight: Tensor, bias: Tensor, stride: Axes) -> Tensor:
    """Add up shifted features, one for each place of the kernel."""
    return cast(Tensor, _Shifts.apply(features, weight, bias, stride))  # type: ignore[no-untyped-call]


FORMS: Mapping[str, Form] = {
    "torch": by_torch,
    "torch_last": by_torch_last,
    "planes": by_planes,
    "shifts": by_shifts,
}
"""By name; networks have `planes`."""


def transposed(form: Form, features: Tensor, weight: Tensor, bias: Tensor, stride: Axes) -> Tensor:
    """Return what a transposed depthwise convolution gives: (B, C, *((space - 1) * stride + 1))."""
    return form(spread(features, stride), weight.flip(2, 3, 4), bias, (1, 1, 1))


def _index(of_axes: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return an index of the last axes of a tensor."""
    return (..., *of_axes)


def _places(sizes: torch.Size, weight: Tensor, stride: Axes) -> Iterator[tuple[Axes, tuple[Any, ...], tuple[Any, ...]]]:
    """Yield each place of a kernel with the voxels of features and result that meet there, the middle first."""
    edges = weight.shape[2:]
    middle = padding_of(weight)
    others = [place for place in product(*map(range, edges)) if place != middle]
    for place in (middle, *others):
        axes = zip(sizes[2:], place, edges, stride, strict=True)
        overlaps = [overlap_of(*axis) for axis in axes]
        found = [overlap for overlap in overlaps if overlap is not None]
        if len(found) == len(overlaps):
            sources, targets = zip(*found, strict=True)
            yield place, _index(sources), _index(targets)


class _Shifts(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, features: Tensor, weight: Tensor, bias: Tensor, stride: Axes) -> Tensor:
        ctx.save_for_backward(features, weight)
        ctx.stride = stride
        found = None
        for place, source, target in _places(features.shape, weight, stride):
            factor = weight[:, 0][_index(place)].view(-1, 1, 1, 1)
            if found is None:
                # The middle of the kernel meets every voxel of the result.
                found = torch.addcmul(bias.view(-1, 1, 1, 1), features[source], factor)
            else:
                found[target].addcmul_(features[source], factor)
        return cast(Tensor, found)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        features, weight = ctx.saved_tensors
        of_features, of_weight = torch.zeros_like(features), torch.zeros_like(weight)
        for place, source, target in _places(features.shape, weight, ctx.stride):
            factor = weight[:, 0][_index(place)].view(-1, 1, 1, 1)
            of_features[source].addcmul_(gradient[target], factor)
            of_weight[:, 0][_index(place)] = (gradient[target] * features[source]).sum((0, 2, 3, 4))
        return of_features, of_weight, gradient.sum((0, 2, 3, 4)), None
