"""MedNeXt: depthwise convolutions, between which features are expanded and compressed, in the shape of a U-Net.

References:
    Roy et al., MedNeXt: transformer-driven scaling of ConvNets for medical image segmentation, MICCAI 2023.
"""

from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tumorseg.networks.attention import attention_of, gates_of
from tumorseg.networks.channels_last import lies_channels_last, memory_format, on_rows
from tumorseg.networks.depthwise import depthwise
from tumorseg.networks.encoder_decoder import EncoderDecoder
from tumorseg.networks.layers import (
    CONVOLUTIONS,
    TRANSPOSED,
    activation_of,
    dropped,
    norm_of,
    passed_over,
    spread_chances,
)
from tumorseg.networks.normalised import normalised
from tumorseg.schema.networks import Axes, MedNext

Channels = tuple[int, int]
"""Channels in and out."""
_FUNCTIONS: dict[int, Callable[..., Tensor]] = {2: F.conv2d, 3: F.conv3d}


class GlobalResponseNorm(nn.Module):
    """Strengthens the channels that respond more than others over the whole patch.

    References:
        Woo et al., ConvNeXt V2, CVPR 2023.
    """

    def __init__(self, channels: int, num_axes: int) -> None:
        super().__init__()
        self.axes = tuple(range(2, 2 + num_axes))
        shape = (1, channels, *(1 for _ in self.axes))
        # Both begin at 0, so that a new one changes nothing.
        self.scale = nn.Parameter(torch.zeros(shape))
        self.shift = nn.Parameter(torch.zeros(shape))

    def forward(self, features: Tensor) -> Tensor:
        """Map features (B, C, *space) to others of the same shape."""
        response = torch.linalg.vector_norm(features, dim=self.axes, keepdim=True)
        # Autocast takes norms in float32, and would then keep all that is multiplied by them so.
        relative = (response / (response.mean(dim=1, keepdim=True) + 1e-6)).to(features.dtype)
        strengthened: Tensor = self.scale * (features * relative) + self.shift + features
        return strengthened


class Block(nn.Module):
    """Depthwise convolution, normalisation, expansion, activation and compression, beside the features as they are."""

    def __init__(self, spec: MedNext, channels: Channels, expansion: int, spatial: nn.Module) -> None:
        """Put a block around its depthwise convolution, which may change the size."""
        super().__init__()
        convolution, before = CONVOLUTIONS[spec.num_axes], channels[0]
        self.spatial = spatial
        # As published: groups of one channel, which are instances.
        is_published = spec.norm == "instance"
        self.norm = nn.GroupNorm(before, before, eps=spec.norm_eps) if is_published else norm_of(spec, before)
        self.expand = convolution(before, expansion * before, 1)
        has_response = spec.global_response_norm
        self.response = GlobalResponseNorm(expansion * before, spec.num_axes) if has_response else nn.Identity()
        self.compress = convolution(expansion * before, channels[1], 1)
        self.attention = attention_of(spec, channels[1])
        self.activation, self.dropout = activation_of(spec), spec.dropout
        self.stochastic_depth = spec.stochastic_depth

    def branch(self, features: Tensor) -> Tensor:
        """Return what is added to the features."""
        normed = normalised(self.norm, depthwise(self.spatial, features))
        if lies_channels_last(normed):
            found = self._mixed_by_rows(normed.movedim(1, -1)).movedim(-1, 1)
        else:
            # A convolution does not look at its own result in the backward pass.
            widened = self.activation(self.expand(normed), may_write=True)
            found = self.compress(self.response(widened))
        return found if self.attention is None else cast(Tensor, self.attention(found))

    def _mixed_by_rows(self, rows: Tensor) -> Tensor:
        """Expand, activate and compress features that lie in this order: products of matrices are faster than convolutions."""
        widened = self.activation(on_rows(self.expand, rows), may_write=False)
        responding = self.response(widened.movedim(-1, 1)).movedim(1, -1)
        return on_rows(self.compress, responding)

    def forward(self, features: Tensor) -> Tensor:
        """Map features (B, C, *space) to others of the same shape."""
        added = passed_over(self.branch(features), self.stochastic_depth, is_training=self.training)
        return dropped(features + added, self.dropout, is_training=self.training)


class DownBlock(Block):
    """The same with strides; the shortcut is a convolution of every so many single voxels."""

    def __init__(self, spec: MedNext, channels: Channels, level: int) -> None:
        """Make the way down into a stage."""
        kernel, stride = spec.kernel_sizes[level], spec.strides[level]
        super().__init__(spec, channels, spec.expansion_per_stage[level], _spatial(channels[0], kernel, stride))
        self.shortcut = CONVOLUTIONS[spec.num_axes](*channels, 1)
        self.every = _every(stride)

    def forward(self, features: Tensor) -> Tensor:
        """Map features (B, channels in, *space) to (B, channels out, *space / stride)."""
        # Picked here, not by a strided convolution: with those of single voxels that lie channels last, backward passes crashed (torch
        # 2.13, AVX2, 4 channels of planes), by all appearances in oneDNN.
        found = self.branch(features) + cast(Tensor, self.shortcut(features[self.every]))
        return dropped(found, self.dropout, is_training=self.training)


