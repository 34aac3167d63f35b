"""Fields of a JSON document, reached by dotted names through the schema of its record."""

import difflib
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, get_args, get_origin

from pydantic import JsonValue
from pydantic.fields import FieldInfo
from pydantic_core import to_jsonable_python

from tumorseg.errors import TumorsegError
from tumorseg.schema.base import Record
from tumorseg.schema.extensions import is_record, kinds_of, records_of


class Place(NamedTuple):
    """A value that stands in a document, or may."""

    path: tuple[str, ...]
    """Keys from the whole document down; entries of lists by their numbers."""
    kind: Any
    """Annotation of the value in the schema."""
    value: Any
    """As JSON; a default where the document does not say it, and null where there is none."""

    @property
    def field(self) -> str:
        """Return the path as dotted text."""
        return ".".join(self.path)

    @property
    def record(self) -> type[Record] | None:
        """Return the record that the value is, by its name where several may stand here."""
        named = records_of(self.kind)
        unnamed: list[type[Record]] = [
            kind for kind in kinds_of(self.kind) if is_record(kind) and kind not in named.values()
        ]
        # What is switched off is the record that it would be, so that setting a field of it switches it on.
        if self.value is None and not named and len(unnamed) == 1:
            return unnamed[0]
        if not isinstance(self.value, dict):
            return None
        return named.get(str(self.value.get("name")), unnamed[0] if unnamed else None)

    def inner(self, key: str, kind: Any, value: Any) -> "Place":
        """Return the place of something inside."""
        return Place((*self.path, key), kind, value)


def places(
    record: type[Record], document: Mapping[str, Any], field: str, *, source: str, error: type[TumorsegError]
) -> list[Place]:
    """Return the places from a whole document down to one of its fields.

    An entry of a list is reached by its number, or by its `name` where no other has that one. The number after the
    last entry is a place too, for one to be added.

    Args:
        record: what the document is of.
        document: JSON; defaults may be left out.
        field: dotted.
        source: what the reader of an error message knows the field by, such as `--set`.
        error: the class to raise.

    Raises:
        TumorsegError: of class `error`, where the schema has no such field; it lists those that there are.
    """
    found = [Place((), record, document)]
    keys = field.split(".")
    for number, key in enumerate(keys):
        place = found[-1]
        inside = dict(_inside(place, is_last=number == len(keys) - 1))
        if key in inside:
            found.append(inside[key])
        elif _is_free(place):
            found.append(place.inner(key, JsonValue, None))
        else:
            known = f"{', '.join(inside) or 'nothing'}{nearest(key, inside)}"
            raise error(f"{source} {place.inner(key, None, None).field}: there is no such field; known here: {known}")
    return found


def replaced(found: Sequence[Place], value: Any) -> Any:
    """Return the document with another value at the last of the places that lead there; the one given stays as it is.

    Naming another record of a union begins with that one's defaults. It takes over the fields that both inherit from
    one record, so that they mean the same, unless their defaults differ.
    """
    if is_choice(found) and value != found[-1].value:
        return replaced(found[:-1], _renamed(found[-2], value))
    # From the innermost place outwards, each beside the one around it; what contains a change is copied.
    for outer, place in zip(found[-2::-1], found[:0:-1], strict=True):
        key = place.path[-1]
        if isinstance(outer.value, list):
            value = [*outer.value[: int(key)], value, *outer.value[int(key) + 1 :]]
        else:
            value = {**(outer.value or {}), key: value}
    return value


def is_choice(found: Sequence[Place]) -> bool:
    """Return whether the last of the places is a name that chooses among the records of a union."""
    return len(found) > 1 and found[-1].path[-1] == "name" and bool(records_of(found[-2].kind))


def rank(field: str, deciding: Container[str] = ("name",)) -> tuple[int, bool]:
    """Return what the fields of a document are sorted by before they are set.

    What stands further out comes first. A name replaces what it is part of, and so do the other `deciding` keys: they
    count as that, and come after it.
    """
    path = field.split(".")
    is_deciding = path[-1] in deciding
    return len(path) - is_deciding, is_deciding


