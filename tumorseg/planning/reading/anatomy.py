"""What a U-Net looks like on a patch: shapes, weights, what each stage sees of the image, and what it keeps in memory.

Computed from the plan alone; no network is built.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Literal

from tumorseg.schema.base import Record
from tumorseg.schema.networks import Axes, PlainUNet, ResidualUNet, UNetTopology
from tumorseg.schema.plan import Configuration, Plan
from tumorseg.schema.targets import targets_of

UNet = PlainUNet | ResidualUNet
"""Networks whose anatomy is known."""
BYTES = {"fp32": 4, "fp16": 2, "bf16": 2}
"""Of one number that autocast keeps for the backward pass."""


class Field(Record):
    """What one voxel of a stage sees of the image."""

    voxels: tuple[int, ...]
    """Edge per axis, in voxels of the patch."""
    mm: tuple[float, ...]
    """The same on the configuration's grid."""


class Stage(Record):
    """One stage of the encoder or the decoder."""

    side: Literal["encoder", "decoder"]
    """The last stage of the encoder is the bottleneck."""
    level: int
    """0 at full resolution."""
    shape: tuple[int, ...]
    """Voxels per axis."""
    features: int
    """Channels."""
    kernel_size: tuple[int, ...]
    """Of its convolutions."""
    stride: tuple[int, ...]
    """Downsampling on entering an encoder's stage, upsampling on entering a decoder's."""
    units: int
    """Convolutions; residual blocks of a residual encoder."""
    parameters: int
    """Weights and biases, those of its segmentation head included."""
    receptive_field: Field | None
    """After all its convolutions; null in the decoder, whose skip connections join several."""
    saved_bytes: int
    """Kept for the backward pass of one batch."""


class Anatomy(Record):
    """A network on its patch."""

    network: str
    """Its name in the plan."""
    axes: str
    """Which canonical axes the numbers stand for, such as `ZYX`."""
    spacing_mm: tuple[float, ...]
    """Of the grid."""
    batch_size: int
    """Patches that go through the network at once on one GPU."""
    precision: str
    """In which activations are kept."""
    stages: tuple[Stage, ...]
    """The encoder from full resolution down, then the decoder up again."""

    @property
    def encoder(self) -> tuple[Stage, ...]:
        """Return the encoder's stages, the bottleneck last."""
        return tuple(stage for stage in self.stages if stage.side == "encoder")

    @property
    def decoder(self) -> tuple[Stage, ...]:
        """Return the decoder's stages, from the bottleneck up."""
        return tuple(stage for stage in self.stages if stage.side == "decoder")

    @property
    def parameters(self) -> int:
        """Return the number of all weights and biases."""
        return sum(stage.parameters for stage in self.stages)

    @property
    def saved_bytes(self) -> int:
        """Return what all stages keep for the backward pass of one batch."""
        return sum(stage.saved_bytes for stage in self.stages)


def plan_anatomy(plan: Plan, name: str) -> Anatomy | None:
    """Return the anatomy of a configuration's network, or None for another package's, which only that package knows."""
    configuration = plan.configurations[name]
    network = configuration.network
    if not isinstance(network, UNet):
        return None
    encoder = _encoder(network, configuration, num_channels(plan, configuration))
    stages = [*encoder, *_decoder(network, encoder, targets_of(plan.dataset).num_outputs)]
    batch_size = math.ceil(configuration.batch_size / (configuration.gradient_accumulation * plan.budget.num_gpus))
    elements = saved_elements(network, configuration.patch_size, is_checkpointed=configuration.activation_checkpointing)
    precision = "fp32" if plan.budget.device == "cpu" else plan.training.precision
    return Anatomy(
        network=network.name,
        axes="".join("ZYX"[axis] for axis in plan.transpose[3 - configuration.num_axes :]),
        spacing_mm=configuration.spacing_mm,
        batch_size=batch_size,
        precision=precision,
        stages=tuple(
            stage.model_copy(update={"saved_bytes": count * BYTES[precision] * batch_size})
            for stage, count in zip(stages, elements, strict=True)
        ),
    )


def num_channels(plan: Plan, configuration: Configuration) -> int:
    """Return the channels that a network is given: images, and in a cascade one for each foreground label."""
    images = len(plan.dataset.channels)
    return images + (targets_of(plan.dataset).num_classes - 1 if configuration.previous_configuration else 0)


def _encoder(network: UNet, configuration: Configuration, num_channels: int) -> list[Stage]:
    shapes = _shapes(network, configuration.patch_size)
    fields = _receptive_fields(network, configuration.spacing_mm)
    units = network.convs_per_stage if isinstance(network, PlainUNet) else network.blocks_per_stage
    return [
        Stage(
            side="encoder",
            level=level,
            shape=shapes[level],
            features=network.features_per_stage[level],
            kernel_size=network.kernel_sizes[level],
            stride=network.strides[level],
            units=units[level],
            parameters=_encoder_parameters(network, level, num_channels),
            receptive_field=fields[level],
            saved_bytes=0,
        )
        for level in range(network.num_stages)
    ]


