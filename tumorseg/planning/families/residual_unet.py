"""`residual_unet`: an encoder of residual blocks, as in nnU-Net's ResEnc presets."""

import math
from typing import Any

from tumorseg.planning.families.base import NnunetNames
from tumorseg.planning.families.part_counts import (
    activated_elements,
    attention_elements,
    attention_parameters,
    norm_elements,
    unit_elements,
)
from tumorseg.planning.families.unet import UNetFamily
from tumorseg.planning.families.unet_stages import Encoder, conv_parameters
from tumorseg.planning.presets import RESIDUAL_M_REFERENCE
from tumorseg.schema.networks import ResidualUNet
from tumorseg.schema.nnunet import RESIDUAL_CLASSES, ResidualArguments

BLOCKS_PER_STAGE = (1, 3, 4, 6)
"""Residual blocks of the first stages; the last number goes on."""


class ResidualEncoder(Encoder[ResidualUNet]):
    """A stem and residual blocks of two convolutions in the encoder, one convolution in each stage of the decoder."""

    unit = "residual block"
    has_stem = True

    def build(self, topology: dict[str, Any], num_stages: int) -> ResidualUNet:
        """Return a network whose coarse stages have more blocks than its fine ones."""
        last = len(BLOCKS_PER_STAGE) - 1
        blocks = tuple(BLOCKS_PER_STAGE[min(stage, last)] for stage in range(num_stages))
        return ResidualUNet(**topology, blocks_per_stage=blocks, decoder_convs_per_stage=(1,) * (num_stages - 1))

    def units(self, network: ResidualUNet) -> tuple[int, ...]:
        """Return the residual blocks of each stage of the encoder."""
        return network.blocks_per_stage

    def num_maps(self, network: ResidualUNet, level: int) -> int:
        """Return two convolutions a block, the stem, and the projection, also counted where a skip is only pooled."""
        is_projected = self._widens(network, level) or max(network.strides[level]) > 1
        return 2 * network.blocks_per_stage[level] + int(level == 0) + int(is_projected)

    def saved_elements(self, network: ResidualUNet, level: int, voxels: int) -> int:
        """Return two maps a convolution; a projection adds its own result and, where it was pooled, its input; parts add to them."""
        features = network.features_per_stage[level]
        stem = unit_elements(network, features, voxels) if level == 0 else 0
        saved = stem + network.blocks_per_stage[level] * _block_elements(network, features, voxels)
        if not self._widens(network, level):
            return saved
        is_pooled = math.prod(network.strides[level]) > 1
        pooled = network.features_per_stage[level - 1] * voxels if is_pooled else 0
        return saved + features * voxels + norm_elements(network, features, voxels) + pooled

    def parameters(self, network: ResidualUNet, level: int, num_channels: int) -> int:
        """Return the weights and biases of a stage of the encoder, those of the stem included."""
        width, kernel = network.features_per_stage[level], network.kernel_sizes[level]
        before = network.features_per_stage[level - 1] if level else width
        stem = 0 if level else conv_parameters((num_channels, width), kernel)
        # Where features stay the same, the shortcut is the input itself.
        projection = conv_parameters((before, width), (1,), has_bias=False) if before != width else 0
        others = 2 * network.blocks_per_stage[level] - 1
        first = conv_parameters((before, width), kernel)
        attention = network.blocks_per_stage[level] * attention_parameters(network, width, network.num_axes)
        return stem + first + projection + others * conv_parameters((width, width), kernel) + attention

    def reach(self, network: ResidualUNet, level: int, axis: int, step: int) -> tuple[int, int]:
        """Return the reach of stem and blocks.

        With a kernel of 1, only the pooled shortcut sees all voxels that a stride passes over.
        """
        half, stride = network.kernel_sizes[level][axis] // 2, network.strides[level][axis]
        stem = half * step if level == 0 else 0
        first = stem + half * step * (1 + stride)
        others = 2 * (network.blocks_per_stage[level] - 1) * half * step * stride
        return first + others, max(first, (stride - 1) * step) + others

    def _widens(self, network: ResidualUNet, level: int) -> bool:
        """Return whether a stage has other features than its input; the stem has made those of the first."""
        return level > 0 and network.features_per_stage[level] != network.features_per_stage[level - 1]


def _block_elements(network: ResidualUNet, features: int, voxels: int) -> int:
    """Return what is kept of a block without its projection: two convolutions of two maps each, and what its parts add."""
    # Channels are dropped after the block, not within it.
    first = unit_elements(network.changed(dropout=0.0), features, voxels)
    second = features * voxels + norm_elements(network, features, voxels)
    # Whether the block was passed over is one number.
    passed = 1 if network.stochastic_depth > 0 else 0
    attention = attention_elements(network, features, voxels)
    return first + second + attention + passed + activated_elements(network, features, voxels)


class ResidualUNetFamily(UNetFamily[ResidualUNet]):
    """U-Nets with this encoder."""

    name = "residual_unet"
    rival = "plain_unet"
    reference = RESIDUAL_M_REFERENCE
    fits_at_reference_batch = True
    nnunet = NnunetNames(RESIDUAL_CLASSES, ResidualArguments, "n_blocks_per_stage", "blocks_per_stage")
    encoder = ResidualEncoder()
