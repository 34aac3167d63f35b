"""Stages of MedNeXt on a patch: shapes, weights, receptive fields, and what each keeps for the backward pass."""

import math
from collections.abc import Iterator

from tumorseg.planning.families.base import Ends, StageFacts, StageLayout
from tumorseg.planning.families.part_counts import (
    attention_elements,
    attention_parameters,
    gate_elements,
    gate_parameters,
    keeps_input,
    norm_elements,
)
from tumorseg.planning.families.unet_stages import stage_shapes
from tumorseg.schema.networks import Axes, MedNext

Channels = tuple[int, int]
"""Channels in and out."""


def mednext_stages(network: MedNext, patch_size: Axes, ends: Ends) -> Iterator[StageFacts]:
    """Yield the stages, the encoder from full resolution down, then the decoder up."""
    shapes = stage_shapes(network, patch_size)
    fields = _fields(network)
    for level, shape in enumerate(shapes):
        saved = network.features_per_stage[level] * math.prod(shape)
        # With checkpointing only the stage's result is kept, as a skip connection and as the next stage's input.
        if not ends.is_checkpointed:
            saved = _encoder_saved(network, level, shapes)
        layout = _layout(network, level, shape, _encoder_parameters(network, level, ends))
        yield StageFacts(layout, saved, fields[level])
    for level in range(network.num_stages - 2, -1, -1):
        saved = network.features_per_stage[level] * math.prod(shapes[level])
        if not ends.is_checkpointed:
            saved = _decoder_saved(network, level, shapes)
        parameters = _decoder_parameters(network, level, ends)
        yield StageFacts(_layout(network, level, shapes[level], parameters, is_decoder=True), saved, None)


def _place(network: MedNext, level: int, *, is_decoder: bool) -> int:
    """Return where a stage is listed: the decoder's come after the encoder's and the bottleneck's, the coarsest first."""
    return 2 * (network.num_stages - 1) - level if is_decoder else level


def _layout(network: MedNext, level: int, shape: Axes, parameters: int, *, is_decoder: bool = False) -> StageLayout:
    return StageLayout(
        side="decoder" if is_decoder else "encoder",
        level=level,
        shape=shape,
        features=network.features_per_stage[level],
        kernel_size=network.kernel_sizes[level],
        stride=network.strides[level + 1 if is_decoder else level],
        unit="block",
        units=network.blocks_per_stage[_place(network, level, is_decoder=is_decoder)],
        has_stem=level == 0 and not is_decoder,
        parameters=parameters,
    )


def _branch_saved(network: MedNext, channels: Channels, expansion: int, voxels: int) -> int:
    """Return what a block keeps besides its input.

    These are the convolution's result, with what it is normalised by, the normalised features, and the expanded ones, before their
    activation as well where that needs it. A global response normalisation keeps what it makes of them, before and after its
    scale, each channel's response and what that is in relation to their mean.
    """
    features, after = channels
    maps = 2 + (2 if keeps_input(network) else 1) * expansion
    numbers = norm_elements(network, features, voxels, of_instances=2 * features)
    # Which channels are dropped.
    numbers += after if network.dropout > 0 else 0
    if network.global_response_norm:
        maps += 2 * expansion
        numbers += 2 * expansion * features + 1
    return maps * features * voxels + numbers + attention_elements(network, after, voxels)


def _blocks_saved(network: MedNext, level: int, place: int, voxels: int) -> int:
    """Return what the blocks keep that do not change the size, their inputs included."""
    features = network.features_per_stage[level]
    branch = _branch_saved(network, (features, features), network.expansion_per_stage[place], voxels)
    # Whether a block was passed over is one number.
    passed = 1 if network.stochastic_depth > 0 else 0
    return network.blocks_per_stage[place] * (features * voxels + branch + passed)