def _decoder(network: UNet, encoder: Sequence[Stage], num_outputs: int) -> list[Stage]:
    levels = range(network.num_stages - 2, -1, -1)
    return [
        encoder[level].model_copy(
            update={
                "side": "decoder",
                "stride": network.strides[level + 1],
                "units": convs,
                "parameters": _decoder_parameters(network, level, convs, num_outputs),
                "receptive_field": None,
            }
        )
        for level, convs in zip(levels, network.decoder_convs_per_stage, strict=True)
    ]


def _shapes(network: UNetTopology, patch_size: Axes) -> list[Axes]:
    shapes, edges = [], tuple(patch_size)
    for stride in network.strides:
        edges = tuple(edge // step for edge, step in zip(edges, stride, strict=True))
        shapes.append(edges)
    return shapes


def _conv(channels: tuple[int, int], kernel_size: Axes, *, bias: bool = True) -> int:
    """Return the weights of a convolution and of the normalisation after it."""
    return channels[0] * channels[1] * math.prod(kernel_size) + (3 if bias else 2) * channels[1]


def _encoder_parameters(network: UNet, level: int, num_channels: int) -> int:
    features, kernel = network.features_per_stage, network.kernel_sizes[level]
    width = features[level]
    if isinstance(network, PlainUNet):
        before = features[level - 1] if level else num_channels
        return _conv((before, width), kernel) + (network.convs_per_stage[level] - 1) * _conv((width, width), kernel)
    before = features[level - 1] if level else width
    stem = 0 if level else _conv((num_channels, width), kernel)
    projection = _conv((before, width), (1,), bias=False) if before != width else 0
    convs = 2 * network.blocks_per_stage[level] - 1
    return stem + _conv((before, width), kernel) + projection + convs * _conv((width, width), kernel)


def _decoder_parameters(network: UNet, level: int, convs: int, num_outputs: int) -> int:
    width, kernel = network.features_per_stage[level], network.kernel_sizes[level]
    up = network.features_per_stage[level + 1] * width * math.prod(network.strides[level + 1]) + width
    head = (width + 1) * num_outputs if network.deep_supervision or level == 0 else 0
    return up + _conv((2 * width, width), kernel) + (convs - 1) * _conv((width, width), kernel) + head


def saved_elements(network: UNet, patch_size: Axes, *, is_checkpointed: bool) -> list[int]:
    """Return the numbers that autograd keeps of each stage, encoder first, for one patch; the image itself left out.

    A normalisation keeps what the convolution gave it; the activation, which works in place, keeps its result, which is the
    next convolution's input. Upsampling keeps nothing of its own, but joined with the skip connection it is an input.

    Args:
        network: the architecture.
        patch_size: voxels per axis.
        is_checkpointed: whether only each stage's input is kept, and the rest computed anew.
    """
    sizes = [math.prod(shape) for shape in _shapes(network, patch_size)]
    maps = [size * features for size, features in zip(sizes, network.features_per_stage, strict=True)]
    if is_checkpointed:
        return [*maps, *(3 * count for count in maps[-2::-1])]
    encoder = (
        [2 * convs * count for convs, count in zip(network.convs_per_stage, maps, strict=True)]
        if isinstance(network, PlainUNet)
        else list(_residual_elements(network, sizes, maps))
    )
    return [
        *encoder,
        *(2 * (convs + 1) * n for convs, n in zip(network.decoder_convs_per_stage, maps[-2::-1], strict=True)),
    ]


def _residual_elements(network: ResidualUNet, sizes: Sequence[int], maps: Sequence[int]) -> Iterator[int]:
    """Yield two maps a convolution; a projection adds its own result and, where it was pooled, its input."""
    before = network.features_per_stage[0]
    for level, features in enumerate(network.features_per_stage):
        stem = 2 * maps[level] if level == 0 else 0
        projection = 0
        if features != before:
            is_pooled = math.prod(network.strides[level]) > 1
            projection = maps[level] + (before * sizes[level] if is_pooled else 0)
        yield stem + 4 * network.blocks_per_stage[level] * maps[level] + projection
        before = features


def _receptive_fields(network: UNet, spacing_mm: Sequence[float]) -> list[Field]:
    axes = [_axis_fields(network, axis) for axis in range(network.num_axes)]
    return [
        Field(voxels=edges, mm=tuple(edge * spacing for edge, spacing in zip(edges, spacing_mm, strict=True)))
        for edges in zip(*axes, strict=True)
    ]


def _axis_fields(network: UNet, axis: int) -> list[int]:
    """Return the receptive field after each stage along one axis.

    Followed as an interval of the image: of an even stride with a kernel of 1 only a block's pooled shortcut sees both voxels.
    """
    lower, upper, step = 0, 0, 1
    fields = []
    for level in range(network.num_stages):
        reach, stride = network.kernel_sizes[level][axis] // 2, network.strides[level][axis]
        if isinstance(network, PlainUNet):
            far = reach * (step + (network.convs_per_stage[level] - 1) * step * stride)
            lower, upper = lower - far, upper + far
        else:
            stem = reach * step if level == 0 else 0
            first = stem + reach * step * (1 + stride)
            rest = 2 * (network.blocks_per_stage[level] - 1) * reach * step * stride
            lower, upper = lower - first - rest, upper + max(first, (stride - 1) * step) + rest
        step *= stride
        fields.append(upper - lower + 1)
    return fields
