"""Convolutions of maps no larger than their kernel, in full precision where torch's bf16 gradients of them are wrong.

With torch 2.13 on processors with AVX512-BF16, the gradient of the weights of many such convolutions is added to memory that nothing
wrote, and some write beyond its end; benchmarks/bf16_convolutions.py shows which. Such maps have few voxels, so that float32 costs nothing.
"""

from collections.abc import Sequence
from contextvars import ContextVar
from typing import Any, cast

import torch
from torch import Tensor, nn

FOR_GPUS: ContextVar[bool] = ContextVar("for_gpus", default=False)
"""Whether the processor stands for a GPU, whose memory is counted."""


def is_unsafe(features: Tensor, space: Sequence[int], kernel: Sequence[int]) -> bool:
    """Tell whether autocast would have a processor compute a convolution in bf16 whose gradient may be wrong.

    Args:
        features: that it is of.
        space: edges of their maps; of the result for a transposed convolution, as its gradients are those of a plain one of that.
        kernel: edges of the convolution's.
    """
    if FOR_GPUS.get() or not torch.is_autocast_enabled("cpu") or not torch.is_grad_enabled():
        return False
    return features.device.type == "cpu" and any(
        size <= edge and edge > 1 for size, edge in zip(space, kernel, strict=True)
    )


def widened(network: nn.Module) -> nn.Module:
    """Return a network whose convolutions compute such maps in float32; its weights stay what and where they are."""
    for module in network.modules():
        # Not subclasses, whose forward pass is their own.
        if type(module) in WIDENED:
            module.__class__ = WIDENED[type(module)]
    return network


class _Widening(nn.Module):
    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:
        # torch types attributes of modules as tensors or modules.
        own = cast(Any, self)
        kernel = [step * (edge - 1) + 1 for edge, step in zip(own.kernel_size, own.dilation, strict=True)]
        space: list[int] = list(input.shape[-len(kernel) :])
        if own.transposed:
            for axis, (step, padding, extra) in enumerate(
                zip(own.stride, own.padding, own.output_padding, strict=True)
            ):
                space[axis] = (space[axis] - 1) * step - 2 * padding + kernel[axis] + extra
        if output_size is not None:
            space = output_size[-len(kernel) :]
        more = () if output_size is None else (output_size,)
        if own.weight.dtype != torch.float32 or not is_unsafe(input, space, kernel):
            return cast(Tensor, super().forward(input, *more))
        dtype = torch.get_autocast_dtype("cpu")
        with torch.autocast("cpu", enabled=False):
            return cast(Tensor, super().forward(input.float(), *more).to(dtype))


class _Conv2d(_Widening, nn.Conv2d):
    pass


class _Conv3d(_Widening, nn.Conv3d):
    pass


class _ConvTranspose2d(_Widening, nn.ConvTranspose2d):
    pass


class _ConvTranspose3d(_Widening, nn.ConvTranspose3d):
    pass


WIDENED: dict[type[nn.Module], type[nn.Module]] = {
    nn.Conv2d: _Conv2d,
    nn.Conv3d: _Conv3d,
    nn.ConvTranspose2d: _ConvTranspose2d,
    nn.ConvTranspose3d: _ConvTranspose3d,
}
