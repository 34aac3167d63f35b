"""U-Nets: a plain and a residual encoder on the same decoder."""

from collections.abc import Callable
from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from tumorseg.errors import InputError
from tumorseg.networks.blocks import (
    conv_stack,
    conv_unit,
    initialize,
    residual_stack,
    segmentation_head,
    upsampling,
)
from tumorseg.schema.networks import PlainUNet, ResidualUNet, UNetTopology


class UNet(nn.Module):
    """An encoder's stages, and the decoder that climbs back over their skip connections.

    References:
        Ronneberger et al., U-Net, MICCAI 2015; Isensee et al., nnU-Net, Nature Methods 2021.
    """

    def __init__(self, spec: UNetTopology, *, stem: nn.Module, stages: list[nn.Sequential], num_outputs: int) -> None:
        super().__init__()
        self.divisors = spec.divisors
        self.deep_supervision = spec.deep_supervision
        self.activation_checkpointing = False
        """Whether a stage's inner activations are recomputed in the backward pass rather than kept."""
        self.stem = stem
        self.stages = nn.ModuleList(stages)
        self.upsamplings = nn.ModuleList(_upsamplings(spec))
        self.decoder = nn.ModuleList(_decoder_stages(spec))
        # From full resolution down, so that heads.0 is the same head whether or not the others exist.
        supervised = spec.features_per_stage[:-1] if spec.deep_supervision else spec.features_per_stage[:1]
        self.heads = nn.ModuleList(segmentation_head(spec, (features, num_outputs)) for features in supervised)
        initialize(self, spec.negative_slope)

    def forward(self, images: Tensor) -> Tensor | list[Tensor]:
        """Map intensities to logits.

        Args:
            images: (B, C, *space), space being a multiple of the product of all strides.

        Returns:
            Logits (B, K, *space). While training with deep supervision a list of num_stages - 1 such tensors, from
            full resolution down, each smaller by the strides of one stage.

        Raises:
            InputError: the space is not such a multiple.
        """
        self._check(images)
        decoded = self._decode(self._encode(images))
        if self.training and self.deep_supervision:
            # Heads begin at full resolution, the decoder ends there.
            return [head(features) for head, features in zip(self.heads, reversed(decoded), strict=True)]
        return cast(Tensor, self.heads[0](decoded[-1]))

    def _check(self, images: Tensor) -> None:
        space = images.shape[2:]
        has_right_axes = len(space) == len(self.divisors)
        if not has_right_axes or any(size % divisor for size, divisor in zip(space, self.divisors, strict=True)):
            raise InputError(
                f"a network of strides {self.divisors} got an image of {tuple(space)} voxels; "
                "each axis must be a multiple of its stride"
            )

    def _encode(self, images: Tensor) -> list[Tensor]:
        features = self._run(self.stem, images)
        skips = []
        for stage in self.stages:
            features = self._run(stage, features)
            skips.append(features)
        return skips

    def _decode(self, skips: list[Tensor]) -> list[Tensor]:
        # The bottleneck has no skip connection; the others are met from the coarsest up.
        features = skips.pop()
        decoded = []
        for upsample, stage in zip(self.upsamplings, self.decoder, strict=True):
            features = self._run(_climb, upsample, stage, features, skips.pop())
            decoded.append(features)
        return decoded

    def _run(self, stage: Callable[..., Tensor], *inputs: Tensor | nn.Module) -> Tensor:
        if self.activation_checkpointing and torch.is_grad_enabled():
            # No layer draws random numbers, so there is no state of a generator to put back for the recomputation.
            return cast(Tensor, checkpoint(stage, *inputs, use_reentrant=False, preserve_rng_state=False))
        return stage(*inputs)


def _climb(upsample: nn.Module, stage: nn.Module, features: Tensor, skip: Tensor) -> Tensor:
    """Return a decoder stage's features from those below it and those of the encoder beside it."""
    return cast(Tensor, stage(torch.cat((upsample(features), skip), dim=1)))


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


def _upsamplings(spec: UNetTopology) -> list[nn.Module]:
    # From the bottleneck up, each undoing the stride by which its stage was entered on the way down.
    features = spec.features_per_stage
    modules = []
    for i in range(len(features) - 1, 0, -1):
        modules.append(upsampling(spec, (features[i], features[i - 1]), spec.strides[i]))
    return modules


def _decoder_stages(spec: UNetTopology) -> list[nn.Sequential]:
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
