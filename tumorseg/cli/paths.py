"""Paths on the command line: such as the system can know, and outputs that are regular files or nothing yet."""

import os
from pathlib import Path
from typing import Any

import click

from tumorseg.errors import InputError


def check_path(text: str) -> None:
    """Refuse a text that can be no path.

    Raises:
        InputError: it is too long, a link to itself, has a null byte, or is not UTF-8, in which documents name files.
    """
    from tumorseg.storage.paths import impossible_path

    if (fault := impossible_path(text)) is not None:
        raise InputError(f"the path {fault}; give another", file=text)


class NamedPath(click.Path[Path]):
    """Option type for a path, read or written."""

    def convert(self, value: str | os.PathLike[str], param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """Return the path.

        Raises:
            InputError: it can be none.
        """
        check_path(os.fspath(value))
        return super().convert(value, param, ctx)


class OutputPath(NamedPath):
    """Option type for what is to be written."""

    def convert(self, value: str | os.PathLike[str], param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """Return the path.

        Raises:
            InputError: it can be none.
            StorageError: what is there is neither a regular file nor a folder.
        """
        from tumorseg.storage.atomic import require_replaceable

        path = super().convert(value, param, ctx)
        # Whether a folder will do depends on the verb, which says so.
        if not path.is_dir():
            require_replaceable(path)
        return path


class PlaceText(click.ParamType[str]):
    """Option type for a name that may be a path, such as a dataset's or a preset's."""

    name = "text"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the text.

        Raises:
            InputError: it can be no path.
        """
        check_path(str(value))
        return str(value)


PATH = NamedPath(path_type=Path)
FILE = NamedPath(path_type=Path, dir_okay=False)
FOLDER = NamedPath(path_type=Path, file_okay=False)
OUTPUT = OutputPath(path_type=Path)
OUTPUT_FILE = OutputPath(path_type=Path, dir_okay=False)
OUTPUT_FOLDER = OutputPath(path_type=Path, file_okay=False)
PLACE = PlaceText()
