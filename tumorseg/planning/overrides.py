"""Fields of a plan that a user sets by name: `--set training.epochs=4`."""

import json
from collections.abc import Callable, Container, Mapping, Sequence
from typing import Any, NamedTuple

from pydantic import JsonValue

from tumorseg.errors import PlanError
from tumorseg.losses.presets import deep_supervision_weights, loss_preset
from tumorseg.planning.choices.augmentation import cascade_augmentation, cascade_reasons
from tumorseg.planning.families.registry import converted
from tumorseg.schema.augmentation import AugmentationSpec, PreviousMorphology, PreviousRemoval
from tumorseg.schema.base import Record, parse_record
from tumorseg.schema.extensions import External
from tumorseg.schema.fields import Place, is_choice, is_field, nearest, places, rank, replaced, values_at
from tumorseg.schema.losses import LossPreset, LossSpec, OverlapLoss
from tumorseg.schema.networks import NETWORKS
from tumorseg.schema.plan import Configuration, Plan, Reason

SETTABLE = ("training", "default_configuration", "configurations")
SET_BY_USER = "set by the user"
"""The rule of a field that was set."""


class Override(Record):
    """One field and its value."""

    field: str
    """Dotted: of `training`, of every configuration, or of one (`configurations.2d.batch_size`)."""
    value: JsonValue
    """As in the plan's JSON."""


class _Full(NamedTuple):
    """An override of a field of the whole plan."""

    field: str
    value: JsonValue
    is_specific: bool
    """Whether the user named this very field, rather than that of every configuration."""


class Change(NamedTuple):
    """A document in which one field was set."""

    document: dict[str, Any]
    """All of it."""
    field: str
    """What was set, dotted, entries of lists by their numbers."""
    before: JsonValue
    """What it was."""
    reasons: dict[str, Reason]
    """Of other fields that changed with it, dotted."""


def parse_override(text: str) -> Override:
    """Read `field=value`; the value is JSON, or else a string.

    Raises:
        PlanError: there is no `=`.
    """
    field, equals, value = text.partition("=")
    if not equals or not field.strip():
        raise PlanError(f"--set {text!r} is not of the form field=value, such as training.epochs=4")
    try:
        read = json.loads(value)
    except (ValueError, RecursionError):  # no JSON, a number of thousands of digits, or thousands of brackets
        read = value
    return parse_record(Override, {"field": field.strip(), "value": read}, source=f"--set {text}", error=PlanError)


def apply_overrides(plan: Plan, overrides: Sequence[Override]) -> Plan:
    """Return the plan with fields set, validated, and recorded as set by the user.

    Raises:
        PlanError: a field that does not exist or is given twice, or a value that makes the plan unsound.
    """
    if not overrides:
        return plan
    document = plan.model_dump(mode="json", exclude={"reasons"})
    reasons = dict(plan.reasons)
    full = []
    for one in overrides:
        for field in _full_fields(one.field, plan):
            full.append(_Full(field, one.value, is_specific=field == one.field))
    planned: dict[tuple[str, bool], JsonValue] = {}
    for override in sorted(full, key=_rank):
        change = set_field(document, override.field, override.value, source="--set")
        # One field has several spellings, such as the number and the name of an entry.
        if (change.field, override.is_specific) in planned:
            raise PlanError(f"--set {change.field} is given twice; give it once")
        # A field that was set for all configurations before holds the user's value by now, not the planned one.
        before = planned.get((change.field, False), change.before)
        planned[change.field, override.is_specific] = before
        for field, reason in change.reasons.items():
            reasons = _without_changed(reasons, field, document, change.document) | {field: reason}
        # What was planned inside the field has gone, and so have its reasons, even where the user's value is the same.
        reasons = {other: one for other, one in reasons.items() if not other.startswith(f"{change.field}.")}
        inputs = {"value": override.value, "planned": before}
        reasons[change.field] = Reason(source="user", rule=SET_BY_USER, inputs=inputs)
        document = change.document
    fields = ", ".join(override.field for override in overrides)
    # A transform that went took its reason along.
    document["reasons"] = {field: one for field, one in reasons.items() if is_field(document, field.split("."))}
    return parse_record(Plan, document, source=f"plan {plan.name} with {fields} set", error=PlanError)


def _without_changed(
    reasons: Mapping[str, Reason], field: str, before: Mapping[str, Any], after: Mapping[str, Any]
) -> dict[str, Reason]:
    """Return the reasons outside of a field, and of those inside it the ones whose value did not change."""
    kept = {}
    for other, reason in reasons.items():
        path = other.split(".")
        # An entry of a list that looks the same may be another entry.
        is_entry = any(part.isdecimal() for part in path[len(field.split(".")) :])
        is_same = not is_entry and list(values_at(before, path)) == list(values_at(after, path))
        if is_same or not other.startswith(f"{field}."):
            kept[other] = reason
    return kept


def set_field(document: Mapping[str, Any], field: str, value: JsonValue, *, source: str) -> Change:
    """Return a plan's document with one field set, not validated as a whole yet; the one given stays as it is.

    Naming another optimizer, schedule or the like begins with that one's defaults and keeps what means the same in
    both; a loss preset is expanded; a configuration that becomes a cascade is augmented as one.

    Args:
        document: as in JSON; defaults may be left out.
        field: dotted, entries of lists by number or name.
        value: as in JSON.
        source: what the reader of an error message knows the field by.

    Raises:
        PlanError: there is no such field, or the value is none that it can have.
    """
    found = places(Plan, document, field, source=source, error=PlanError)
    # The document itself is a place too, so that there are two at least.
    parent, place = found[-2:]
    rule = _rule_of(found, value)
    if rule is None:
        is_other = is_choice(found) and value != place.value
        reasons = {parent.field: _following(place.path[-1])} if is_other else {}
        return Change(replaced(found, value), place.field, place.value, reasons)
    whole = found[-1 - rule.depth]
    new, inner = rule.decide(Setting(document, whole, value, f"{source} {place.field}"))
    reasons = {f"{whole.field}.{part}".strip("."): reason for part, reason in inner.items()}
    return Change(replaced(found[: -rule.depth], new), place.field, place.value, reasons)


