"""Shapes, weights, receptive fields and saved activations of a network's stages on its patch.

Where the network's family knows them, they follow from the plan alone, and torch is not needed; any other network is built, and run
once without voxels.
"""

from collections.abc import Iterator

from tumorseg.planning.families.base import Ends, StageFacts, StageLayout
from tumorseg.planning.families.registry import family_of
from tumorseg.planning.memory.budgets import part_size
from tumorseg.planning.reading.stages import IMAGE, Field, Flow, Stage, Work
from tumorseg.schema.base import Record
from tumorseg.schema.extensions import External
from tumorseg.schema.network_parts import Parts
from tumorseg.schema.networks import KnownNetwork
from tumorseg.schema.plan import Configuration, Plan
from tumorseg.schema.targets import num_inputs, targets_of

BYTES = {"fp32": 4, "fp16": 2, "bf16": 2}
"""Of one number that autocast keeps for the backward pass."""


class Anatomy(Record):
    """A network on its patch."""

    network: str
    """Its name in the plan."""
    parts: tuple[str, ...]
    """Fields of its parts, such as norm and attention, that are not as usual."""
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
    flows: tuple[Flow, ...]
    """Whose features each stage is given."""

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
    """Return the anatomy of a configuration's network, or None where it is another package's."""
    configuration = plan.configurations[name]
    network = configuration.network
    if isinstance(network, External):
        return None
    # Of a batch in parts, activations are kept for one part at a time.
    batch_size = part_size(configuration, plan.budget.num_gpus)
    precision = plan.step_precision
    stages, flows = _known(plan, configuration, BYTES[precision] * batch_size)
    if not stages:
        stages, flows = _traced(plan, configuration, batch_size)
    return Anatomy(
        network=network.name,
        parts=tuple(_unusual_parts(network)),
        # Planes lack the first of the plan's axes.
        axes="".join("ZYX"[axis] for axis in plan.transpose[3 - configuration.num_axes :]),
        spacing_mm=configuration.spacing_mm,
        batch_size=batch_size,
        precision=precision,
        stages=stages,
        flows=flows,
    )


def _unusual_parts(network: KnownNetwork) -> Iterator[str]:
    usual = type(network).model_fields
    for name in Parts.model_fields if isinstance(network, Parts) else ():
        value = getattr(network, name)
        if value != usual[name].default:
            yield name if value is True else f"{name} {value}"


def _ends(plan: Plan, configuration: Configuration) -> Ends:
    targets = targets_of(plan.dataset)
    channels = num_inputs(configuration, targets)
    return Ends(channels, targets.num_outputs, is_checkpointed=configuration.activation_checkpointing)


def _known(plan: Plan, configuration: Configuration, element_bytes: int) -> tuple[tuple[Stage, ...], tuple[Flow, ...]]:
    """Return what a family knows of its network; nothing if it knows none of its stages."""
    network = configuration.network
    facts = family_of(network.name).stages(network, configuration.patch_size, _ends(plan, configuration)) or ()
    stages = tuple(_stage(one, configuration.spacing_mm, element_bytes) for one in facts)
    return stages, tuple(_unet_flows(len(stages)))


def _unet_flows(count: int) -> Iterator[Flow]:
    """Yield the flows of a U-Net of so many stages: from each to the next, and over the skip connections."""
    for target in range(count):
        yield Flow(source=target - 1 if target else IMAGE, target=target)
    bottleneck = count // 2
    for distance in range(1, bottleneck + 1):
        yield Flow(source=bottleneck - distance, target=bottleneck + distance)


def _traced(plan: Plan, configuration: Configuration, batch_size: int) -> tuple[tuple[Stage, ...], tuple[Flow, ...]]:
    """Return what a run of the network shows of it."""
    from tumorseg.planning.reading.traced import Batch, Traced, trace  # needs torch

    batch = Batch(configuration.patch_size, batch_size, plan.step_precision)
    found = trace(configuration.network, _ends(plan, configuration), batch)
    shapes = list(dict.fromkeys(stage.place.shape for stage in found.stages if stage.place.side == "encoder"))

    def stage_of(traced: Traced) -> Stage:
        side, shape = traced.place
        level = shapes.index(shape)
        ends = (max(level - 1, 0), level) if side == "encoder" else (level, level + 1)
        finer, coarser = (shapes[end] for end in ends)
        return Stage(
            side=side,
            level=level,
            shape=shape,
            features=traced.features,
            stride=tuple(round(edge / less) for edge, less in zip(finer, coarser, strict=True)),
            work=traced.work,
            parameters=traced.parameters,
            receptive_field=None,
            saved_bytes=traced.saved_bytes,
        )

    return tuple(map(stage_of, found.stages)), found.flows


def _stage(facts: StageFacts, spacing_mm: tuple[float, ...], element_bytes: int) -> Stage:
    """Return a stage on its grid; `element_bytes` is what one number of a patch takes in all patches of a batch."""
    field = None
    if facts.field_voxels is not None:
        mm = tuple(edge * spacing for edge, spacing in zip(facts.field_voxels, spacing_mm, strict=True))
        field = Field(voxels=facts.field_voxels, mm=mm)
    layout = facts.layout
    return Stage(
        side=layout.side,
        level=layout.level,
        shape=layout.shape,
        features=layout.features,
        stride=layout.stride,
        work=tuple(_work(layout)),
        parameters=layout.parameters,
        receptive_field=field,
        saved_bytes=facts.saved_elements * element_bytes,
    )


def _work(layout: StageLayout) -> Iterator[Work]:
    if layout.has_stem:
        yield Work(count=1, unit="convolution", kernel_size=())
    yield Work(count=layout.units, unit=layout.unit, kernel_size=layout.kernel_size)
