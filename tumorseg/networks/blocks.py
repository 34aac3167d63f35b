"""Blocks that U-Nets are made of, for two or three axes."""

from collections.abc import Callable
from typing import cast

from torch import Tensor, nn

from tumorseg.networks.normalised import normalised_activation
from tumorseg.schema.networks import Axes, UNetTopology

Channels = tuple[int, int]
"""Channels in and out."""

# Callable[..., …] because torch types sizes as tuples of exactly 2 or 3; the record has checked the number of axes.
_CONVOLUTIONS: dict[int, Callable[..., nn.Module]] = {2: nn.Conv2d, 3: nn.Conv3d}
_TRANSPOSED: dict[int, Callable[..., nn.Module]] = {2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
_NORMS: dict[int, Callable[..., nn.Module]] = {2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d}
_POOLS: dict[int, Callable[..., nn.Module]] = {2: nn.AvgPool2d, 3: nn.AvgPool3d}
_CONVOLUTION_CLASSES = (nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d, nn.ConvTranspose3d)


def conv_norm(
    spec: UNetTopology, channels: Channels, *, kernel_size: Axes, stride: Axes, bias: bool = True
) -> nn.Sequential:
    """Return a convolution that keeps the size (but for the stride), then an affine instance normalisation."""
    padding = tuple(size // 2 for size in kernel_size)
    convolution = _CONVOLUTIONS[spec.num_axes](*channels, kernel_size, stride, padding, bias=bias)
    return nn.Sequential(convolution, _NORMS[spec.num_axes](channels[1], eps=spec.norm_eps, affine=True))


class ConvUnit(nn.Sequential):
    """Convolution, normalisation, leaky ReLU; the last two as one step."""

    def __init__(self, spec: UNetTopology, channels: Channels, *, kernel_size: Axes, stride: Axes) -> None:
        super().__init__(*conv_norm(spec, channels, kernel_size=kernel_size, stride=stride))
        self.negative_slope = spec.negative_slope

    def forward(self, features: Tensor) -> Tensor:
        """Map features (B, channels in, *space) to (B, channels out, *space / stride)."""
        return normalised_activation(self[1], self[0](features), self.negative_slope)


def conv_unit(spec: UNetTopology, channels: Channels, *, kernel_size: Axes, stride: Axes) -> ConvUnit:
    """Return convolution, normalisation, leaky ReLU."""
    return ConvUnit(spec, channels, kernel_size=kernel_size, stride=stride)


def conv_stack(spec: UNetTopology, channels: Channels, *, count: int, kernel_size: Axes, stride: Axes) -> nn.Sequential:
    """Return `count` convolution units, the first of which changes channels and size."""
    first = conv_unit(spec, channels, kernel_size=kernel_size, stride=stride)
    same, once = (channels[1], channels[1]), (1,) * spec.num_axes
    return nn.Sequential(
        first, *(conv_unit(spec, same, kernel_size=kernel_size, stride=once) for _ in range(count - 1))
    )


class ResidualBlock(nn.Module):
    """Two convolutions beside a shortcut that is pooled and projected only where size or channels change.

    References:
        He et al., Bag of tricks for image classification with convolutional neural networks, CVPR 2019 (ResNet-D).
    """

    def __init__(self, spec: UNetTopology, channels: Channels, *, kernel_size: Axes, stride: Axes) -> None:
        super().__init__()
        once = (1,) * spec.num_axes
        self.first = conv_unit(spec, channels, kernel_size=kernel_size, stride=stride)
        self.second = conv_norm(spec, (channels[1], channels[1]), kernel_size=kernel_size, stride=once)
        self.shortcut = nn.Sequential()  # the identity, while it is empty
        if stride != once:
            self.shortcut.append(_POOLS[spec.num_axes](stride, stride))
        if channels[0] != channels[1]:
            # nnU-Net's has no bias either, and its weights have to fit.
            self.shortcut.append(conv_norm(spec, channels, kernel_size=once, stride=once, bias=False))
        self.negative_slope = spec.negative_slope

    def forward(self, features: Tensor) -> Tensor:
        """Map features (B, channels in, *space) to (B, channels out, *space / stride)."""
        convolution, norm = self.second
        return normalised_activation(
            norm,
            convolution(self.first(features)),
            self.negative_slope,
            added=self.shortcut(features),
        )


def residual_stack(
    spec: UNetTopology, channels: Channels, *, count: int, kernel_size: Axes, stride: Axes
) -> nn.Sequential:
    """Return `count` residual blocks, the first of which changes channels and size."""
    first = ResidualBlock(spec, channels, kernel_size=kernel_size, stride=stride)
    same, once = (channels[1], channels[1]), (1,) * spec.num_axes
    return nn.Sequential(
        first, *(ResidualBlock(spec, same, kernel_size=kernel_size, stride=once) for _ in range(count - 1))
    )


def upsampling(spec: UNetTopology, channels: Channels, stride: Axes) -> nn.Module:
    """Return the transposed convolution that undoes a stride: each voxel becomes one block of voxels."""
    return _TRANSPOSED[spec.num_axes](*channels, stride, stride)


def segmentation_head(spec: UNetTopology, channels: Channels) -> nn.Module:
    """Return the 1x1 convolution from features to logits."""
    return _CONVOLUTIONS[spec.num_axes](*channels, 1)


def initialize(network: nn.Module, negative_slope: float) -> None:
    """Draw all weights in place: He's normal ones, zero biases, residual blocks that start as their shortcut.

    References:
        He et al., Delving deep into rectifiers, ICCV 2015; Goyal et al., Accurate, large minibatch SGD, 2017
        (the zero scale of a residual block's last norm).
    """
    for module in network.modules():
        if isinstance(module, _CONVOLUTION_CLASSES):
            nn.init.kaiming_normal_(module.weight, a=negative_slope)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, ResidualBlock):
            nn.init.zeros_(cast(Tensor, module.second[1].weight))
