"""Blocks that U-Nets are made of, for two or three axes."""

from collections.abc import Callable
from typing import cast

from torch import Tensor, nn

from tumorseg.networks.attention import attention_of
from tumorseg.networks.layers import CONVOLUTIONS, TRANSPOSED, activation_of, dropped, norm_of, passed_over
from tumorseg.networks.normalised import normalised, normalised_activation
from tumorseg.schema.networks import Axes, OwnUNet

Channels = tuple[int, int]
"""Channels in and out."""

_POOLS: dict[int, Callable[..., nn.Module]] = {2: nn.AvgPool2d, 3: nn.AvgPool3d}
_CONVOLUTION_CLASSES = (nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d, nn.ConvTranspose3d)


def conv_norm(
    spec: OwnUNet, channels: Channels, *, kernel_size: Axes, stride: Axes, bias: bool = True
) -> nn.Sequential:
    """Return a convolution that keeps the size (but for the stride), then a normalisation with scales and shifts."""
    padding = tuple(size // 2 for size in kernel_size)
    convolution = CONVOLUTIONS[spec.num_axes](*channels, kernel_size, stride, padding, bias=bias)
    return nn.Sequential(convolution, norm_of(spec, channels[1]))


class ConvUnit(nn.Sequential):
    """Convolution, normalisation, activation; the last two as one step where they can be."""

    def __init__(self, spec: OwnUNet, channels: Channels, *, kernel_size: Axes, stride: Axes) -> None:
        super().__init__(*conv_norm(spec, channels, kernel_size=kernel_size, stride=stride))
        self.activation, self.dropout = activation_of(spec), spec.dropout

    def forward(self, features: Tensor) -> Tensor:
        """Map features (B, channels in, *space) to (B, channels out, *space / stride)."""
        found = normalised_activation(self[1], self[0](features), self.activation)
        return dropped(found, self.dropout, is_training=self.training)


def conv_unit(spec: OwnUNet, channels: Channels, *, kernel_size: Axes, stride: Axes) -> ConvUnit:
    """Return convolution, normalisation, activation."""
    return ConvUnit(spec, channels, kernel_size=kernel_size, stride=stride)


def conv_stack(spec: OwnUNet, channels: Channels, *, count: int, kernel_size: Axes, stride: Axes) -> nn.Sequential:
    """Return `count` convolution units, the first of which changes channels and size, and the attention after them."""
    same, once = (channels[1], channels[1]), (1,) * spec.num_axes
    stack = nn.Sequential(conv_unit(spec, channels, kernel_size=kernel_size, stride=stride))
    for _ in range(count - 1):
        stack.append(conv_unit(spec, same, kernel_size=kernel_size, stride=once))
    if (attention := attention_of(spec, channels[1])) is not None:
        # By a name, so that units keep their numbers.
        stack.add_module("attention", attention)
    return stack


class ResidualBlock(nn.Module):
    """Two convolutions beside a shortcut that is pooled and projected only where size or channels change.

    An attention weights what lies between the convolutions: after the second one's normalisation, all means would be alike.

    References:
        He et al., Bag of tricks for image classification with convolutional neural networks, CVPR 2019 (ResNet-D).
    """

    def __init__(self, spec: OwnUNet, channels: Channels, *, kernel_size: Axes, stride: Axes) -> None:
        super().__init__()
        once = (1,) * spec.num_axes
        # Channels are dropped after a block, not within it.
        self.first = conv_unit(spec.changed(dropout=0.0), channels, kernel_size=kernel_size, stride=stride)
        self.second = conv_norm(spec, (channels[1], channels[1]), kernel_size=kernel_size, stride=once)
        self.shortcut = nn.Sequential()  # the identity, while it is empty
        if stride != once:
            self.shortcut.append(_POOLS[spec.num_axes](stride, stride))
        if channels[0] != channels[1]:
            # nnU-Net's has no bias either, and its weights have to fit.
            self.shortcut.append(conv_norm(spec, channels, kernel_size=once, stride=once, bias=False))
        self.attention = attention_of(spec, channels[1])
        self.activation, self.dropout = activation_of(spec), spec.dropout
        self.stochastic_depth = spec.stochastic_depth

    def forward(self, features: Tensor) -> Tensor:
        """Map features (B, channels in, *space) to (B, channels out, *space / stride)."""
        convolution, norm = self.second
        hidden = self.first(features)
        convolved = convolution(hidden if self.attention is None else self.attention(hidden))
        if self.stochastic_depth == 0 or not self.training:
            found = normalised_activation(norm, convolved, self.activation, added=self.shortcut(features))
        else:
            branch = passed_over(normalised(norm, convolved), self.stochastic_depth, is_training=True)
            # A sum does not look at itself in the backward pass.
            found = self.activation(branch + self.shortcut(features), may_write=True)
        return dropped(found, self.dropout, is_training=self.training)


def residual_stack(spec: OwnUNet, channels: Channels, *, count: int, kernel_size: Axes, stride: Axes) -> nn.Sequential:
    """Return `count` residual blocks, the first of which changes channels and size."""
    first = ResidualBlock(spec, channels, kernel_size=kernel_size, stride=stride)
    same, once = (channels[1], channels[1]), (1,) * spec.num_axes
    return nn.Sequential(
        first, *(ResidualBlock(spec, same, kernel_size=kernel_size, stride=once) for _ in range(count - 1))
    )


def upsampling(spec: OwnUNet, channels: Channels, stride: Axes) -> nn.Module:
    """Return the transposed convolution that undoes a stride: each voxel becomes one block of voxels."""
    return TRANSPOSED[spec.num_axes](*channels, stride, stride)


def segmentation_head(spec: OwnUNet, channels: Channels) -> nn.Module:
    """Return the 1x1 convolution from features to logits."""
    return CONVOLUTIONS[spec.num_axes](*channels, 1)


def initialize(network: nn.Module, negative_slope: float) -> None:
    """Draw weights of convolutions in place: He's normal ones, zero biases, residual blocks that start as their shortcut.

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
