"""Fields of a plan that a user sets by name: `--set training.epochs=4`."""

import json
from collections.abc import Sequence
from typing import Any

from pydantic import JsonValue

from tumorseg.errors import PlanError
from tumorseg.losses.presets import loss_preset
from tumorseg.planning.choices.augmentation import cascade_augmentation
from tumorseg.planning.search.reasons import SPOILED_RULE
from tumorseg.schema.augmentation import AugmentationSpec, PreviousMorphology, PreviousRemoval
from tumorseg.schema.base import Record, parse_record
from tumorseg.schema.class_weights import CLASS_WEIGHTS
from tumorseg.schema.dataset import repeated_values
from tumorseg.schema.losses import COMPONENTS, LossPreset, LossSpec, OverlapLoss
from tumorseg.schema.numbers import NUMBER_SCHEDULES
from tumorseg.schema.optimizers import AdamW, PlateauSchedule, PolySchedule, Sgd
from tumorseg.schema.plan import Configuration, Plan, Reason
from tumorseg.schema.weighting import WEIGHTINGS

SETTABLE = ("training", "default_configuration", "configurations")
SET_BY_USER = "set by the user"
"""The rule of a field that was set."""


class Override(Record):
    """One field and its value."""

    field: str
    """Dotted: of `training`, of every configuration, or of one (`configurations.2d.batch_size`)."""
    value: JsonValue
    """As in the plan's JSON."""


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
    except json.JSONDecodeError:
        read = value
    return parse_record(Override, {"field": field.strip(), "value": read}, source=f"--set {text}", error=PlanError)


def apply_overrides(plan: Plan, overrides: Sequence[Override]) -> Plan:
    """Return the plan with fields set, validated, and recorded as set by the user.

    Raises:
        PlanError: a field that does not exist, or a value that makes the plan unsound.
    """
    if not overrides:
        return plan
    if repeated := repeated_values(override.field for override in overrides):
        raise PlanError(f"--set {repeated[0]} is given twice; give it once")
    document = plan.model_dump(mode="json")
    for override in sorted(overrides, key=_rank):
        for path in _resolve(override.field, plan):
            before = _set(document, path, override.value)
            reason = Reason(source="user", rule=SET_BY_USER, inputs={"value": override.value, "planned": before})
            _replace_reason(document["reasons"], ".".join(path), reason)
            if path[-1] == "previous_configuration" and before is None and override.value is not None:
                augmentation = document["reasons"].get(".".join([*path[:-1], "augmentation"]))
                if augmentation is not None:
                    augmentation["rule"] += f"; {SPOILED_RULE}"
    fields = ", ".join(override.field for override in overrides)
    return parse_record(Plan, document, source=f"plan {plan.name} with {fields} set", error=PlanError)


def _rank(override: Override) -> tuple[bool, int]:
    """Set what replaces a whole part (a name, a preset, a record) before what changes a field of it."""
    path = override.field.split(".")
    return path[-1] not in ("name", "preset", "previous_configuration"), len(path)


def _replace_reason(reasons: dict[str, Any], field: str, reason: Reason) -> None:
    """Enter a reason; those of parts of the field go, those of what it is part of say that it was set."""
    for other in list(reasons):
        if other.startswith(f"{field}."):
            del reasons[other]
        elif field.startswith(f"{other}."):
            reasons[other]["rule"] += f"; {field.removeprefix(f'{other}.')} was set by the user"
    reasons[field] = reason.model_dump(mode="json")


def _resolve(field: str, plan: Plan) -> list[list[str]]:
    """Return the full paths that a dotted field names: one, or one for each configuration."""
    first, *rest = path = field.split(".")
    if first in SETTABLE:
        return [path]
    if first in Configuration.model_fields:
        return [["configurations", name, first, *rest] for name in plan.configurations]
    known = ", ".join([*SETTABLE, *Configuration.model_fields])
    raise PlanError(f"--set {field}: there is no such field; a field begins with one of {known}")