class UpBlock(Block):
    """The same with transposed convolutions, whose results lack the first voxels: zeros stand for them."""

    def __init__(self, spec: MedNext, channels: Channels, level: int) -> None:
        """Make the way up from a stage, undoing its strides."""
        kernel, stride = spec.kernel_sizes[level], spec.strides[level]
        # The decoder's stages come after the bottleneck's, the coarsest first.
        expansion = spec.expansion_per_stage[2 * spec.num_stages - 1 - level]
        super().__init__(spec, channels, expansion, _spatial(channels[0], kernel, stride, is_transposed=True))
        self.shortcut = CONVOLUTIONS[spec.num_axes](*channels, 1)
        self.every = _every(stride)
        # From the last axis to the first, before and after.
        self.padding: list[int] = []
        for step in reversed(stride):
            self.padding += (step - 1, 0)

    def forward(self, features: Tensor) -> Tensor:
        """Map features (B, channels in, *space) to (B, channels out, *space * stride)."""
        raised = self.branch(features)
        weight, bias = cast(Tensor, self.shortcut.weight), cast(Tensor, self.shortcut.bias)
        # As a transposed convolution of single voxels: its bias is added between them too.
        raised = (raised.movedim(1, -1) + bias.to(raised.dtype)).movedim(-1, 1)
        raised[self.every].add_(_FUNCTIONS[len(self.every) - 1](features, weight))
        return dropped(F.pad(raised, self.padding), self.dropout, is_training=self.training)


class MedNextNetwork(EncoderDecoder):
    """Stages of blocks, each but the first entered through a block that changes size and features."""

    has_bottleneck_head = True

    def __init__(self, spec: MedNext, *, num_channels: int, num_outputs: int) -> None:
        super().__init__(spec)
        self.draws_random_numbers = max(spec.dropout, spec.stochastic_depth) > 0
        self.channels_last = False
        """Whether features are kept channels last, as CPUs are fast with."""
        convolution, features = CONVOLUTIONS[spec.num_axes], spec.features_per_stage
        self.stem = convolution(num_channels, features[0], 1)
        self.stages = nn.ModuleList(_encoder_stage(spec, level) for level in range(spec.num_stages))
        levels = range(spec.num_stages - 2, -1, -1)
        self.upsamplings = nn.ModuleList(
            UpBlock(spec, (features[level + 1], features[level]), level + 1) for level in levels
        )
        self.decoder = nn.ModuleList(nn.Sequential(*_blocks(spec, level, is_decoder=True)) for level in levels)
        self.gates = gates_of(spec)
        self.heads = nn.ModuleList(convolution(width, num_outputs, 1) for width in features[: spec.num_supervised])
        spread_chances(_passable(chain(self.stages, self.decoder)), spec.stochastic_depth)

    @staticmethod
    def join(upsampled: Tensor, skip: Tensor) -> Tensor:
        """Return the sum of both."""
        return upsampled + skip

    def _begin(self, images: Tensor) -> Tensor:
        features = super()._begin(images)
        if not self.channels_last:
            return features
        # Once they lie so, all that is made of them does.
        return features.contiguous(memory_format=memory_format(features))


def mednext(spec: MedNext, *, num_channels: int, num_outputs: int) -> MedNextNetwork:
    """Return a MedNeXt with fresh weights, drawn as torch draws them.

    Args:
        spec: the topology.
        num_channels: C, the image's channels.
        num_outputs: K, classes or regions.
    """
    return MedNextNetwork(spec, num_channels=num_channels, num_outputs=num_outputs)


def _encoder_stage(spec: MedNext, level: int) -> nn.Sequential:
    stage = nn.Sequential()
    if level:
        stage.append(DownBlock(spec, (spec.features_per_stage[level - 1], spec.features_per_stage[level]), level))
    return stage.extend(_blocks(spec, level))


def _blocks(spec: MedNext, level: int, *, is_decoder: bool = False) -> list[Block]:
    """Return the blocks of a stage that keep size and features."""
    width, kernel = spec.features_per_stage[level], spec.kernel_sizes[level]
    # After the encoder's stages and the bottleneck's come those of the decoder, the coarsest first.
    place = 2 * (spec.num_stages - 1) - level if is_decoder else level
    once, expansion = (1,) * spec.num_axes, spec.expansion_per_stage[place]
    made = range(spec.blocks_per_stage[place])
    return [Block(spec, (width, width), expansion, _spatial(width, kernel, once)) for _ in made]


def _spatial(channels: int, kernel: Axes, stride: Axes, *, is_transposed: bool = False) -> nn.Module:
    """Return a depthwise convolution."""
    kind = (TRANSPOSED if is_transposed else CONVOLUTIONS)[len(kernel)]
    padding = tuple(edge // 2 for edge in kernel)
    return kind(channels, channels, kernel, stride, padding, groups=channels)


def _every(stride: Axes) -> tuple[Any, ...]:
    """Return an index of the voxels at multiples of a stride."""
    return (..., *(slice(None, None, step) for step in stride))


def _passable(stages: Iterable[nn.Module]) -> Iterator[nn.Module]:
    """Yield the blocks that keep size and features."""
    for stage in stages:
        yield from (block for block in stage.children() if type(block) is Block)
