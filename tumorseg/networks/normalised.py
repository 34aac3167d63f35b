"""Instance normalisation, what is added to it, and (leaky) ReLU, as one step of the backward pass.

Convolutions whose weights have their channels innermost, as on a CPU, return features in that order; torch's instance normalisation
would copy them into the usual one, and the next convolution copy them back, in both passes: a tenth of a training step. Here they are
normalised as they lie, sample by sample; torch's group normalisation of single channels, which is the same, would take six times as
long in its backward pass. What is kept for the backward pass is what the operations one by one would keep: the convolution's result and
the activation's.
"""

from typing import Any, NamedTuple, TypeGuard, cast

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from tumorseg.networks.channels_last import lies_channels_last, memory_format
from tumorseg.networks.layers import Activation

MOST_SAMPLES = 32
"""In larger batches of small patches a call for each sample would cost more than the copies."""


class _Constants(NamedTuple):
    eps: float
    negative_slope: float


def normalised_activation(
    norm: nn.Module, features: Tensor, activation: Activation, *, added: Tensor | None = None
) -> Tensor:
    """Return activation(norm(features) + added).

    Args:
        norm: a normalisation; an affine one of instances without running statistics is one step with a (leaky) ReLU.
        features: (B, C, *space).
        activation: what comes after it.
        added: of the same shape; nothing if None.
    """
    slope = activation.kept_slope
    if torch.is_grad_enabled() and _is_plain(norm) and slope is not None:
        constants = _Constants(norm.eps, slope)
        step = _SampleBySample if _is_for_samples(features) else _AsOneBatch
        taken = step.apply(features, norm.weight, norm.bias, added, constants)  # type: ignore[no-untyped-call]
        return cast(Tensor, taken)
    found = normalised(norm, features)
    if added is not None:
        found = found + added if torch.is_grad_enabled() else found.add_(added)
    # Neither a normalisation nor a sum looks at its own result in the backward pass.
    return activation(found, may_write=found is not features)


def normalised(norm: nn.Module, features: Tensor) -> Tensor:
    """Return norm(features); on a CPU, features with their channels innermost are kept so.

    Args:
        norm: a normalisation.
        features: (B, C, *space).
    """
    if torch.is_grad_enabled() and _is_for_samples(features) and (_is_plain(norm) or _has_groups_of_one(norm)):
        taken = _Alone.apply(features, norm.weight, norm.bias, norm.eps)  # type: ignore[no-untyped-call]
        return cast(Tensor, taken)
    # As a plain operation, which other engines know.
    return cast(Tensor, norm(features))


def _is_plain(norm: nn.Module) -> TypeGuard[nn.InstanceNorm2d | nn.InstanceNorm3d]:
    return isinstance(norm, nn.InstanceNorm2d | nn.InstanceNorm3d) and norm.affine and not norm.track_running_stats


def _has_groups_of_one(norm: nn.Module) -> TypeGuard[nn.GroupNorm]:
    return isinstance(norm, nn.GroupNorm) and norm.num_groups == norm.num_channels and norm.affine


def _is_for_samples(features: Tensor) -> bool:
    return len(features) <= MOST_SAMPLES and lies_channels_last(features)


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


class _Normed(NamedTuple):
    """Samples that were normalised one by one."""

    features: Tensor
    """In the order in which they were given."""
    statistics: Tensor
    """Means and inverse deviations (2, B, C)."""


def _normalised_samples(features: Tensor, weight: Tensor, bias: Tensor, eps: float) -> _Normed:
    normed = torch.empty_like(features)
    statistics = torch.empty(2, len(features), features.shape[1], dtype=weight.dtype)
    for number in range(len(features)):
        sample = slice(number, number + 1)
        of_sample = (normed[sample], statistics[0, number], statistics[1, number])
        torch.native_batch_norm(features[sample], weight, bias, None, None, True, 0.0, eps, out=of_sample)
    return _Normed(normed, statistics)


def _sample_gradients(gradient: Tensor, given: _Normed, weight: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    """Return gradients of features, weight and bias; what is given are the features before their normalisation."""
    features, statistics = given
    moved = torch.empty_like(features)
    scales, shifts = torch.zeros(2, features.shape[1], dtype=weight.dtype)
    for number in range(len(features)):
        sample = slice(number, number + 1)
        known = (weight, None, None, statistics[0, number], statistics[1, number], True, eps)
        moved[sample], scale, shift = torch.ops.aten.native_batch_norm_backward(
            gradient[sample], features[sample], *known, [True, True, True]
        )
        scales += scale
        shifts += shift
    return moved, scales, shifts


class _Alone(torch.autograd.Function):
    """Sample by sample, with nothing after it."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
        normed = _normalised_samples(features, weight, bias, eps)
        ctx.save_for_backward(features, weight, normed.statistics)
        ctx.eps = eps
        return normed.features

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        features, weight, statistics = ctx.saved_tensors
        gradient = gradient.contiguous(memory_format=memory_format(gradient))
        return *_sample_gradients(gradient, _Normed(features, statistics), weight, ctx.eps), None


class _SampleBySample(torch.autograd.Function):
    """Features stay in the order in which they lie."""

    @staticmethod
    def forward(
        ctx: Any, features: Tensor, weight: Tensor, bias: Tensor, added: Tensor | None, constants: _Constants
    ) -> Tensor:
        normed = _normalised_samples(features, weight, bias, constants.eps)
        found = _activated(normed.features, added, constants.negative_slope)
        ctx.save_for_backward(features, found, weight, normed.statistics)
        ctx.constants, ctx.has_added = constants, added is not None
        return found

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        features, found, weight, statistics = ctx.saved_tensors
        gradient = gradient.contiguous(memory_format=memory_format(gradient))
        passed = _passed_activation(gradient, found, ctx.constants.negative_slope)
        gradients = _sample_gradients(passed, _Normed(features, statistics), weight, ctx.constants.eps)
        return *gradients, passed if ctx.has_added else None, None
