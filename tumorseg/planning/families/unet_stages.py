"""Stages of U-Nets on a patch: shapes, weights, receptive fields, and what each keeps for the backward pass."""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, Generic, TypeVar

from tumorseg.planning.families.base import Ends, StageFacts, StageLayout
from tumorseg.planning.families.part_counts import attention_parameters, decoder_elements, gate_parameters
from tumorseg.schema.networks import Axes, OwnUNet, Parts, StagedNetwork

U = TypeVar("U", bound=OwnUNet)


class Encoder(ABC, Generic[U]):
    """The encoder of one family of U-Nets, which share all the rest."""

    unit: str
    """Word for what a stage is made of."""
    has_stem = False
    """Whether a convolution comes before the first of these."""
    parts: tuple[str, ...] = tuple(Parts.model_fields)
    """Parts that such networks may have."""

    @abstractmethod
    def build(self, topology: dict[str, Any], num_stages: int) -> U:
        """Return a network with this family's own number of units in each stage; `topology` holds the other fields."""

    @abstractmethod
    def units(self, network: U) -> tuple[int, ...]:
        """Return the units of each stage of the encoder."""

    @abstractmethod
    def num_maps(self, network: U, level: int) -> int:
        """Return the convolutions of a stage, each of which makes a feature map, as nnU-Net counts them."""

    @abstractmethod
    def saved_elements(self, network: U, level: int, voxels: int) -> int:
        """Return the numbers that autograd keeps of a stage, which has so many voxels."""

    @abstractmethod
    def parameters(self, network: U, level: int, num_channels: int) -> int:
        """Return the weights and biases of a stage."""

    @abstractmethod
    def reach(self, network: U, level: int, axis: int, step: int) -> tuple[int, int]:
        """Return how many voxels further down and up an axis a stage sees, whose input's voxels are `step` apart."""


def unet_stages(network: U, encoder: Encoder[U], patch_size: Axes, ends: Ends) -> Iterator[StageFacts]:
    """Yield the stages, the encoder from full resolution down, then the decoder up."""
    yield from _encoder_stages(network, encoder, patch_size, ends)
    yield from _decoder_stages(network, patch_size, ends)


def _encoder_stages(network: U, encoder: Encoder[U], patch_size: Axes, ends: Ends) -> Iterator[StageFacts]:
    units, fields = encoder.units(network), _fields(network, encoder)
    for level, shape in enumerate(stage_shapes(network, patch_size)):
        voxels, features = math.prod(shape), network.features_per_stage[level]
        # With checkpointing only the stage's result is kept, as a skip connection and as the next stage's input.
        saved = features * voxels if ends.is_checkpointed else encoder.saved_elements(network, level, voxels)
        layout = StageLayout(
            side="encoder",
            level=level,
            shape=shape,
            features=features,
            kernel_size=network.kernel_sizes[level],
            stride=network.strides[level],
            unit=encoder.unit,
            units=units[level],
            has_stem=encoder.has_stem and level == 0,
            parameters=encoder.parameters(network, level, ends.num_channels),
        )
        yield StageFacts(layout, saved, fields[level])


def _decoder_stages(network: OwnUNet, patch_size: Axes, ends: Ends) -> Iterator[StageFacts]:
    """Yield the decoder's stages.

    Upsampling keeps nothing of its own, but joined with the skip connection it is the first convolution's input.
    """
    shapes = stage_shapes(network, patch_size)
    levels = range(network.num_stages - 2, -1, -1)
    for level, convs in zip(levels, network.decoder_convs_per_stage, strict=True):
        features, voxels = network.features_per_stage[level], math.prod(shapes[level])
        # With checkpointing, the joined input of twice the features and the stage's result are all that is kept.
        is_whole = not ends.is_checkpointed
        saved = decoder_elements(network, level, convs, voxels) if is_whole else 3 * features * voxels
        layout = StageLayout(
            side="decoder",
            level=level,
            shape=shapes[level],
            features=features,
            kernel_size=network.kernel_sizes[level],
            stride=network.strides[level + 1],
            unit="convolution",
            units=convs,
            has_stem=False,
            parameters=_decoder_parameters(network, level, convs, ends.num_outputs),
        )
        yield StageFacts(layout, saved, None)


def _fields(network: U, encoder: Encoder[U]) -> list[tuple[int, ...]]:
    axes = [_axis_fields(network, encoder, axis) for axis in range(network.num_axes)]
    return list(zip(*axes, strict=True))


def _axis_fields(network: U, encoder: Encoder[U], axis: int) -> list[int]:
    """Return the receptive field after each stage along one axis, followed as an interval of the image."""
    lower, upper, step = 0, 0, 1
    fields = []
    for level in range(network.num_stages):
        down, up = encoder.reach(network, level, axis, step)
        lower, upper = lower - down, upper + up
        step *= network.strides[level][axis]
        # The voxel itself is one more.
        fields.append(upper - lower + 1)
    return fields


def conv_parameters(channels: tuple[int, int], kernel_size: Axes, *, has_bias: bool = True) -> int:
    """Return the weights of a convolution and of the normalisation after it.

    Args:
        channels: in and out.
        kernel_size: per axis.
        has_bias: whether the convolution has one.
    """
    # Scale and shift of the norm, and the convolution's bias, for each channel.
    norm_and_bias = 3 if has_bias else 2
    return channels[0] * channels[1] * math.prod(kernel_size) + norm_and_bias * channels[1]


def _decoder_parameters(network: OwnUNet, level: int, convs: int, num_outputs: int) -> int:
    width, kernel = network.features_per_stage[level], network.kernel_sizes[level]
    up = network.features_per_stage[level + 1] * width * math.prod(network.strides[level + 1]) + width
    # Without deep supervision only full resolution has a segmentation head.
    head = (width + 1) * num_outputs if network.deep_supervision or level == 0 else 0
    others = (convs - 1) * conv_parameters((width, width), kernel)
    parts = attention_parameters(network, width, network.num_axes) + gate_parameters(network, width)
    return up + conv_parameters((2 * width, width), kernel) + others + head + parts


def stage_shapes(network: StagedNetwork, patch_size: Axes) -> list[Axes]:
    """Return the voxels per axis of each stage."""
    shapes, edges = [], tuple(patch_size)
    for stride in network.strides:
        edges = tuple(edge // step for edge, step in zip(edges, stride, strict=True))
        shapes.append(edges)
    return shapes
