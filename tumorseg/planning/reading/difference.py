"""Differences between two plans, field by field."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

from pydantic import JsonValue

from tumorseg.schema.base import Record
from tumorseg.schema.plan import Plan, Reason

BY_NAME = ("channels", "regions", "transforms", "components")
"""Lists whose entries are compared by name; others are compared by position."""
ONE_BY_ONE = ("folds", "kept_from_training")
"""Lists of lists of which each is compared by itself; others are one value, such as `strides`."""
ABSENT = (-1, None)
"""Number and entry of what a list does not have."""
TOLD_IN_NOTES = ("dataset.name", "dataset.content_hash", "fingerprint.hash")
"""Fields that say which data a plan was made for."""


class Difference(Record):
    """One field that differs."""

    field: str
    """Dotted; an entry of a list is called by its name if it has one, such as `augmentation.transforms.mirror.axes`."""
    before: JsonValue
    """In the first plan."""
    after: JsonValue
    """In the second plan."""
    only_in: Literal["before", "after"] | None = None
    """The plan that has the field, if the other one has not."""
    rule_before: str | None = None
    """Rule that holds for it in the first plan; null where there is none, or the second has the same."""
    rule_after: str | None = None
    """Rule that holds for it in the second plan."""


class PlanDiff(Record):
    """Differences between two plans; their names make none."""

    before: str
    """Name of the first plan."""
    after: str
    """Name of the second plan."""
    notes: tuple[str, ...]
    """Whether they were made for other data."""
    differences: tuple[Difference, ...]
    """In the order of the fields."""
    num_reasons: int
    """Reasons that are not the same in both."""

    @property
    def is_same(self) -> bool:
        """Whether they are equal in everything but names and reasons."""
        return not self.differences and not self.notes


class _Place(NamedTuple):
    """Path of a value: as it is shown, and dotted in each plan."""

    shown: str
    first: str
    second: str

    def inner(self, shown: str, first: str, second: str) -> "_Place":
        """Return the place of something inside."""
        # A field of the plan itself has nothing in front of its dot.
        return _Place(*(f"{outer}.{key}".lstrip(".") for outer, key in zip(self, (shown, first, second), strict=True)))


def diff_plans(before: Plan, after: Plan) -> PlanDiff:
    """Return what differs between two plans."""
    excluded = {"name", "reasons"}
    first, second = (plan.model_dump(mode="json", exclude=excluded) for plan in (before, after))
    differences = []
    for place, entry in _differences(_Place("", "", ""), first, second):
        if entry.field not in TOLD_IN_NOTES:
            differences.append(_with_rules(place, entry, before, after))
    fields = before.reasons.keys() | after.reasons.keys()
    return PlanDiff(
        before=before.name,
        after=after.name,
        notes=tuple(_notes(before, after)),
        differences=tuple(differences),
        num_reasons=sum(before.reasons.get(field) != after.reasons.get(field) for field in fields),
    )


def _notes(before: Plan, after: Plan) -> Iterator[str]:
    """Yield how the data differ that the plans were made for."""
    names = before.dataset.name, after.dataset.name
    if names[0] != names[1]:
        yield f"they are for different datasets: {names[0]} and {names[1]}"
    hashes = before.dataset.content_hash, after.dataset.content_hash
    # Where names differ, so do the files: only a hash that is missing is worth a note then.
    if None in hashes and hashes[0] != hashes[1]:
        known = names[0] if hashes[0] else names[1]
        yield f"the content hash of {known} is known to the {'first' if hashes[0] else 'second'} plan only"
    elif hashes[0] != hashes[1] and names[0] == names[1]:
        yield f"files of {names[0]} changed between them: its content was {hashes[0]} and is {hashes[1]} in the second"
    measured = before.fingerprint, after.fingerprint
    if measured[0].hash != measured[1].hash:
        yield (
            f"they are made from different fingerprints: {measured[0].hash} of {measured[0].num_cases} cases and "
            f"{measured[1].hash} of {measured[1].num_cases}"
        )


def _differences(place: _Place, first: Any, second: Any) -> Iterator[tuple[_Place, Difference]]:
    if first == second:
        return
    last = place.shown.rpartition(".")[2]
    if isinstance(first, dict) and isinstance(second, dict):
        yield from _of_mappings(place, first, second)
    elif isinstance(first, list) and isinstance(second, list) and last in BY_NAME:
        yield from _of_named(place, first, second)
    elif isinstance(first, list) and isinstance(second, list) and (place.shown in ONE_BY_ONE or _are_records(first)):
        yield from _of_mappings(place, _numbered(first), _numbered(second))
    else:
        yield place, Difference(field=place.shown, before=first, after=second)


def _numbered(entries: Sequence[Any]) -> dict[str, Any]:
    return {str(number): entry for number, entry in enumerate(entries)}


def _are_records(entries: Sequence[Any]) -> bool:
    return bool(entries) and isinstance(entries[0], dict)


def _of_mappings(
    place: _Place, first: Mapping[str, Any], second: Mapping[str, Any]
) -> Iterator[tuple[_Place, Difference]]:
    for key in dict.fromkeys([*first, *second]):
        yield from _of_entry(place.inner(key, key, key), first.get(key), second.get(key), (key in first, key in second))


def _of_entry(
    place: _Place, first: Any, second: Any, is_there: tuple[bool, bool]
) -> Iterator[tuple[_Place, Difference]]:
    if all(is_there):
        yield from _differences(place, first, second)
    else:
        side: Literal["before", "after"] = "before" if is_there[0] else "after"
        yield place, Difference(field=place.shown, before=first, after=second, only_in=side)


def _of_named(
    place: _Place, first: Sequence[dict[str, Any]], second: Sequence[dict[str, Any]]
) -> Iterator[tuple[_Place, Difference]]:
    """Yield what differs between lists of named entries, and their order if that differs."""
    named, others = _by_name(first), _by_name(second)
    # An entry that only one side has changes no order: it is a difference of its own.
    common = [name for name in named if name in others]
    if common != [name for name in others if name in named]:
        yield place, Difference(field=place.shown, before=list(named), after=list(others))
    for name in dict.fromkeys([*named, *others]):
        number, entry = named.get(name, ABSENT)
        other_number, other = others.get(name, ABSENT)
        inner = place.inner(name, str(number), str(other_number))
        yield from _of_entry(inner, entry, other, (name in named, name in others))


def _by_name(entries: Sequence[dict[str, Any]]) -> dict[str, tuple[int, dict[str, Any]]]:
    """Return number and entry by name; of entries of one name the later ones are numbered."""
    counts: Counter[str] = Counter()
    found = {}
    for number, entry in enumerate(entries):
        name = entry["name"]
        counts[name] += 1
        found[name if counts[name] == 1 else f"{name} {counts[name]}"] = (number, entry)
    return found


def _with_rules(place: _Place, entry: Difference, before: Plan, after: Plan) -> Difference:
    first, second = _nearest_rule(before.reasons, place.first), _nearest_rule(after.reasons, place.second)
    return entry if first == second else entry.changed(rule_before=first, rule_after=second)


def _nearest_rule(reasons: Mapping[str, Reason], field: str) -> str | None:
    """Return the rule of a field, or else of the part that it belongs to."""
    while field:
        if field in reasons:
            return reasons[field].rule
        field = field.rpartition(".")[0]
    return None
