"""What the networks of plans cost: weights, operations, memory, and how far they see; counted, without computing anything."""

from functools import partial
from typing import Literal

from torch import nn

from tumorseg.losses.presets import deep_supervision_weights
from tumorseg.networks.receptive_field import receptive_field
from tumorseg.networks.registry import build_network, prepare_network
from tumorseg.planning.families.base import Grid, Sized
from tumorseg.planning.families.registry import family_of
from tumorseg.planning.flops import network_flops
from tumorseg.planning.memory.budgets import needed_bytes
from tumorseg.planning.memory.counting import MemoryCounter
from tumorseg.planning.memory.fakes import FakeMode
from tumorseg.planning.memory.rehearsal import Setting, setting_of
from tumorseg.planning.memory.totals import plan_setting
from tumorseg.planning.presets import Preset
from tumorseg.schema.base import Record
from tumorseg.schema.extensions import External
from tumorseg.schema.networks import NetworkSpec
from tumorseg.schema.plan import Configuration, Plan

MANY_VOXELS = 1e12
"""Of a dataset, where there is none: no batch holds too much of it."""


class Sight(Record):
    """How far one voxel of a network's logits sees."""

    voxels: tuple[int, ...] | None
    """Edges of the box, in voxels of the patch, that it depends on by convolutions; null where attention leaves none, or where only
    another package knows the network."""
    whole: Literal["window", "patch"] | None
    """What attention looks at as a whole; `patch` beside voxels where features are pooled over it; null for neither."""


class Costs(Record):
    """What a configuration's network costs."""

    network: str
    """Its name in the plan."""
    patch_size: tuple[int, ...]
    """Voxels per axis."""
    batch_size: int
    """Patches of a step."""
    precision: str
    """Of a step on a GPU."""
    parameters: int
    """Weights and biases."""
    flops: int
    """Operations of a forward pass of one patch; a multiplication and an addition are two."""
    activations_bytes: int
    """What the forward pass of a step keeps for the backward pass."""
    memory_bytes: int
    """GPU memory of training and inference, CUDA's context and a margin included, as plans predict it."""
    sight: Sight
    """How far it sees."""
    step_s: float | None = None
    """Seconds of a training step, measured on noise; null if it was not."""
    tile_s: float | None = None
    """Seconds of an inference tile of the patch's size, without mirroring; measured as well."""
    device: str | None = None
    """Where they were measured."""


def plan_costs(plan: Plan, name: str, counter: MemoryCounter) -> Costs:
    """Count what a configuration's network costs.

    Raises:
        PlanError: the network or the loss of another package is not installed in the plan's version.
    """
    configuration = plan.configurations[name]
    setting = setting_of(plan_setting(plan), configuration)
    network, patch = configuration.network, configuration.patch_size
    count = counter.count(configuration, setting, num_gpus=plan.budget.num_gpus)
    return Costs(
        network=network.name,
        patch_size=patch,
        batch_size=configuration.batch_size,
        precision=setting.precision,
        parameters=_parameters(network, setting),
        flops=network_flops(network, patch, num_channels=setting.num_channels, num_outputs=setting.targets.num_outputs),
        activations_bytes=count.activations_bytes,
        memory_bytes=needed_bytes(count),
        sight=_sight(network, patch, setting),
    )


def _parameters(network: NetworkSpec, setting: Setting) -> int:
    prepare_network(network)
    with FakeMode():
        return sum(parameter.numel() for parameter in _built(network, setting).parameters())


def _built(network: NetworkSpec, setting: Setting) -> nn.Module:
    return build_network(network, num_channels=setting.num_channels, num_outputs=setting.targets.num_outputs)


def _sight(network: NetworkSpec, patch_size: tuple[int, ...], setting: Setting) -> Sight:
    if isinstance(network, External):
        # Nothing says which sizes of images it takes.
        return Sight(voxels=None, whole=None)
    build = partial(_built, network, setting)
    reach = receptive_field(build, patch_size, num_channels=setting.num_channels, divisors=network.divisors)
    return Sight(voxels=reach.voxels, whole=reach.whole)


def with_network(plan: Plan, name: str, *, patch_size: tuple[int, ...], preset: Preset) -> Plan:
    """Return a plan whose default configuration has another network, as large as a family has it on a patch of cubic voxels.

    Args:
        plan: whose channels, targets and training are kept.
        name: of the family.
        patch_size: voxels that are asked for; the family's own are multiples of what it divides by.
        preset: whose widths it has; a larger patch than its search begins with is no reason to cut it.

    Raises:
        PlanError: the patch is too small for the family, or has axes that it has no networks for.
    """
    edges = tuple(map(float, patch_size))
    grid = Grid((1.0,) * len(edges), edges, MANY_VOXELS, num_outputs=len(plan.dataset.labels), is_patch=True)
    field = f"initial_edge_{len(edges)}d"
    wide = preset.model_copy(update={field: max(getattr(preset, field), *patch_size)})
    sized: Sized = next(family_of(name).networks(grid, wide))
    default = plan.default_configuration
    configuration = _around(plan.configurations[default], sized)
    return plan.changed(configurations={default: configuration})


def _around(configuration: Configuration, sized: Sized) -> Configuration:
    weights = deep_supervision_weights(sized.network.num_supervised)
    return configuration.changed(
        network=sized.network,
        patch_size=sized.patch_size,
        loss=configuration.loss.changed(deep_supervision_weights=weights),
        gradient_accumulation=1,
        activation_checkpointing=False,
    )
