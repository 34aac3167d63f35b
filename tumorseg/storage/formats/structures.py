"""Named structures of one file: labels there have names, but no values shared with other files."""

from collections.abc import Callable, Iterable
from typing import NamedTuple

from tumorseg.storage.formats.stored import Geometry
from tumorseg.types import Mask

BACKGROUND = "background"
"""A structure of this name is none, whatever the case of letters."""


class Structures(NamedTuple):
    """One file whose structures can be painted."""

    path: str
    names: tuple[str, ...]
    """Of structures that enclose something, as far as the file tells."""
    known: tuple[str, ...]
    """Of all structures: one that encloses nothing is empty, not missing."""
    paint: Callable[[str, Geometry], Mask]
    """Returns the voxels (Z, Y, X) of a structure on the grid of an image."""


def foreground(names: Iterable[str]) -> tuple[str, ...]:
    """Return names once and sorted, without the background's."""
    return tuple(sorted({name for name in names if name.casefold() != BACKGROUND}))


def plain_name(name: str) -> str:
    """Return a name with single blanks, and none around it."""
    return " ".join(name.split())
