"""`plain_unet`: convolutions alone, as in nnU-Net's own U-Net."""

from typing import Any

from tumorseg.planning.families.base import NnunetNames
from tumorseg.planning.families.part_counts import attention_elements, attention_parameters, unit_elements
from tumorseg.planning.families.unet import UNetFamily
from tumorseg.planning.families.unet_stages import Encoder, conv_parameters
from tumorseg.planning.presets import PLAIN_REFERENCE
from tumorseg.schema.networks import Parts, PlainUNet
from tumorseg.schema.nnunet import PLAIN_CLASSES, PlainArguments


class PlainEncoder(Encoder[PlainUNet]):
    """Two convolutions in every stage of encoder and decoder."""

    unit = "convolution"
    parts = tuple(name for name in Parts.model_fields if name != "stochastic_depth")

    def build(self, topology: dict[str, Any], num_stages: int) -> PlainUNet:
        """Return a network of two convolutions a stage."""
        return PlainUNet(**topology, convs_per_stage=(2,) * num_stages, decoder_convs_per_stage=(2,) * (num_stages - 1))

    def units(self, network: PlainUNet) -> tuple[int, ...]:
        """Return the convolutions of each stage of the encoder."""
        return network.convs_per_stage

    def num_maps(self, network: PlainUNet, level: int) -> int:
        """Return the convolutions of a stage of the encoder."""
        return network.convs_per_stage[level]

    def saved_elements(self, network: PlainUNet, level: int, voxels: int) -> int:
        """Return two maps a convolution: its result, which its norm needs, and the activation, the next one's input; parts add to them."""
        features = network.features_per_stage[level]
        of_convs = network.convs_per_stage[level] * unit_elements(network, features, voxels)
        return of_convs + attention_elements(network, features, voxels)

    def parameters(self, network: PlainUNet, level: int, num_channels: int) -> int:
        """Return the weights and biases of a stage of the encoder."""
        width, kernel = network.features_per_stage[level], network.kernel_sizes[level]
        before = network.features_per_stage[level - 1] if level else num_channels
        others = network.convs_per_stage[level] - 1
        attention = attention_parameters(network, width, network.num_axes)
        return conv_parameters((before, width), kernel) + others * conv_parameters((width, width), kernel) + attention

    def reach(self, network: PlainUNet, level: int, axis: int, step: int) -> tuple[int, int]:
        """Return the reach of the first convolution on the stage's input, and of the others on its own grid."""
        half, stride = network.kernel_sizes[level][axis] // 2, network.strides[level][axis]
        far = half * step * (1 + (network.convs_per_stage[level] - 1) * stride)
        return far, far


class PlainUNetFamily(UNetFamily[PlainUNet]):
    """U-Nets with this encoder."""

    name = "plain_unet"
    rival = "residual_unet"
    reference = PLAIN_REFERENCE
    nnunet = NnunetNames(PLAIN_CLASSES, PlainArguments, "n_conv_per_stage", "convs_per_stage")
    encoder = PlainEncoder()
