"""Families of parameters that a space is named by, fitted to a plan.

Ranges hold what is usual and a few times as much either way. The plan's own values are filled in when a space is resolved.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence

from pydantic import JsonValue

from tumorseg.planning.families.registry import converted
from tumorseg.schema.network_parts import ATTENTION_REDUCTION, Parts
from tumorseg.schema.networks import MedNext, OwnUNet
from tumorseg.schema.optimizers import (
    AdamW,
    CosineSchedule,
    DecoupledAdam,
    OneCycleSchedule,
    PlateauSchedule,
    PolySchedule,
    ScheduleSpec,
    Sgd,
)
from tumorseg.schema.plan import Configuration, Plan
from tumorseg.schema.tuning import AnyParameter, ChoiceParameter, Condition, RealParameter
from tumorseg.tuning.augmentation_space import augmentation_parameters
from tumorseg.tuning.loss_space import loss_parameters

WIDTHS = (0.75, 1.5)
"""Factors of a network's features beside its own."""
DEPTHS = (0.5, 1.5)
"""Factors of its convolutions or blocks in each stage."""
UNITS: Mapping[str, str] = {"plain_unet": "convs_per_stage", "residual_unet": "blocks_per_stage"}
"""Field that says how deep each stage of an encoder is, by network: those that are searched among each other."""

ADAMS = ("adamw", "radam")
"""Optimizers that have the same parameters."""
SCHEDULES = ("poly", "plateau", "cosine", "one_cycle", "constant")
"""All that a plan can have."""
ATTENTIONS = ("none", "squeeze_excitation")
"""Attention of blocks that is searched; the voxels that CBAM weights besides cost as much again."""
MOST_DROPPED = 0.3
"""Largest chance of leaving out channels or blocks."""

Family = Callable[[Plan, Configuration], Sequence[AnyParameter]]


def optimizer_parameters(plan: Plan, configuration: Configuration) -> list[AnyParameter]:
    """Return the optimizer, its step and decays, and the schedule.

    References:
        Auto-nnU-Net (arXiv 2505.16561) searched learning rates from 1e-5 to 0.1 and weight decays from 1e-6 to 0.01.
    """
    own = configuration.optimizer
    by_sgd = own if isinstance(own, Sgd) else Sgd()
    by_adam = own if isinstance(own, DecoupledAdam) else AdamW()
    sgd, adam = _when("optimizer", "sgd"), _when("optimizer", *ADAMS)
    return [
        ChoiceParameter(field="optimizer.name", options=("sgd", *ADAMS)),
        RealParameter(field="optimizer.lr", low=1e-4, high=0.1, scale="log"),
        _decay(own.weight_decay),
        _real("optimizer.momentum", (0.8, 0.995), by_sgd.momentum, sgd),
        _real("optimizer.betas.0", (0.8, 0.98), by_adam.betas[0], adam),
        _real("optimizer.betas.1", (0.95, 0.9999), by_adam.betas[1], adam),
        *_schedule(configuration.schedule),
    ]


def _schedule(own: ScheduleSpec) -> Iterator[AnyParameter]:
    """Yield the schedule, and what those say that are not given by their name alone."""
    by_poly = own if isinstance(own, PolySchedule) else PolySchedule()
    by_plateau = own if isinstance(own, PlateauSchedule) else PlateauSchedule()
    by_cosine = own if isinstance(own, CosineSchedule) else CosineSchedule()
    by_cycle = own if isinstance(own, OneCycleSchedule) else OneCycleSchedule()
    poly, plateau, cosine, cycle = (_when("schedule", name) for name in SCHEDULES[:4])
    yield ChoiceParameter(field="schedule.name", options=SCHEDULES)
    yield _real("schedule.exponent", (0.1, 2.0), by_poly.exponent, poly)
    yield _real("schedule.factor", (0.3, 0.9), by_plateau.factor, plateau)
    yield _real("schedule.patience", (0.05, 0.25), by_plateau.patience, plateau)
    yield _real("schedule.floor", (0.0, 0.3), by_plateau.floor, plateau)
    yield _real("schedule.anneal_fraction", (0.0, 0.5), by_plateau.anneal_fraction, plateau)
    yield _real("schedule.warmup_fraction", (0.0, 0.2), by_cosine.warmup_fraction, cosine)
    yield _real("schedule.peak_at", (0.1, 0.5), by_cycle.peak_at, cycle)


def _when(part: str, *names: str) -> Condition:
    return Condition(field=f"{part}.name", values=names)


