"""Instance normalisation, what is added to it, and leaky ReLU, as one step of the backward pass.

Convolutions whose weights have their channels innermost, as on a CPU, return features in that order; torch's instance normalisation
would copy them into the usual one, and the next convolution copy them back, in both passes: a tenth of a training step. Here they are
normalised as they lie, sample by sample. What is kept for the backward pass is what the operations one by one would keep: the
convolution's result and the activation's.
"""

from typing import Any, NamedTuple, TypeGuard, cast

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

MOST_SAMPLES = 32
"""In larger batches of small patches a call for each sample would cost more than the copies."""


class _Constants(NamedTuple):
    eps: float
    negative_slope: float


def normalised_activation(
    norm: nn.Module, features: Tensor, negative_slope: float, *, added: Tensor | None = None
) -> Tensor:
    """Return leaky_relu(norm(features) + added).

    Args:
        norm: an instance normalisation, affine, without running statistics; anything else runs as it is.
        features: (B, C, *space).
        negative_slope: of the activation; not below 0, or its result would not tell what went in.
        added: of the same shape; nothing if None.
    """
    if torch.is_grad_enabled() and _is_plain(norm):
        constants = _Constants(norm.eps, negative_slope)
        step = _SampleBySample if _lies_channels_last(features) else _AsOneBatch
        taken = step.apply(features, norm.weight, norm.bias, added, constants)  # type: ignore[no-untyped-call]
        return cast(Tensor, taken)
    # As plain operations, which other engines know.
    found: Tensor = norm(features)
    # Where a gradient is wanted all the same, nothing may be written over that the backward pass looks at.
    may_write = not torch.is_grad_enabled()
    if added is not None:
        found = found.add_(added) if may_write else found + added
    return F.leaky_relu(found, negative_slope, inplace=may_write)


def _is_plain(norm: nn.Module) -> TypeGuard[nn.InstanceNorm2d | nn.InstanceNorm3d]:
    return isinstance(norm, nn.InstanceNorm2d | nn.InstanceNorm3d) and norm.affine and not norm.track_running_stats


def _lies_channels_last(features: Tensor) -> bool:
    # GPUs keep to the library that torch chooses for them, and a compiler to what it can fuse.
    if features.device.type != "cpu" or torch.compiler.is_compiling():
        return False
    if len(features) > MOST_SAMPLES or features.is_contiguous():
        return False
    order = torch.channels_last if features.ndim == 4 else torch.channels_last_3d
    return features.is_contiguous(memory_format=order)


def _activated(normed: Tensor, added: Tensor | None, slope: float) -> Tensor:
    """Finish a result in place."""
    if added is not None:
        normed += added
    return F.leaky_relu_(normed, slope)


def _passed_activation(gradient: Tensor, found: Tensor, slope: float) -> Tensor:
    # The sign of the result is that of what went in.
    return cast(Tensor, torch.ops.aten.leaky_relu_backward(gradient, found, slope, True))


class _AsOneBatch(torch.autograd.Function):
    """As torch's `instance_norm`: the channels of all samples are channels of one batch."""

    @staticmethod
    def forward(
        ctx: Any, features: Tensor, weight: Tensor, bias: Tensor, added: Tensor | None, constants: _Constants
    ) -> Tensor:
        count = len(features)
        rows = features.contiguous().view(1, -1, *features.shape[2:])
        scale = weight.repeat(count)
        is_fast = torch.backends.cudnn.enabled
        normed, mean, inverse_std, reserve, implementation = torch._batch_norm_impl_index(
            rows, scale, bias.repeat(count), None, None, True, 0.0, constants.eps, is_fast
        )
        found = _activated(normed.view(features.shape), added, constants.negative_slope)
        ctx.save_for_backward(rows, found, scale, mean, inverse_std, reserve)
        ctx.constants, ctx.implementation, ctx.has_added = constants, implementation, added is not None
        return found

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        rows, found, scale, mean, inverse_std, reserve = ctx.saved_tensors
        passed = _passed_activation(gradient, found, ctx.constants.negative_slope)
        shaped = passed.contiguous().view(rows.shape)
        stored = (scale, None, None, mean, inverse_std, True, ctx.constants.eps, [True, True, True], reserve)
        moved, scales, shifts = torch.ops.aten._batch_norm_impl_index_backward(
            ctx.implementation, rows, shaped, *stored
        )
        count = len(gradient)
        weight, bias = scales.view(count, -1).sum(0), shifts.view(count, -1).sum(0)
        return moved.view(gradient.shape), weight, bias, passed if ctx.has_added else None, None


class _SampleBySample(torch.autograd.Function):
    """Features stay in the order in which they lie."""

    @staticmethod
    def forward(
        ctx: Any, features: Tensor, weight: Tensor, bias: Tensor, added: Tensor | None, constants: _Constants
    ) -> Tensor:
        normed = torch.empty_like(features)
        statistics = torch.empty(2, len(features), features.shape[1], dtype=weight.dtype)
        for number in range(len(features)):
            sample = slice(number, number + 1)
            of_sample = (normed[sample], statistics[0, number], statistics[1, number])
            torch.native_batch_norm(features[sample], weight, bias, None, None, True, 0.0, constants.eps, out=of_sample)
        found = _activated(normed, added, constants.negative_slope)
        ctx.save_for_backward(features, found, weight, statistics)
        ctx.constants, ctx.has_added = constants, added is not None
        return found

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        features, found, weight, statistics = ctx.saved_tensors
        order = torch.channels_last if gradient.ndim == 4 else torch.channels_last_3d
        gradient = gradient.contiguous(memory_format=order)
        passed = _passed_activation(gradient, found, ctx.constants.negative_slope)
        moved = torch.empty_like(features)
        scales, shifts = torch.zeros(2, features.shape[1], dtype=weight.dtype)
        for number in range(len(features)):
            sample = slice(number, number + 1)
            known = (weight, None, None, statistics[0, number], statistics[1, number], True, ctx.constants.eps)
            moved[sample], scale, shift = torch.ops.aten.native_batch_norm_backward(
                passed[sample], features[sample], *known, [True, True, True]
            )
            scales += scale
            shifts += shift
        return moved, scales, shifts, passed if ctx.has_added else None, None
