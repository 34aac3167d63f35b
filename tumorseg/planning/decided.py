"""A choice together with its reasons."""

from typing import Generic, NamedTuple, TypeVar

from tumorseg.schema.plan import Reason

T = TypeVar("T")


class Decided(NamedTuple, Generic[T]):
    """A value that was chosen, and why."""

    value: T
    """The choice."""
    reasons: dict[str, Reason]
    """By dotted field: of the plan, or within a configuration where the choice holds for all of them."""
