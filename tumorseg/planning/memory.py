"""How much a network computes, counted without building it.

The count of feature-map elements is nnU-Net's (`compute_conv_feature_map_size`), in closed form. It knows neither
parameters nor optimizer, and is turned into bytes by a measured reference.
"""

import math

from tumorseg.planning.presets import MemoryReference
from tumorseg.schema.networks import PlainUNet, ResidualUNet

GB = 2**30
"""Bytes in a GB, as everywhere in tumorseg."""


def feature_map_elements(network: PlainUNet | ResidualUNet, patch_size: tuple[int, ...], num_outputs: int) -> int:
    """Return the elements of all convolutions' outputs in one forward pass of one patch.

    Args:
        network: the architecture.
        patch_size: voxels per axis.
        num_outputs: channels of the segmentation head.
    """
    sizes = _stage_voxels(network, patch_size)
    encoder = _plain_encoder(network, sizes) if isinstance(network, PlainUNet) else _residual_encoder(network, sizes)
    return encoder + _decoder(network, sizes, num_outputs)


def _stage_voxels(network: PlainUNet | ResidualUNet, patch_size: tuple[int, ...]) -> list[int]:
    sizes, edges = [], list(patch_size)
    for stride in network.strides:
        edges = [edge // step for edge, step in zip(edges, stride, strict=True)]
        sizes.append(math.prod(edges))
    return sizes


def _plain_encoder(network: PlainUNet, sizes: list[int]) -> int:
    stages = zip(network.convs_per_stage, network.features_per_stage, sizes, strict=True)
    return sum(convs * features * size for convs, features, size in stages)


def _residual_encoder(network: ResidualUNet, sizes: list[int]) -> int:
    """Count the stem, two convolutions a block, and the projection where a skip changes shape."""
    total, previous = network.features_per_stage[0] * sizes[0], network.features_per_stage[0]
    stages = zip(network.blocks_per_stage, network.features_per_stage, network.strides, sizes, strict=True)
    for blocks, features, stride, size in stages:
        projections = int(features != previous or max(stride) > 1)
        total += (2 * blocks + projections) * features * size
        previous = features
    return total


def _decoder(network: PlainUNet | ResidualUNet, sizes: list[int], num_outputs: int) -> int:
    """Count upsampling, convolutions and the head at full resolution; nnU-Net leaves those of deep supervision out."""
    levels = zip(network.decoder_convs_per_stage, network.features_per_stage[-2::-1], sizes[-2::-1], strict=True)
    return sum((convs + 1) * features * size for convs, features, size in levels) + num_outputs * sizes[0]


def elements_budget(reference: MemoryReference, num_axes: int, vram_gb: float) -> float:
    """Return the elements, at the reference's batch size, that a budget allows."""
    elements = reference.elements_2d if num_axes == 2 else reference.elements_3d
    return elements * vram_gb / reference.vram_gb


def predicted_bytes(reference: MemoryReference, num_axes: int, elements: float, batch_size: int) -> int:
    """Return the training memory that the reference predicts for a number of elements per patch."""
    reference_elements = reference.elements_2d if num_axes == 2 else reference.elements_3d
    reference_batch = reference.batch_2d if num_axes == 2 else reference.batch_3d
    return round(reference.vram_gb * GB * elements * batch_size / (reference_elements * reference_batch))
