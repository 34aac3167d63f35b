"""Unions of records over their names, to which other packages may add by entry points."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import Discriminator, Field, GetCoreSchemaHandler, JsonValue, Tag
from pydantic_core import CoreSchema

from tumorseg.errors import PlanError
from tumorseg.schema.base import Record

EXTERNAL, PLAIN = "external", "constant"
"""Tags of the kinds of a union that have no name of their own."""


class External(Record):
    """Something that another installed package provides under an entry point of tumorseg."""

    name: str
    """Name of the entry point."""
    parameters: dict[str, JsonValue] = Field(default_factory=dict)
    """Handed to the entry point's builder as they stand; it validates them."""
    distribution: str
    """Installed distribution that provides it."""
    version: str
    """Version of that distribution when the plan was made."""


def kinds_of(annotation: Any) -> Iterator[Any]:
    """Yield the kinds of value that an annotation allows, those of unions one by one, without their constraints."""
    origin = get_origin(annotation)
    if origin is Annotated:
        yield from kinds_of(get_args(annotation)[0])
    elif origin in (Union, UnionType):
        for kind in get_args(annotation):
            yield from kinds_of(kind)
    else:
        yield annotation


def is_record(kind: Any) -> bool:
    """Return whether one of `kinds_of` an annotation is a record."""
    return isinstance(kind, type) and issubclass(kind, Record)


def records_of(union: Any) -> dict[str, type[Any]]:
    """Return the records of a union by their names; `External`, whose name is another package's, is none of them."""
    records = {}
    for kind in kinds_of(union):
        info = kind.model_fields.get("name") if is_record(kind) else None
        # Records of this package have their name as its default; that of `External` has to be given.
        if info is not None and not info.is_required():
            records[info.default] = kind
    return records


@dataclass(frozen=True)
class ByName:
    """Lets the name of a record choose among those of a union.

    Among them may be one of `External`, for any other name that comes with a distribution, and a plain type, for
    anything that is no object.
    """

    what: str
    """Word for an error message, such as `network`."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Return the schema of the union, each of its kinds under a tag."""
        names = {kind: name for name, kind in records_of(source).items()}
        tags = {kind: names.get(kind, EXTERNAL if is_record(kind) else PLAIN) for kind in kinds_of(source)}
        others = tuple(tag for kind, tag in tags.items() if kind not in names)
        chosen = Discriminator(
            _tag_chooser(tuple(names.values()), others),
            # A type that pydantic does not know, so that the message is shown as it stands (`wording`).
            custom_error_type=f"unknown_{self.what.replace(' ', '_')}",
            custom_error_message=self._message(", ".join(names.values()), others),
            custom_error_context={"is_expectation": PLAIN in others},
        )
        tagged = tuple(Annotated[kind, Tag(tag)] for kind, tag in tags.items())
        # `|` would need the kinds one by one; indexed with a tuple, Union takes any number.
        return chosen.__get_pydantic_core_schema__(Union[tagged], handler)  # noqa: UP007

    def _message(self, names: str, others: tuple[str, ...]) -> str:
        if PLAIN in others:
            return f"expected a number, or a {self.what} with one of the names {names}"
        more = ", or one of another package with its distribution and version" if EXTERNAL in others else ""
        return f"{self.what} has an unknown name; known are {names}{more}"


def _tag_chooser(names: tuple[str, ...], others: tuple[str, ...]) -> Callable[[Any], str | None]:
    """Return what finds the tag of a record or of its JSON; None for one that the union does not know."""

    def choose(value: Any) -> str | None:
        if not isinstance(value, dict | Record):
            return PLAIN if PLAIN in others else None
        # A record yields its fields as pairs, so that both become a dict.
        fields = dict(value)
        if fields.get("name") in names:
            return str(fields["name"])
        # Without a distribution, an unknown name is more likely a misspelt one than another package's.
        return EXTERNAL if EXTERNAL in others and fields.get("distribution") is not None else None

    return choose


def load_external(spec: External, group: str) -> Any:
    """Return the object that another package's entry point names.

    Args:
        spec: name, distribution and version as the plan records them.
        group: group of the entry point, such as `tumorseg.networks`.

    Returns:
        The entry point's object: a builder, which takes `spec.parameters` first.

    Raises:
        PlanError: no installed package has that entry point, or another distribution or version of it is installed.
    """
    found = list(entry_points(group=group, name=spec.name))
    wanted = f"{spec.distribution} {spec.version}"
    if not found:
        known = ", ".join(sorted(entry_points(group=group).names)) or "none"
        raise PlanError(
            f"the plan names {spec.name!r} of {wanted}, but no installed package has it as entry point of {group} "
            f"(installed there: {known}); install {spec.distribution}=={spec.version}"
        )
    # Several installed packages may have an entry point of the same name.
    for point in found:
        if _origin(point) == (_normalized(spec.distribution), spec.version):
            return point.load()
    installed = " and ".join(" ".join(_origin(point)) for point in found)
    raise PlanError(
        f"the plan names {spec.name!r} of {wanted}, but {installed} is installed; "
        f"install {spec.distribution}=={spec.version}, or make the plan again with what is installed"
    )


def _origin(point: EntryPoint) -> tuple[str, str]:
    return (_normalized(point.dist.name), point.dist.version) if point.dist else ("an unnamed distribution", "")


def _normalized(distribution: str) -> str:
    # As package indexes do (PEP 503): `My.Package` and `my-package` are one distribution.
    return re.sub(r"[-_.]+", "-", distribution).lower()