def _real(field: str, ends: tuple[float, float], center: float, when: Condition | None = None) -> RealParameter:
    """Return a parameter whose range holds its centre."""
    low, high = min(ends[0], center), max(ends[1], center)
    return RealParameter(field=field, low=low, high=high, center=center, when=when)


def _decay(own: float) -> RealParameter:
    # A plan without any decay has no place on a log scale.
    if own == 0:
        return RealParameter(field="optimizer.weight_decay", low=0.0, high=0.01)
    return RealParameter(field="optimizer.weight_decay", low=1e-6, high=0.1, scale="log")


def sampling_parameters(plan: Plan, configuration: Configuration) -> list[AnyParameter]:
    """Return the share of patches that are centred on foreground."""
    return [RealParameter(field="sampling.foreground_fraction", low=0.1, high=1.0)]


def network_parameters(plan: Plan, configuration: Configuration) -> list[AnyParameter]:
    """Return kind, width, depth and parts of a U-Net of this package, or what MedNeXt leaves out at random.

    Patch and stages stay as they were planned.
    """
    network = configuration.network
    if isinstance(network, MedNext):
        return list(_left_out(network))
    if not isinstance(network, OwnUNet):
        return []
    parameters: list[AnyParameter] = [ChoiceParameter(field="network.name", options=tuple(UNITS))]
    parameters += _choice("network.features_per_stage", (network.features_per_stage, *_widths(network)))
    for name, field in UNITS.items():
        encoder = network if name == network.name else converted(network, name)
        depths = [getattr(encoder, field), *(_deepened(getattr(encoder, field), factor) for factor in DEPTHS)]
        when = Condition(field="network.name", values=(name,))
        parameters += _choice(f"network.{field}", depths, when)
    # Families have other decoders, so that both are offered to either.
    stages = network.num_stages - 1
    parameters += _choice(
        "network.decoder_convs_per_stage", (network.decoder_convs_per_stage, (1,) * stages, (2,) * stages)
    )
    # With one decoder stage there is one output anyway.
    if stages > 1:
        parameters += _choice("network.deep_supervision", (network.deep_supervision, not network.deep_supervision))
    parameters += _parts(network)
    return parameters


def _parts(network: OwnUNet) -> Iterator[AnyParameter]:
    """Yield the attention of blocks, and what is left out at random while training."""
    # A plan that says how an attention is made has one in any case.
    has_own = network.attention_reduction != ATTENTION_REDUCTION
    kinds = [network.attention, *(one for one in ATTENTIONS if one != "none" or not has_own)]
    if len(options := tuple(dict.fromkeys(kinds))) > 1:
        yield ChoiceParameter(field="network.attention", options=options, center=options[0])
    yield from _left_out(network, Condition(field="network.name", values=("residual_unet",)))


def _left_out(network: Parts, when: Condition | None = None) -> Iterator[RealParameter]:
    """Yield the chances of leaving out channels and, on a condition, blocks."""
    yield _real("network.dropout", (0.0, MOST_DROPPED), network.dropout)
    yield _real("network.stochastic_depth", (0.0, MOST_DROPPED), network.stochastic_depth, when)


def _widths(network: OwnUNet) -> Iterator[tuple[int, ...]]:
    """Yield other numbers of features, multiples of what the network's own are multiples of, of 8 at most."""
    multiple = math.gcd(8, *network.features_per_stage)
    for factor in WIDTHS:
        scaled = [round(features * factor / multiple) * multiple for features in network.features_per_stage]
        yield tuple(max(multiple, features) for features in scaled)


def _deepened(counts: Sequence[int], factor: float) -> tuple[int, ...]:
    return tuple(math.ceil(count * factor) for count in counts)


def _choice(
    field: str, values: Sequence[Sequence[int] | bool], when: Condition | None = None
) -> Iterator[ChoiceParameter]:
    """Yield a choice among values of which some may be alike, the first likeliest; nothing if all are."""
    options: list[JsonValue] = []
    for value in values:
        option: JsonValue = value if isinstance(value, bool) else list(value)
        if option not in options:
            options.append(option)
    if len(options) > 1:
        yield ChoiceParameter(field=field, options=tuple(options), center=options[0], when=when)


FAMILIES: Mapping[str, Family] = {
    "loss": loss_parameters,
    "optimizer": optimizer_parameters,
    "augmentation": augmentation_parameters,
    "network": network_parameters,
    "sampling": sampling_parameters,
}
"""By name."""
