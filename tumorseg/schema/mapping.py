"""A mapping of labels that a user states: which labels of each dataset make up one structure."""

from typing import Annotated, Any

from pydantic import BeforeValidator, Field, StrictInt

from tumorseg.errors import InputError
from tumorseg.schema.base import Record, parse_record
from tumorseg.schema.dataset import Name

PREDICTION, REFERENCE = "prediction", "reference"
"""The two sides of an evaluation, as a mapping calls them where it does not name a dataset."""


def _as_list(value: Any) -> Any:
    """Return a single label as a list of one."""
    return (value,) if isinstance(value, int | str) else value


Members = Annotated[tuple[StrictInt | str, ...], Field(min_length=1), BeforeValidator(_as_list)]
"""Labels of one structure: values, or names of labels or regions."""


class LabelMapping(Record):
    """Structures, and the labels that make them up on each side."""

    structures: dict[Name, dict[str, Members]] = Field(min_length=1)
    """Name of a structure to side (`prediction`, `reference`, or a dataset's name) to its labels there."""

    def sides(self) -> tuple[str, ...]:
        """Return the sides that some structure names, sorted."""
        found: set[str] = set()
        for members in self.structures.values():
            found.update(members)
        return tuple(sorted(found))

    def values(self, side: str) -> tuple[int, ...]:
        """Return the label values, not names, that are stated of a side, sorted."""
        found: set[int] = set()
        for members in self.structures.values():
            found.update(label for label in members.get(side, ()) if isinstance(label, int))
        return tuple(sorted(found))


def parse_mapping(content: Any, *, source: str) -> LabelMapping:
    """Return the mapping that a JSON value states: `{"WT": {"prediction": [1, 2, 4], "reference": ["edema", 3]}}`.

    Args:
        content: the value.
        source: what the reader of an error message knows it by, usually a file.

    Raises:
        InputError: it is something else.
    """
    return parse_record(LabelMapping, {"structures": content}, source=source, error=InputError)
