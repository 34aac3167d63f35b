"""Shapes, weights, receptive fields and saved activations of a network's stages on its patch.

They follow from the plan alone, as the network's family knows them; no network is built, so that torch is not needed.
"""

from tumorseg.planning.families.base import Ends, StageFacts, StageLayout
from tumorseg.planning.families.registry import family_of
from tumorseg.planning.memory.budgets import part_size
from tumorseg.schema.base import Record
from tumorseg.schema.extensions import External
from tumorseg.schema.plan import Configuration, Plan
from tumorseg.schema.targets import num_inputs, targets_of

BYTES = {"fp32": 4, "fp16": 2, "bf16": 2}
"""Of one number that autocast keeps for the backward pass."""


class Field(Record):
    """Receptive field of one voxel of a stage."""

    voxels: tuple[int, ...]
    """Edge per axis, in voxels of the patch."""
    mm: tuple[float, ...]
    """The same on the configuration's grid."""


class Stage(StageLayout):
    """One stage of the encoder or the decoder, on the plan's grid and in its batches."""

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
    """Return the anatomy of a configuration's network, or None where its family, or another package's, tells none."""
    configuration = plan.configurations[name]
    network = configuration.network
    if isinstance(network, External):
        return None
    stages = family_of(network.name).stages(network, configuration.patch_size, _ends(plan, configuration))
    if stages is None:
        return None
    # Of a batch in parts, activations are kept for one part at a time.
    batch_size = part_size(configuration, plan.budget.num_gpus)
    precision = plan.step_precision
    # Planes lack the first of the plan's axes.
    axes = "".join("ZYX"[axis] for axis in plan.transpose[3 - configuration.num_axes :])
    element_bytes = BYTES[precision] * batch_size
    return Anatomy(
        network=network.name,
        axes=axes,
        spacing_mm=configuration.spacing_mm,
        batch_size=batch_size,
        precision=precision,
        stages=tuple(_stage(facts, configuration.spacing_mm, element_bytes) for facts in stages),
    )


def _ends(plan: Plan, configuration: Configuration) -> Ends:
    targets = targets_of(plan.dataset)
    channels = num_inputs(configuration, targets)
    return Ends(channels, targets.num_outputs, is_checkpointed=configuration.activation_checkpointing)


def _stage(facts: StageFacts, spacing_mm: tuple[float, ...], element_bytes: int) -> Stage:
    """Return a stage on its grid; `element_bytes` is what one number of a patch takes in all patches of a batch."""
    field = None
    if facts.field_voxels is not None:
        mm = tuple(edge * spacing for edge, spacing in zip(facts.field_voxels, spacing_mm, strict=True))
        field = Field(voxels=facts.field_voxels, mm=mm)
    return Stage(
        **dict(facts.layout),
        receptive_field=field,
        saved_bytes=facts.saved_elements * element_bytes,
    )
