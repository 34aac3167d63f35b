"""Fields of a plan that a user sets by name: `--set training.epochs=4`."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from json import JSONDecodeError
from typing import Any, NamedTuple

from pydantic import JsonValue

from tumorseg.errors import PlanError, is_plain
from tumorseg.planning.deciding_fields import DECIDING, Setting, following, refit_augmentation, rule_of
from tumorseg.schema.augmentation import CUSTOM, AugmentationSpec
from tumorseg.schema.base import Record, load_json, parse_record
from tumorseg.schema.fields import Place, is_choice, is_field, nearest, places, rank, replaced, values_at
from tumorseg.schema.plan import Configuration, Plan, Reason
from tumorseg.schema.training import Training
from tumorseg.schema.wording import MOST_LETTERS

SETTABLE = ("training", "default_configuration", "configurations")
FITTED_TO = ("patch_size", "normalization")
"""Fields of a configuration that transforms go by."""
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
        PlanError: there is no `=`, or the value is JSON that no plan can hold, such as 1e999.
    """
    field, equals, value = text.partition("=")
    if not equals or not field.strip():
        raise PlanError(f"--set {text!r} is not of the form field=value, such as training.epochs=4")
    if not is_plain(field):
        raise PlanError(f"--set {text[:MOST_LETTERS]} holds control or format characters; give it without")
    try:
        read = load_json(value)
    except JSONDecodeError:
        read = value
        # In JSON such is no text, or stands in quotes where who takes the value looks at it; blanks of any kind are neither.
        if not is_plain(value):
            raise PlanError(
                f"--set {text[:MOST_LETTERS]} holds control or format characters; give it without"
            ) from None
    except ValueError as failure:
        raise PlanError(f"--set {text[:MOST_LETTERS]}: {failure}; give another value") from None
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
    for override, change in _changes(document, full):
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


def training_as_set(training: Training, overrides: Sequence[Override]) -> Training:
    """Return a training with the fields set that overrides name, whatever else they set.

    Raises:
        PlanError: a field that does not exist, or a value that it cannot have.
    """
    document: dict[str, Any] = {"training": training.model_dump(mode="json")}
    own = [override for override in overrides if override.field.split(".")[0] == "training"]
    for override in sorted(own, key=lambda override: rank(override.field, DECIDING)):
        document = set_field(document, override.field, override.value, source="--set").document
    return parse_record(Training, document["training"], source="--set training", error=PlanError)


def _changes(document: Mapping[str, Any], overrides: Sequence[_Full]) -> Iterator[tuple[_Full, Change]]:
    """Yield each change, in the order in which none undoes another, of the document that the one before left."""
    for override in sorted(overrides, key=_rank):
        for field in _fields_named(document, override.field):
            change = set_field(document, field, override.value, source="--set")
            yield override, change
            document = change.document


def _fields_named(document: Mapping[str, Any], field: str) -> list[str]:
    """Return the fields that a dotted one stands for: a name of several entries of a list stands for all of them."""
    path = field.split(".")
    for depth, key in enumerate(path):
        for value in values_at(document, path[:depth]):
            entries = value if isinstance(value, list) else []
            numbers = [number for number, one in enumerate(entries) if isinstance(one, dict) and one.get("name") == key]
            if len(numbers) > 1:
                return [".".join([*path[:depth], str(number), *path[depth + 1 :]]) for number in numbers]
    return [field]


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
    both. Presets of losses and of augmentation are expanded; those of augmentation are fitted again to another patch or
    normalization. A list of transforms in which one is changed is `custom` from then on. A configuration that becomes a
    cascade is augmented as one.

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
    rule = rule_of(found, value)
    if rule is None:
        is_other = is_choice(found) and value != place.value
        reasons = {parent.field: following(place.path[-1])} if is_other else {}
        change = Change(replaced(found, value), place.field, place.value, reasons)
        return _as_fitted(_as_edited(change, found), found, source)
    whole = found[-1 - rule.depth]
    new, inner = rule.decide(Setting(document, whole, value, f"{source} {place.field}"))
    reasons = {f"{whole.field}.{part}".strip("."): reason for part, reason in inner.items()}
    return Change(replaced(found[: -rule.depth], new), place.field, place.value, reasons)


def _as_edited(change: Change, found: Sequence[Place]) -> Change:
    """Return a change of transforms that no longer says which preset they are of."""
    for outer, inner in pairwise(found):
        path = inner.path
        if outer.kind is not AugmentationSpec or path[-1] != "transforms":
            continue
        preset = outer.value.get("preset", CUSTOM)
        is_same = list(values_at(found[0].value, path)) == list(values_at(change.document, path))
        if preset != CUSTOM and not is_same:
            field = f"{outer.field}.preset"
            named = places(Plan, change.document, field, source=field, error=PlanError)
            rule = f"a transform of preset {preset} was changed by the user"
            reasons = {**change.reasons, field: Reason(rule=rule, alternative=f"{preset}, as it was")}
            return change._replace(document=replaced(named, CUSTOM), reasons=reasons)
    return change


def _as_fitted(change: Change, found: Sequence[Place], source: str) -> Change:
    """Return a change of what transforms go by, to which those of a preset are fitted again."""
    for outer, inner in pairwise(found):
        key = inner.path[-1]
        if outer.kind is not Configuration or key not in FITTED_TO:
            continue
        around = places(Plan, change.document, outer.field, source=source, error=PlanError)
        fitted = refit_augmentation(Setting(change.document, around[-1], None, source), key)
        reasons = {f"{outer.field}.{part}": reason for part, reason in fitted.reasons.items()}
        return change._replace(document=replaced(around, fitted.configuration), reasons=change.reasons | reasons)
    return change


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
