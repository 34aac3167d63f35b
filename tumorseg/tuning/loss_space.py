"""What trials may change of a loss: its preset, what each term has to set, weights and ends of schedules."""

from collections.abc import Iterator, Mapping
from typing import Literal, NamedTuple

from pydantic import JsonValue

from tumorseg.losses.presets import LOSS_PRESETS, loss_preset
from tumorseg.schema.class_weights import InverseFrequencyWeights
from tumorseg.schema.losses import (
    EntropyLoss,
    FocalLoss,
    GeneralizedDiceLoss,
    HardExampleLoss,
    LossSpec,
    OverlapLoss,
    TopKLoss,
    TverskyLoss,
    UnifiedFocalLoss,
    Weighted,
)
from tumorseg.schema.numbers import CosineSchedule, LinearSchedule, Number, WarmUpSchedule
from tumorseg.schema.plan import Configuration, Plan
from tumorseg.schema.targets import targets_of
from tumorseg.schema.tuning import AnyParameter, ChoiceParameter, Condition, RealParameter

WEIGHT_FACTOR = 4.0
"""By how much a term may weigh more or less than it does."""
FOCAL_ALPHAS: tuple[JsonValue, ...] = (None, 0.25, 0.75, 0.9)
"""Shares of the foreground in the focal loss: all alike, Lin et al.'s, and such as make up for little foreground."""
MILD_WEIGHTS = InverseFrequencyWeights(of="batch", power=0.5)
"""Class weights that need no counts of the dataset."""


class _Range(NamedTuple):
    """Where a number of a term may be."""

    low: float
    high: float
    is_log: bool = False


RANGES: Mapping[type[Weighted], Mapping[str, _Range]] = {
    FocalLoss: {"gamma": _Range(0.5, 5.0)},
    TverskyLoss: {"alpha": _Range(0.1, 0.9), "beta": _Range(0.1, 0.9), "gamma": _Range(0.5, 1.5)},
    UnifiedFocalLoss: {"balance": _Range(0.1, 0.9), "delta": _Range(0.5, 0.9), "gamma": _Range(0.1, 0.9)},
    TopKLoss: {"k": _Range(0.02, 0.5, is_log=True)},
    HardExampleLoss: {"k": _Range(0.02, 0.5, is_log=True)},
}
"""Numbers of each term, within what its authors tried."""


def loss_parameters(plan: Plan, configuration: Configuration) -> list[AnyParameter]:
    """Return the presets that suit the plan's targets, and the parameters of their terms, of each while its preset is chosen."""
    losses = _suited(plan, configuration.loss)
    found: dict[str, AnyParameter] = {}
    presets: dict[str, list[JsonValue]] = {}
    for name, loss in losses.items():
        for parameter in _of_terms(loss):
            # A term of several presets is one field, of which the first, the plan's own if it has it, says the centre.
            found.setdefault(parameter.field, parameter)
            presets.setdefault(parameter.field, []).append(name)
    parameters: list[AnyParameter] = [ChoiceParameter(field="loss.preset", options=tuple(losses))]
    for field, parameter in found.items():
        when = Condition(field="loss.preset", values=tuple(presets[field]))
        parameters.append(parameter.changed(when=when))
    return parameters


def _suited(plan: Plan, own: LossSpec) -> dict[str, LossSpec]:
    """Return the losses that suit the plan's targets, none twice, its own first."""
    suited = {own.preset: own}
    # One foreground class has no size but its own to be weighed by.
    has_several = len(targets_of(plan.dataset).scored_names) > 1
    has_batch = any(isinstance(component, OverlapLoss) and component.batch for component in own.components)
    for name in LOSS_PRESETS:
        loss = loss_preset(
            name,
            has_regions=bool(plan.dataset.regions),
            batch_dice=has_batch,
            deep_supervision_weights=own.deep_supervision_weights,
        )
        is_known = any(_terms_of(loss) == _terms_of(other) for other in suited.values())
        by_size = any(isinstance(component, GeneralizedDiceLoss) for component in loss.components)
        if name not in suited and not is_known and (has_several or not by_size):
            suited[name] = loss
    return suited


def _terms_of(loss: LossSpec) -> tuple[object, ...]:
    return loss.components, loss.weighting


def _of_terms(loss: LossSpec) -> Iterator[AnyParameter]:
    names = [component.name for component in loss.components]
    for number, component in enumerate(loss.components):
        name = names[number] if names.count(names[number]) == 1 else str(number)
        path = f"loss.components.{name}"
        # Weights count against each other: a first one that is constant is what the others are measured by.
        if number > 0 or not isinstance(component.weight, float):
            yield from _weight(f"{path}.weight", component.weight)
        for field, within in RANGES.get(type(component), {}).items():
            yield from _number(f"{path}.{field}", getattr(component, field), within)
        yield from _choices(path, component)


def _choices(path: str, component: Weighted) -> Iterator[ChoiceParameter]:
    if isinstance(component, FocalLoss):
        # As the preset has it, maybe a weight for each output.
        own: JsonValue = component.model_dump(mode="json")["alpha"]
        options = FOCAL_ALPHAS if own in FOCAL_ALPHAS else (own, *FOCAL_ALPHAS)
        yield ChoiceParameter(field=f"{path}.alpha", options=options, center=own)
    if isinstance(component, EntropyLoss):
        weights = (None, MILD_WEIGHTS.model_dump(mode="json"))
        yield ChoiceParameter(field=f"{path}.class_weights", options=weights)


def _weight(field: str, weight: Number) -> Iterator[RealParameter]:
    field, end = _end(field, weight)
    # A weight of 0 turns a term off, and one of several steps has no end of its own.
    if end is not None and end > 0:
        low, high = end / WEIGHT_FACTOR, end * WEIGHT_FACTOR
        yield RealParameter(field=field, low=low, high=high, scale="log", center=end)


def _number(field: str, number: Number, within: _Range) -> Iterator[RealParameter]:
    field, end = _end(field, number)
    if end is None:
        return
    scale: Literal["linear", "log"] = "log" if within.is_log and end > 0 else "linear"
    low, high = min(within.low, end), max(within.high, end)
    yield RealParameter(field=field, low=low, high=high, scale=scale, center=end)


def _end(field: str, number: Number) -> tuple[str, float | None]:
    """Return where a number stands, or the end of its schedule, and what it is; None of one that goes in steps."""
    if isinstance(number, LinearSchedule | CosineSchedule):
        return f"{field}.end", number.end
    if isinstance(number, WarmUpSchedule):
        return f"{field}.value", number.value
    return field, float(number) if isinstance(number, float | int) else None
