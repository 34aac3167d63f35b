"""U-Nets: a plain and a residual encoder on the same decoder."""

from itertools import pairwise

import torch
from torch import Tensor, nn

from tumorseg.networks.attention import gates_of
from tumorseg.networks.blocks import (
    ResidualBlock,
    conv_stack,
    conv_unit,
    initialize,
    residual_stack,
    segmentation_head,
    upsampling,
)
from tumorseg.networks.encoder_decoder import EncoderDecoder
from tumorseg.networks.layers import activation_of, spread_chances
from tumorseg.schema.networks import OwnUNet, PlainUNet, ResidualUNet


class UNet(EncoderDecoder):
    """An encoder of convolutions, whose features are joined channel by channel with those that the decoder climbs back with.

    References:
        Ronneberger et al., U-Net, MICCAI 2015; Isensee et al., nnU-Net, Nature Methods 2021.
    """

    def __init__(self, spec: OwnUNet, *, stem: nn.Module, stages: list[nn.Sequential], num_outputs: int) -> None:
        super().__init__(spec)
        self.draws_random_numbers = max(spec.dropout, spec.stochastic_depth) > 0
        self.stem = stem
        self.stages = nn.ModuleList(stages)
        self.upsamplings = nn.ModuleList(_upsamplings(spec))
        self.decoder = nn.ModuleList(_decoder_stages(spec))
        self.gates = gates_of(spec)
        supervised = spec.features_per_stage[:-1] if spec.deep_supervision else spec.features_per_stage[:1]
        self.heads = nn.ModuleList(segmentation_head(spec, (features, num_outputs)) for features in supervised)
        initialize(self, activation_of(spec).kept_slope or 0.0)
        blocks = (module for module in self.modules() if isinstance(module, ResidualBlock))
        spread_chances(blocks, spec.stochastic_depth)

    @staticmethod
    def join(upsampled: Tensor, skip: Tensor) -> Tensor:
        """Return both, one after the other."""
        return torch.cat((upsampled, skip), dim=1)


def plain_unet(spec: PlainUNet, *, num_channels: int, num_outputs: int) -> UNet:
    """Return nnU-Net's own U-Net with fresh weights.

    Args:
        spec: the topology.
        num_channels: C, the image's channels.
        num_outputs: K, classes or regions.
    """
    channels = pairwise((num_channels, *spec.features_per_stage))
    rows = zip(channels, spec.convs_per_stage, spec.kernel_sizes, spec.strides, strict=True)
    stages = []
    for pair, count, kernel, stride in rows:
        stages.append(conv_stack(spec, pair, count=count, kernel_size=kernel, stride=stride))
    return UNet(spec, stem=nn.Identity(), stages=stages, num_outputs=num_outputs)


def residual_unet(spec: ResidualUNet, *, num_channels: int, num_outputs: int) -> UNet:
    """Return the U-Net with residual encoder and fresh weights.

    Args:
        spec: the topology.
        num_channels: C, the image's channels.
        num_outputs: K, classes or regions.

    References:
        Isensee et al., nnU-Net revisited, MICCAI 2024.
    """
    # After the stem the first block keeps the number of channels, so that its shortcut is its input as it is.
    width = spec.features_per_stage[0]
    stem = conv_unit(spec, (num_channels, width), kernel_size=spec.kernel_sizes[0], stride=spec.strides[0])
    channels = pairwise((width, *spec.features_per_stage))
    rows = zip(channels, spec.blocks_per_stage, spec.kernel_sizes, spec.strides, strict=True)
    stages = []
    for pair, count, kernel, stride in rows:
        stages.append(residual_stack(spec, pair, count=count, kernel_size=kernel, stride=stride))
    return UNet(spec, stem=stem, stages=stages, num_outputs=num_outputs)


def _upsamplings(spec: OwnUNet) -> list[nn.Module]:
    # From the bottleneck up, each undoing the stride by which its stage was entered on the way down.
    features = spec.features_per_stage
    modules = []
    for i in range(len(features) - 1, 0, -1):
        modules.append(upsampling(spec, (features[i], features[i - 1]), spec.strides[i]))
    return modules


def _decoder_stages(spec: OwnUNet) -> list[nn.Sequential]:
    # The convolutions after stage i's transposed one run at the resolution, and with the kernel, of stage i - 1.
    once = (1,) * spec.num_axes
    skips = range(spec.num_stages - 2, -1, -1)
    stages = []
    for skip, count in zip(skips, spec.decoder_convs_per_stage, strict=True):
        features = spec.features_per_stage[skip]
        # Twice as many come in: those from below and those of the skip connection.
        pair = (2 * features, features)
        stages.append(conv_stack(spec, pair, count=count, kernel_size=spec.kernel_sizes[skip], stride=once))
    return stages