class Setting(NamedTuple):
    """A field whose value decides what stands beside it."""

    document: Mapping[str, Any]
    """As it was."""
    parent: Place
    """What it decides about: what the field is of, or further out."""
    value: JsonValue
    """Of the field."""
    source: str
    """For error messages."""


class Rule(NamedTuple):
    """A field that decides what stands beside it."""

    kind: Any
    """Annotation of what the field is of."""
    key: str
    """Of the field."""
    decide: Callable[[Setting], tuple[dict[str, Any], dict[str, Reason]]]
    """Returns a new parent, and reasons of what changed in it, by field within it; empty for itself."""
    depth: int = 1
    """Levels from the field out to the parent that is decided about."""
    names: Container[str] | None = None
    """Values that decide; None for all."""


def _converted(setting: Setting) -> tuple[dict[str, Any], dict[str, Reason]]:
    """Return a configuration with the network of another family in the place of the planned one."""
    configuration = setting.parent.value
    planned = Place((), NETWORK, configuration.get("network"))
    network: Any = parse_record(planned.record or External, planned.value, source=setting.source, error=PlanError)
    loss = parse_record(LossSpec, configuration.get("loss"), source=setting.source, error=PlanError)
    other = converted(network, str(setting.value))
    changed = {**configuration, "network": other.model_dump(mode="json")}
    reasons = {"network": _following("name")}
    if len(loss.deep_supervision_weights) != other.num_supervised:
        fitting = deep_supervision_weights(other.num_supervised)
        changed["loss"] = {**configuration["loss"], "deep_supervision_weights": fitting}
        reasons["loss.deep_supervision_weights"] = Reason(rule="nnU-Net's weights, one for each output of the network")
    return changed, reasons


def _expanded(setting: Setting) -> tuple[dict[str, Any], dict[str, Reason]]:
    """Return a loss of a named preset, or of one of the user's own, with what the plan decided about the old one."""
    preset, source = setting.value, setting.source
    loss = parse_record(LossSpec, setting.parent.value, source=source, error=PlanError)
    if not isinstance(preset, str | dict):
        raise PlanError(f"{source}={preset}: expected the name of a preset, a JSON file, or an object with components")
    own = parse_record(LossPreset, preset, source=source, error=PlanError) if isinstance(preset, dict) else None
    expanded = loss_preset(
        own or str(preset),
        has_regions=bool(setting.document["dataset"]["regions"]),
        batch_dice=any(isinstance(component, OverlapLoss) and component.batch for component in loss.components),
        deep_supervision_weights=loss.deep_supervision_weights,
    )
    return expanded.model_dump(mode="json"), {"": _following("preset")}


def _following(field: str) -> Reason:
    return Reason(rule=f"follows from its {field}, which was set by the user")


def _with_previous(setting: Setting) -> tuple[dict[str, Any], dict[str, Reason]]:
    """Return a configuration with the transforms of a cascade, or without those that only a cascade has."""
    configuration = setting.parent.value
    changed = {**configuration, "previous_configuration": setting.value}
    # One cascade into another: its transforms are there already, and may have been changed.
    if setting.value is not None and configuration.get("previous_configuration") is not None:
        return changed, {}
    spec = parse_record(AugmentationSpec, configuration.get("augmentation"), source=setting.source, error=PlanError)
    others = [one for one in spec.transforms if not isinstance(one, PreviousMorphology | PreviousRemoval)]
    plain = spec.changed(transforms=others)
    corrupted = plain if setting.value is None else cascade_augmentation(plain)
    changed["augmentation"] = corrupted.model_dump(mode="json")
    return changed, cascade_reasons(corrupted)


NETWORK = Configuration.model_fields["network"].annotation
RULES = (
    Rule(LossSpec, "preset", _expanded),
    Rule(Configuration, "previous_configuration", _with_previous),
    # The loss beside the network has a weight for each of its outputs. Only families of tumorseg's own are converted.
    Rule(NETWORK, "name", _converted, depth=2, names=NETWORKS),
)
DECIDING = {rule.key for rule in RULES} | {"name"}


def _rule_of(found: Sequence[Place], value: JsonValue) -> Rule | None:
    """Return the rule of the last of the places for a new value, if there is one."""
    # Naming what is there already must not put defaults in the place of what was planned for it.
    if is_choice(found) and value == found[-1].value:
        return None
    field = (found[-2].kind, found[-1].path[-1])
    rules = (rule for rule in RULES if (rule.kind, rule.key) == field)
    return next((rule for rule in rules if rule.names is None or str(value) in rule.names), None)


def _full_fields(field: str, plan: Plan) -> list[str]:
    """Return the fields of the whole plan that a dotted field names: one, or one for each configuration."""
    first = field.split(".")[0]
    if first in SETTABLE:
        return [field]
    if first in Configuration.model_fields:
        return [f"configurations.{name}.{field}" for name in plan.configurations]
    known = [*SETTABLE, *Configuration.model_fields]
    raise PlanError(
        f"--set {field}: there is no such field; a field begins with one of {', '.join(known)}{nearest(first, known)}"
    )


def _rank(override: _Full) -> tuple[int, bool, bool]:
    """Return what overrides are sorted by: of two equally far out, what is said of one configuration comes last."""
    depth, is_deciding = rank(override.field, DECIDING)
    return depth, override.is_specific, is_deciding
