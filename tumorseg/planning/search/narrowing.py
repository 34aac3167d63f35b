"""A network that computes a share of what another plan's does: the planned one, narrower."""

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple, cast

from pydantic import Field

from tumorseg.errors import PlanError
from tumorseg.planning.families.base import Sized
from tumorseg.planning.families.registry import family_of, network_reason
from tumorseg.planning.flops import network_flops
from tumorseg.planning.presets import Preset
from tumorseg.planning.search.configurations import FULL, Planned
from tumorseg.schema.base import Record
from tumorseg.schema.networks import KnownNetwork, NetworkSpec, StagedNetwork
from tumorseg.schema.networks_monai import AttentionUnet
from tumorseg.schema.plan import Configuration, Plan, Reason
from tumorseg.schema.targets import Targets, num_inputs, targets_of

LEAST_FEATURES = 2
"""Channels at full resolution of the narrowest preset that is looked at."""
ROUNDING = 1e-9
"""Share by which sums of the same operations may differ."""


class FlopsLimit(Record):
    """The most that a network may compute: a share of what another plan's does."""

    plan: str
    """Name of the other plan."""
    share: float = Field(gt=0, le=1)
    """Of its operations."""
    per_mm3: float = Field(gt=0)
    """Its operations for each mm3 of image, in its default configuration."""


class Wide(NamedTuple):
    """Configurations, and the preset whose width they have."""

    configurations: Mapping[str, Planned]
    preset: Preset


class Measure(NamedTuple):
    """What operations per mm3 depend on besides networks and their grids."""

    targets: Targets
    """What networks predict."""
    plane_distance_mm: float
    """Distance of planes, for configurations of planes."""


def flops_limit(plan: Plan, share: float) -> FlopsLimit:
    """Return the limit that is a share of what a plan's default configuration computes.

    Raises:
        PlanError: another package's network is not installed in the plan's version.
    """
    # A plan without volumes is of images whose planes were not resampled.
    volumes = plan.configurations.get(FULL)
    between = plan.fingerprint.median_spacing_mm[plan.transpose[0]] if volumes is None else volumes.spacing_mm[0]
    configuration = plan.configurations[plan.default_configuration]
    per_mm3 = _per_mm3(configuration, configuration.network, Measure(targets_of(plan.dataset), between))
    return FlopsLimit(plan=plan.name, share=share, per_mm3=per_mm3)


def narrowed(wide: Wide, default: str, limit: FlopsLimit, measure: Measure) -> Wide:
    """Return configurations with the widest networks of which the default one's keeps a limit.

    Patches, batches and stages stay as they were planned.

    Args:
        wide: what was planned.
        default: name of the configuration that is held against the limit; all take its width.
        limit: of the operations.
        measure: how they are counted.

    Raises:
        PlanError: no network is as small.
    """
    preset, one = wide.preset, wide.configurations[default]

    def keeps(features: int) -> bool:
        network = _network(one, _as_wide(preset, features))
        return _per_mm3(one.configuration, network, measure) <= limit.share * limit.per_mm3

    features = _widest(preset.base_features, keeps)
    if features is None:
        # Some families have wider networks on narrow presets.
        least = first_features(_network(one, _as_wide(preset, LEAST_FEATURES)))
        raise PlanError(
            f"--flops-of {limit.plan}:{limit.share:g}: a {preset.network} of {least} features computes more than that on "
            f"a patch of {list(one.configuration.patch_size)}; give a larger share, or another --network"
        )
    narrow = _as_wide(preset, features)
    found = {name: _with_width(planned, narrow, limit) for name, planned in wide.configurations.items()}
    return Wide(found, narrow)


def check_limit(plan: Plan, limit: FlopsLimit) -> None:
    """Refuse a plan whose default configuration passes a limit, as what a user sets may make it do.

    Raises:
        PlanError: it does.
    """
    share = flops_limit(plan, 1.0).per_mm3 / limit.per_mm3
    if share > limit.share * (1 + ROUNDING):
        raise PlanError(
            f"--flops-of {limit.plan}:{limit.share:g} and --set contradict: {plan.default_configuration} as it is set computes "
            f"{share:.3g} times as much per mm3; set less, or give a larger share"
        )


def _widest(most: int, keeps: Callable[[int], bool]) -> int | None:
    """Return the largest number of features that keeps a limit; what is computed never falls as they grow."""
    if keeps(most):
        return most
    low, too_many = LEAST_FEATURES - 1, most
    while too_many - low > 1:
        middle = (low + too_many) // 2
        low, too_many = (middle, too_many) if keeps(middle) else (low, middle)
    return low if low >= LEAST_FEATURES else None


def _as_wide(preset: Preset, features: int) -> Preset:
    """Return a preset of so many features at full resolution, all others in proportion."""
    share = features / preset.base_features
    return preset.changed(
        base_features=features,
        max_features_2d=max(features, round(preset.max_features_2d * share)),
        max_features_3d=max(features, round(preset.max_features_3d * share)),
    )


def _network(planned: Planned, preset: Preset) -> KnownNetwork:
    """Return the network of a preset's width on the patch of a configuration."""
    # Patches do not depend on width: the sequence is the one in which this patch was found.
    patch = planned.configuration.patch_size
    sizes = family_of(preset.network).networks(planned.grid, preset)
    return next(sized.network for sized in sizes if sized.patch_size == patch)


def first_features(network: KnownNetwork) -> int:
    """Return the features at full resolution, which not every family takes over from the preset."""
    return network.features_per_stage[0] if isinstance(network, StagedNetwork | AttentionUnet) else network.features


def _with_width(planned: Planned, narrow: Preset, limit: FlopsLimit) -> Planned:
    network = _network(planned, narrow)
    # Of another package's network no configuration is planned.
    own, usual = first_features(network), first_features(cast(KnownNetwork, planned.configuration.network))
    configuration = planned.configuration.changed(network=network)
    reason = network_reason(Sized(network, configuration.patch_size), planned.grid, narrow)
    width = Reason(
        source="user",
        rule=f"{reason.rule}; {own} features at full resolution, the most with {limit.share:.3g} times the "
        f"operations per mm3 of {limit.plan} (--flops-of); patch and batch are those of {usual}",
        inputs={**reason.inputs, "planned": usual, "flops_per_mm3": round(limit.share * limit.per_mm3)},
        alternative=f"{usual} features, without --flops-of",
    )
    return planned._replace(configuration=configuration, reasons=planned.reasons | {"network": width})


def _per_mm3(configuration: Configuration, network: NetworkSpec, measure: Measure) -> float:
    """Return the operations for each mm3 of a patch, with a network in the place of a configuration's own."""
    flops = network_flops(
        network,
        configuration.patch_size,
        num_channels=num_inputs(configuration, measure.targets),
        num_outputs=measure.targets.num_outputs,
    )
    voxel = math.prod(configuration.spacing_mm)
    if configuration.num_axes == 2:
        voxel *= measure.plane_distance_mm
    return flops / (math.prod(configuration.patch_size) * voxel)
