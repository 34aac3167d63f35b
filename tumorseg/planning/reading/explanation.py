"""A plan as a person reads it: every value with what it means, the rule behind it, and what was left aside."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from pydantic import JsonValue

from tumorseg.planning.reading.anatomy import Anatomy, plan_anatomy
from tumorseg.schema.base import Record
from tumorseg.schema.dataset import Channel, Region
from tumorseg.schema.fingerprint import IntensityStatistics
from tumorseg.schema.plan import Plan, Reason
from tumorseg.schema.transforms.base import Range

SECTIONS = {
    "Plan": ("name", "parent", "schema_version", "default_configuration"),
    "Dataset": ("dataset", "orientation", "transpose", "cropping", "folds", "kept_from_training"),
    "Fingerprint": ("fingerprint",),
    "Budget": ("budget",),
    "Training": ("training",),
}
"""Title to fields of the plan; configurations stand between budget and training, the default one first."""
SMALL = (Channel, IntensityStatistics, Range, Region)
"""Records that read best as one value."""


class Explained(Record):
    """One value, or a part of the plan with the values in it."""

    field: str
    """Dotted, as `--set` and `reasons` name it."""
    name: str
    """What it is called within its part."""
    meaning: str
    """What the field is, as the plan's schema describes it."""
    value: JsonValue
    """As in the plan's JSON; null for a part, whose values are in `parts`."""
    reason: Reason | None
    """Its own reason; where there is none, that of the part it belongs to holds."""
    is_set_by_user: bool
    """Whether the user chose it rather than a rule."""
    parts: tuple["Explained", ...] = ()
    """Values inside it."""

    def leaves(self, reason: Reason | None = None) -> Iterator[tuple["Explained", Reason | None]]:
        """Yield the values inside it, or itself if it is one, each with the reason that holds for it.

        Args:
            reason: of what it is a part of.
        """
        nearest = self.reason or reason
        if not self.parts:
            yield self, nearest
        for part in self.parts:
            yield from part.leaves(nearest)

    def choices(self) -> Iterator["Explained"]:
        """Yield what the user set, itself or inside it."""
        if self.is_set_by_user:
            yield self
        for part in self.parts:
            yield from part.choices()


class Section(Record):
    """One group of values."""

    title: str
    """What the group is called."""
    configuration: str | None = None
    """Name of the configuration that it is; null for a group that all share."""
    reason: Reason | None = None
    """Of the group as a whole, where it has one."""
    values: tuple[Explained, ...]
    """In the order of the schema."""
    anatomy: Anatomy | None = None
    """Of a configuration's network; null where only its package knows it."""


class Explanation(Record):
    """Everything that a plan says, and why."""

    name: str
    """The plan's."""
    dataset: str
    """The dataset's name."""
    sections: tuple[Section, ...]
    """All groups."""

    def leaves(self) -> Iterator[tuple[Explained, Reason | None]]:
        """Yield every value of the plan with the reason that holds for it."""
        for section in self.sections:
            for value in section.values:
                yield from value.leaves(section.reason)

    def choices(self) -> Iterator[Explained]:
        """Yield what the user set, parts as a whole."""
        for section in self.sections:
            for value in section.values:
                yield from value.choices()


def explain(plan: Plan) -> Explanation:
    """Return every value of a plan with its meaning and its reason."""
    shared = {title: _section(plan, title, fields) for title, fields in SECTIONS.items()}
    # False sorts before True: the default configuration comes first.
    names = sorted(plan.configurations, key=lambda name: (name != plan.default_configuration, name))
    training = shared.pop("Training")
    return Explanation(
        name=plan.name,
        dataset=plan.dataset.name,
        sections=(*shared.values(), *(_configuration(plan, name) for name in names), training),
    )


def _section(plan: Plan, title: str, fields: Sequence[str]) -> Section:
    """Return a group; a part that is all of it, and has no reason of its own, is opened."""
    values = []
    for field in fields:
        meaning = Plan.model_fields[field].description or ""
        values.append(_explained(plan, field, getattr(plan, field), meaning))
    is_whole = len(values) == 1 and values[0].reason is None
    return Section(title=title, values=values[0].parts if is_whole else tuple(values))


def _configuration(plan: Plan, name: str) -> Section:
    configuration = plan.configurations[name]
    return Section(
        title=f"{name} (default)" if name == plan.default_configuration else name,
        configuration=name,
        reason=plan.reasons.get(f"configurations.{name}") or plan.reasons.get("configurations"),
        values=tuple(_record_parts(plan, f"configurations.{name}", configuration)),
        anatomy=plan_anatomy(plan, name),
    )


def _explained(plan: Plan, field: str, value: Any, meaning: str) -> Explained:
    reason = plan.reasons.get(field)
    parts = tuple(_parts(plan, field, value, meaning))
    return Explained(
        field=field,
        name=_display_name(field, value),
        meaning=meaning,
        value=None if parts else _json(value),
        reason=reason,
        is_set_by_user=reason is not None and reason.source == "user",
        parts=parts,
    )


def _display_name(field: str, value: Any) -> str:
    """Return the last part of a field; of an entry of a list, what it is itself called."""
    last = field.rpartition(".")[2]
    own = getattr(value, "name", None)
    return f"{last} ({own})" if last.isdecimal() and own is not None else last


def _parts(plan: Plan, field: str, value: Any, meaning: str) -> Iterator[Explained]:
    """Yield what a value consists of, unless it reads best as one."""
    # A record that reads best as one value is divided all the same where a field of it has a reason.
    if isinstance(value, Record) and (not isinstance(value, SMALL) or _is_divided(plan, field, ())):
        yield from _record_parts(plan, field, value)
    elif isinstance(value, Mapping) and _is_divided(plan, field, value.values()):
        for key, entry in value.items():
            yield _explained(plan, f"{field}.{key}", entry, _description(entry) or meaning)
    elif isinstance(value, tuple) and _is_divided(plan, field, value):
        for number, entry in enumerate(value):
            yield _explained(plan, f"{field}.{number}", entry, _description(entry) or meaning)


def _record_parts(plan: Plan, field: str, record: Record) -> Iterator[Explained]:
    """Yield the fields of a record; its `name` is explained by what the record is."""
    for name, info in type(record).model_fields.items():
        meaning = " ".join((info.description or "").split()) or _description(record)
        yield _explained(plan, f"{field}.{name}", getattr(record, name), meaning)


def _is_divided(plan: Plan, field: str, entries: Iterable[Any]) -> bool:
    """Return whether entries are explained one by one: records, and those that have a reason of their own."""
    if any(isinstance(entry, Record) for entry in entries):
        return True
    return any(reason.startswith(f"{field}.") for reason in plan.reasons)


def _description(value: Any) -> str:
    """Return what a record is, or nothing for other values."""
    return " ".join((type(value).__doc__ or "").split("\n\n")[0].split()) if isinstance(value, Record) else ""


def _json(value: Any) -> JsonValue:
    """Return a plain value as JSON holds it."""
    if isinstance(value, tuple | list):
        return [_json(entry) for entry in value]
    if isinstance(value, Record):
        return value.model_dump(mode="json")
    return dict(value) if isinstance(value, Mapping) else value
