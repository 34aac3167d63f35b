"""Parts of a report that are words, tables and pictures alone."""

from collections.abc import Sequence
from typing import NamedTuple

from tumorseg.reports.page import Picture


class Cell(NamedTuple):
    """One place of a table."""

    text: str
    note: str = ""
    """Smaller, below."""
    shade: float | None = None
    """How strongly it is coloured, 0 to 1, as in a heat map; not at all if None."""
    is_text: bool = False
    """Whether it is read rather than compared: aligned to the left, and broken into lines where it is long."""


class Table(NamedTuple):
    """A table whose first column names its rows."""

    columns: Sequence[str]
    """Headings, the first column's included."""
    rows: Sequence[Sequence[Cell]]
    caption: str = ""
    """What the figures are."""
    heading: str = ""


class Section(NamedTuple):
    """A part of a report."""

    heading: str
    text: str = ""
    tables: Sequence[Table] = ()
    pictures: Sequence[Picture] = ()


def transposed(table: Table, heading: str) -> Table:
    """Return a table with its rows as columns.

    Args:
        table: whose columns become rows.
        heading: of the first column, which holds the former headings.
    """
    names = table.columns[1:]
    columns = [heading, *(row[0].text for row in table.rows)]
    rows = [
        [Cell(name, is_text=True), *(row[index] for row in table.rows)] for index, name in enumerate(names, start=1)
    ]
    return table._replace(columns=columns, rows=rows)
