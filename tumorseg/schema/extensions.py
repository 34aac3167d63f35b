"""Specifications whose names other packages may add by entry points."""

from collections.abc import Callable
from typing import Any

from pydantic import Discriminator, Field, JsonValue

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


def _tag_chooser(known: tuple[str, ...]) -> Callable[[Any], str | None]:
    def choose(value: Any) -> str | None:
        fields: dict[str, Any] = value if isinstance(value, dict) else getattr(value, "__dict__", {})
        name = fields.get("name")
        if name in known:
            return str(name)
        return EXTERNAL if fields.get("distribution") is not None else None

    return choose
