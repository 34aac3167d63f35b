"""Normalisations, activations and what is left out at random, as a plan names them."""

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tumorseg.schema.networks import MedNext, OwnUNet

Spec = OwnUNet | MedNext
"""Networks whose parts are fields of the plan."""
# Callable[..., …] because torch types sizes as tuples of exactly 2 or 3; the record has checked the number of axes.
CONVOLUTIONS: dict[int, Callable[..., nn.Module]] = {2: nn.Conv2d, 3: nn.Conv3d}
"""By the number of axes."""
TRANSPOSED: dict[int, Callable[..., nn.Module]] = {2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
"""By the number of axes."""
_INSTANCE: dict[int, Callable[..., nn.Module]] = {2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d}
_BATCH: dict[int, Callable[..., nn.Module]] = {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
_DROPOUT: dict[int, Callable[..., Tensor]] = {2: F.dropout2d, 3: F.dropout3d}


class ChannelNorm(nn.Module):
    """Layer normalisation over the channels of each voxel.

    References:
        Ba et al., Layer normalization, 2016; Liu et al., A ConvNet for the 2020s, CVPR 2022.
    """

    def __init__(self, channels: int, eps: float) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, features: Tensor) -> Tensor:
        """Map features (B, C, *space) to others of the same shape and order in memory."""
        rows = features.movedim(1, -1).contiguous()
        found = F.layer_norm(rows, self.weight.shape, self.weight, self.bias, self.eps).movedim(-1, 1)
        return found.contiguous() if features.is_contiguous() else found


def norm_of(spec: Spec, channels: int) -> nn.Module:
    """Return the normalisation of so many channels, with a scale and a shift for each."""
    if spec.norm == "group":
        return nn.GroupNorm(math.gcd(spec.norm_groups, channels), channels, eps=spec.norm_eps)
    if spec.norm == "layer":
        return ChannelNorm(channels, spec.norm_eps)
    if spec.norm == "batch":
        return _BATCH[spec.num_axes](channels, eps=spec.norm_eps)
    return _INSTANCE[spec.num_axes](channels, eps=spec.norm_eps, affine=True)


class Activation(NamedTuple):
    """An activation function."""

    name: str
    """As in the plan."""
    negative_slope: float
    """Of the leaky ReLU below 0."""

    @property
    def kept_slope(self) -> float | None:
        """Return the slope below 0, of functions whose result tells what went in; None for others."""
        return {"leaky_relu": self.negative_slope, "relu": 0.0}.get(self.name)

    def __call__(self, features: Tensor, *, may_write: bool = False) -> Tensor:
        """Return the activated features; where it helps and it may, the function writes over them."""
        return ACTIVATIONS[self.name](features, self.negative_slope, may_write)


ACTIVATIONS: Mapping[str, Callable[[Tensor, float, bool], Tensor]] = {
    "leaky_relu": lambda features, slope, may_write: F.leaky_relu(features, slope, inplace=may_write),
    "relu": lambda features, _, may_write: F.relu(features, inplace=may_write),
    # Their gradients need what went in, so that writing over it saves nothing.
    "gelu": lambda features, *_: F.gelu(features),
    "silu": lambda features, *_: F.silu(features),
}
"""By name: features, slope below 0, whether the features may be written over."""


def activation_of(spec: Spec) -> Activation:
    """Return the activation of a network."""
    return Activation(spec.activation, spec.negative_slope)


def dropped(features: Tensor, chance: float, *, is_training: bool) -> Tensor:
    """Set channels (B, C, *space) to 0 at random, and strengthen the others, so that the mean stays.

    References:
        Tompson et al., Efficient object localization using convolutional networks, CVPR 2015.
    """
    if chance == 0 or not is_training:
        return features
    return _DROPOUT[features.ndim - 2](features, chance)


def passed_over(added: Tensor, chance: float, *, is_training: bool) -> Tensor:
    """Leave out what is added to some samples, and strengthen it in the others, so that its mean stays.

    References:
        Huang et al., Deep networks with stochastic depth, ECCV 2016.
    """
    if chance == 0 or not is_training:
        return added
    shape = (len(added), *(1 for _ in added.shape[1:]))
    kept = torch.rand(shape, device=added.device) >= chance
    return added * (kept / (1 - chance)).to(added.dtype)


def spread_chances(blocks: Iterable[nn.Module], most: float) -> None:
    """Let the chance of being passed over rise linearly from block to block, up to that of the last one."""
    listed = list(blocks)
    for number, block in enumerate(listed, start=1):
        block.stochastic_depth = cast(Any, most * number / len(listed))  # torch types attributes as tensors or modules