def _set(document: dict[str, Any], path: list[str], value: JsonValue) -> JsonValue:
    """Set one field in place and return what it was.

    Naming another optimizer, schedule or the like begins with that one's defaults; a loss preset is expanded; a
    configuration that becomes a cascade is augmented as one.
    """
    parent = document
    for depth, key in enumerate(path[:-1]):
        parent = _child(parent, key, path[: depth + 1])
    before: JsonValue = _child(parent, path[-1], path)
    if path[-2:] == ["loss", "preset"]:
        parent.update(_expand_loss(parent, value, bool(document["dataset"]["regions"])))
    elif path[-1] == "name" and before != value:
        kept = dict(parent) if _part(path[:-1]) == "number" else _kept_of_component(parent, value)
        parent.clear()
        parent.update(_with_defaults(_part(path[:-1]), {"name": value}, kept))
    elif path[-1] == "previous_configuration" and (before is None) != (value is None):
        parent["previous_configuration"] = value
        parent["augmentation"] = _augmentation(parent["augmentation"], is_cascade=value is not None)
    elif isinstance(parent, list):
        parent[int(path[-1])] = _with_defaults(_part(path), value)
    else:
        parent[path[-1]] = _with_defaults(_part(path), value)
    return before


RECORDS: dict[str, dict[str, type[Record]]] = {
    "optimizer": {"sgd": Sgd, "adamw": AdamW},
    "schedule": {"poly": PolySchedule, "plateau": PlateauSchedule},
    "components": dict(COMPONENTS),
    "class_weights": dict(CLASS_WEIGHTS),
    "weighting": dict(WEIGHTINGS),
    "number": dict(NUMBER_SCHEDULES),
}
"""Records that a name chooses, by the part of a plan."""


def _part(path: list[str]) -> str:
    """Return which part of a plan a path leads to; the entries of a list are parts of the list's kind."""
    last = [key for key in path if not key.isdecimal()][-1]
    return last if last in RECORDS else "number"


def _with_defaults(part: str, value: Any, kept: dict[str, Any] | None = None) -> Any:
    """Return a value that names a record with what it does not say: what is kept of the one before, and defaults."""
    record = RECORDS[part].get(str(value.get("name"))) if isinstance(value, dict) else None
    if record is None or not isinstance(value, dict):
        return value if not kept else {name: one for name, one in kept.items() if name == "weight"} | value
    fields = record.model_fields
    defaults = {name: info.get_default() for name, info in fields.items() if not info.is_required()}
    filled = record.model_construct(**defaults).model_dump(mode="json", include=set(defaults))
    return filled | {name: one for name, one in (kept or {}).items() if name in fields} | value


def _kept_of_component(component: dict[str, Any], name: JsonValue) -> dict[str, Any]:
    """Return what a component of another name takes over: batch, and the weight unless the two have other defaults."""
    records = (COMPONENTS.get(str(one)) for one in (component.get("name"), name))
    defaults = {record.model_fields["weight"].default for record in records if record is not None}
    names = ("batch", "weight") if len(defaults) < 2 else ("batch",)
    return {field: component[field] for field in names if field in component}


def _augmentation(document: dict[str, Any], *, is_cascade: bool) -> dict[str, Any]:
    """Return the transforms of a cascade, or without those that only a cascade has."""
    spec = parse_record(AugmentationSpec, document, source="augmentation", error=PlanError)
    others = tuple(one for one in spec.transforms if not isinstance(one, PreviousMorphology | PreviousRemoval))
    plain = spec.model_copy(update={"transforms": others})
    found: dict[str, Any] = (cascade_augmentation(plain) if is_cascade else plain).model_dump(mode="json")
    return found


def _child(parent: Any, key: str, path: list[str]) -> Any:
    if isinstance(parent, dict) and key in parent:
        return parent[key]
    if isinstance(parent, list) and key.isdecimal() and int(key) < len(parent):
        return parent[int(key)]
    known = parent if isinstance(parent, dict) else range(len(parent)) if isinstance(parent, list) else ()
    listed = ", ".join(map(str, known)) or "nothing"
    raise PlanError(f"--set {'.'.join(path)}: there is no such field; known here: {listed}")


def _expand_loss(document: dict[str, Any], preset: JsonValue, has_regions: bool) -> dict[str, Any]:
    """Return a loss of a named preset, or of one of the user's own, with what the plan decided about the old one."""
    loss = parse_record(LossSpec, document, source="--set loss.preset", error=PlanError)
    if not isinstance(preset, str | dict):
        raise PlanError(
            f"--set loss.preset={preset}: expected the name of a preset, a JSON file, or an object with components"
        )
    is_own = isinstance(preset, dict)
    own = parse_record(LossPreset, preset, source="--set loss.preset", error=PlanError) if is_own else None
    batch_dice = any(isinstance(component, OverlapLoss) and component.batch for component in loss.components)
    expanded: LossSpec = loss_preset(
        own or str(preset),
        has_regions=has_regions,
        batch_dice=batch_dice,
        deep_supervision_weights=loss.deep_supervision_weights,
    )
    values: dict[str, Any] = expanded.model_dump(mode="json")
    return values
