"""Where the paths of a dataset.json may lead: into the dataset's folder, or outside with the user's leave."""

import re
from pathlib import Path

from tumorseg.errors import InputError
from tumorseg.schema.wording import shown
from tumorseg.storage.layout import FETCHED
from tumorseg.storage.paths import impossible_text

ENVIRONMENT_VARIABLE = re.compile(r"\$\w|\$\{")
"""How a path begins that nnU-Net would complete by the environment."""


def confined_file(folder: Path, stated: str, *, allow_outside: bool = False) -> Path:
    """Return the file that a dataset.json names, if it lies in the dataset's folder, links followed.

    Whether it is there shows when its case is read, so that one missing file does not stop the other cases.

    Args:
        folder: the dataset; may itself be a link.
        stated: path relative to it.
        allow_outside: whether the path may be absolute, have `..` and lead outside by a link.

    Raises:
        InputError: the path is empty, can be none, or leads outside without leave.
    """
    path = Path(stated)
    # Refused even with leave: on another system such a text would name another file, or none.
    if not stated or "\\" in stated or "\0" in stated:
        raise InputError(f"found the path {stated!r}, expected one inside {folder}; mend it")
    if ENVIRONMENT_VARIABLE.match(stated):
        raise InputError(f"found the path {stated!r}, which begins with an environment variable; write the path out")
    if not allow_outside and (path.is_absolute() or ".." in path.parts):
        raise InputError(
            f"found the path {stated!r}, expected one inside {folder}; move the file there; {_leave(folder)}"
        )
    if (fault := impossible_text(str(folder / path))) is not None:
        raise InputError(f"found the path {shown(stated)}, which {fault}; mend it")
    try:
        is_allowed = allow_outside or (folder / path).resolve().is_relative_to(folder.resolve())
    except (OSError, RuntimeError):  # what Python says of a loop of links
        raise InputError(f"found the path {stated!r}, which is a link to itself, or leads to one; mend it") from None
    if not is_allowed:
        raise InputError(f"{stated!r} is a link that leaves {folder}; put the file itself there; {_leave(folder)}")
    return folder / path


def _leave(folder: Path) -> str:
    """Return what lets a dataset.json lead outside."""
    if is_fetched(folder):
        return "`data fetch` unpacked this folder, and nothing in it may lead outside, whatever --allow-outside says"
    return "or write a manifest; or give --allow-outside if you trust this dataset.json"


def is_fetched(folder: Path) -> bool:
    """Tell whether a folder, or one that it lies in, is what `data fetch` unpacked."""
    # Links are followed, so that a link to a fetched folder gives no leave either.
    place = folder.resolve()
    return any((upper / FETCHED).is_file() for upper in (place, *place.parents))