def _renamed(place: Place, name: JsonValue) -> dict[str, Any]:
    # Without a record before, or with a name that no record has (validation refuses it later), nothing is taken over.
    before, other = place.record, place._replace(value={"name": name}).record
    shared = _shared_fields(before, other) if before and other else ()
    return {field: place.value[field] for field in shared if field in place.value} | {"name": name}


def nearest(key: str, known: Iterable[str]) -> str:
    """Return the end of an error message that asks for the name that was meant, or nothing if none is near."""
    near = difflib.get_close_matches(key, list(known), n=1)
    return f"; did you mean {near[0]}?" if near else ""


def values_at(document: Any, path: Sequence[str]) -> Iterator[Any]:
    """Yield what a path leads to: nothing, or more than one value, as keys such as names of channels may hold dots."""
    if not path:
        yield document
    elif isinstance(document, list):
        if path[0].isdecimal() and int(path[0]) < len(document):
            yield from values_at(document[int(path[0])], path[1:])
    elif isinstance(document, dict):
        for count in range(1, len(path) + 1):
            head = ".".join(path[:count])
            if head in document:
                yield from values_at(document[head], path[count:])


def is_field(document: Any, path: Sequence[str]) -> bool:
    """Return whether a document has a field."""
    return any(True for _ in values_at(document, path))


def _inside(place: Place, *, is_last: bool) -> Iterator[tuple[str, Place]]:
    """Yield what may be set inside a place, by key."""
    if (record := place.record) is not None:
        for name, info in record.model_fields.items():
            # Most documents say all: defaults, which may be whole records, are made only where one does not.
            given = place.value or {}
            value = given[name] if name in given else _default(info)
            yield name, place.inner(name, info.annotation, value)
    elif isinstance(place.value, dict):
        for key, value in place.value.items():
            yield key, place.inner(key, _entry_kind(place.kind, dict), value)
    elif isinstance(place.value, list):
        yield from _entries(place, is_last=is_last)
    elif records_of(place.kind):
        yield "name", place.inner("name", str, None)


def _default(info: FieldInfo) -> JsonValue:
    default: JsonValue = None if info.is_required() else to_jsonable_python(info.get_default(call_default_factory=True))
    return default


def _entries(place: Place, *, is_last: bool) -> Iterator[tuple[str, Place]]:
    values: list[Any] = place.value
    kind = _entry_kind(place.kind, tuple)
    numbered = [place.inner(str(number), kind, value) for number, value in enumerate(values)]
    if is_last:
        numbered.append(place.inner(str(len(values)), kind, None))
    for inner in numbered:
        yield inner.path[-1], inner
    names = [value.get("name") if isinstance(value, dict) else None for value in values]
    # Not strict: the place for an entry to be added has no name.
    for name, inner in zip(names, numbered, strict=False):
        if isinstance(name, str) and names.count(name) == 1:
            yield name, inner


def _entry_kind(kind: Any, container: type) -> Any:
    """Return the annotation of the entries of a mapping or a list, all of which are alike in a plan."""
    for one in kinds_of(kind):
        if get_origin(one) is container:
            return get_args(one)[1 if container is dict else 0]
    return JsonValue


def _is_free(place: Place) -> bool:
    """Return whether an object takes any key: its schema is another package's."""
    return isinstance(place.value, dict) and place.record is None and _entry_kind(place.kind, dict) is JsonValue


def _shared_fields(first: type[Record], second: type[Record]) -> Iterator[str]:
    """Yield the fields that two records inherit from one, with one default."""
    bases = [base for base in first.__mro__ if base in second.__mro__ and issubclass(base, Record)]
    # Python lists classes before those that they inherit from: the first is the nearest that both share.
    for name in bases[0].model_fields:
        if first.model_fields[name].default == second.model_fields[name].default:
            yield name