def _encoder_saved(network: MedNext, level: int, shapes: list[Axes]) -> int:
    voxels = math.prod(shapes[level])
    saved = _blocks_saved(network, level, level, voxels)
    if level == 0:
        return saved
    above = network.features_per_stage[level - 1]
    # The way down has the features of the stage above, which it keeps as its input.
    pair = above, network.features_per_stage[level]
    branch = _branch_saved(network, pair, network.expansion_per_stage[level], voxels)
    return saved + above * math.prod(shapes[level - 1]) + branch


def _decoder_saved(network: MedNext, level: int, shapes: list[Axes]) -> int:
    place, below = _place(network, level, is_decoder=True), network.features_per_stage[level + 1]
    shape, stride = shapes[level + 1], network.strides[level + 1]
    # The way up has the features of the stage below, and the first voxels are padding.
    raised = math.prod((size - 1) * step + 1 for size, step in zip(shape, stride, strict=True))
    width, voxels = network.features_per_stage[level], math.prod(shapes[level])
    branch = _branch_saved(network, (below, width), network.expansion_per_stage[place], raised)
    saved = below * math.prod(shape) + branch + _blocks_saved(network, level, place, voxels)
    saved += gate_elements(network, width, voxels)
    # Nothing comes after full resolution but its head, which keeps its input.
    return saved + (width * voxels if level == 0 else 0)


def _block_parameters(network: MedNext, channels: Channels, expansion: int, kernel: Axes) -> int:
    """Return the weights and biases of a block, without those of a shortcut."""
    before, after = channels
    wide = expansion * before
    # One kernel for each channel; a bias, scale and shift.
    spatial_and_norm = before * math.prod(kernel) + 3 * before
    response = 2 * wide if network.global_response_norm else 0
    attention = attention_parameters(network, after, network.num_axes)
    return spatial_and_norm + (before + 1) * wide + response + (wide + 1) * after + attention


def _blocks_parameters(network: MedNext, level: int, place: int) -> int:
    width, kernel = network.features_per_stage[level], network.kernel_sizes[level]
    one = _block_parameters(network, (width, width), network.expansion_per_stage[place], kernel)
    return network.blocks_per_stage[place] * one


def _encoder_parameters(network: MedNext, level: int, ends: Ends) -> int:
    width, own = network.features_per_stage[level], _blocks_parameters(network, level, level)
    if level == 0:
        return own + (ends.num_channels + 1) * width
    above = network.features_per_stage[level - 1]
    down = _block_parameters(network, (above, width), network.expansion_per_stage[level], network.kernel_sizes[level])
    has_head = network.deep_supervision and level == network.num_stages - 1
    return own + down + (above + 1) * width + (_head_parameters(network, level, ends) if has_head else 0)


def _decoder_parameters(network: MedNext, level: int, ends: Ends) -> int:
    place = _place(network, level, is_decoder=True)
    pair = network.features_per_stage[level + 1], network.features_per_stage[level]
    kernel = network.kernel_sizes[level + 1]
    up = _block_parameters(network, pair, network.expansion_per_stage[place], kernel) + (pair[0] + 1) * pair[1]
    # Without deep supervision only full resolution has a segmentation head.
    has_head = network.deep_supervision or level == 0
    head = _head_parameters(network, level, ends) if has_head else 0
    return _blocks_parameters(network, level, place) + up + head + gate_parameters(network, pair[1])


def _head_parameters(network: MedNext, level: int, ends: Ends) -> int:
    return (network.features_per_stage[level] + 1) * ends.num_outputs


def _fields(network: MedNext) -> list[tuple[int, ...]]:
    """Return the receptive field after each stage of the encoder."""
    axes = [_axis_fields(network, axis) for axis in range(network.num_axes)]
    return list(zip(*axes, strict=True))


def _axis_fields(network: MedNext, axis: int) -> list[int]:
    reach, step = 0, 1
    fields = []
    for level in range(network.num_stages):
        half = network.kernel_sizes[level][axis] // 2
        # The way down sees voxels of the stage above; the first stage has none.
        reach += half * step if level else 0
        step *= network.strides[level][axis]
        reach += network.blocks_per_stage[level] * half * step
        # As far either way, and the voxel itself.
        fields.append(2 * reach + 1)
    return fields
