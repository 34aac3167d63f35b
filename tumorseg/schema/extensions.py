"""Specifications whose names other packages may add by entry points."""

import re
from collections.abc import Callable
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from pydantic import Discriminator, Field, JsonValue

from tumorseg.errors import PlanError
from tumorseg.schema.base import Record

EXTERNAL = "external"


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


def by_name(what: str, *known: str) -> Discriminator:
    """Return the discriminator of a union over `name`, unknown names being `External`.

    Args:
        what: the word for an error message, such as `network`.
        known: names of the union's own records.
    """
    message = f"{what} has an unknown name; known are {', '.join(known)}, or one of another package with its distribution and version"
    return Discriminator(
        _tag_chooser(known), custom_error_type=f"unknown_{what.replace(' ', '_')}", custom_error_message=message
    )


def by_known_name(what: str, *known: str) -> Discriminator:
    """Return the discriminator of a union over `name` that other packages cannot add to; arguments as for `by_name`."""
    message = f"{what} has an unknown name; known are {', '.join(known)}"
    return Discriminator(_name_of, custom_error_type=f"unknown_{what.replace(' ', '_')}", custom_error_message=message)


def _name_of(value: Any) -> Any:
    return value.get("name") if isinstance(value, dict) else getattr(value, "name", None)


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
    return re.sub(r"[-_.]+", "-", distribution).lower()


def _tag_chooser(known: tuple[str, ...]) -> Callable[[Any], str | None]:
    def choose(value: Any) -> str | None:
        fields: dict[str, Any] = value if isinstance(value, dict) else getattr(value, "__dict__", {})
        name = fields.get("name")
        if name in known:
            return str(name)
        return EXTERNAL if fields.get("distribution") is not None else None

    return choose
