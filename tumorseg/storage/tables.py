"""Tables of text as people and spreadsheets write them: cells between commas, semicolons or tabs."""

import csv
import io
import re
from pathlib import Path
from typing import NamedTuple

from tumorseg.errors import InputError, is_plain
from tumorseg.storage.json_files import read_document

SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs"}
"""What may be between cells, the usual one first."""
STATED_SEPARATOR = re.compile(r"sep=(.)\s*")
"""First line by which spreadsheets tell each other what is between cells."""
UNSEEN = str.maketrans("", "", "\ufeff\xad")
"""What spreadsheets leave in headings and nobody sees: byte order marks and soft hyphens."""
UTF_16 = (b"\xff\xfe", b"\xfe\xff")
SPREADSHEETS = (b"PK\x03\x04", b"\xd0\xcf\x11\xe0")
"""How files begin that are no text."""


class Lines(NamedTuple):
    """The lines of a table that hold anything."""

    cells: list[list[str]]
    """Of each line, without outer blanks; the first is the header."""
    numbers: list[int]
    """Of each line's first line in the file, from 1."""
    separator: str


def read_lines(file: Path, *, expected: str, column: str = "case_id") -> Lines:
    """Return the lines of a table; the separator is the one by which the first line has a column of a given name, else most columns.

    Args:
        file: text in UTF-8.
        expected: what the file should be, for messages: `a manifest`.
        column: one that the header should have.

    Raises:
        InputError: it is no such text, a quote is never closed, or a heading holds control characters.
    """
    text = _read_text(file, expected)
    stated = STATED_SEPARATOR.match(text)
    text = text[stated.end() :] if stated else text
    separator = stated[1] if stated else _separator(text, column)
    # Without `strict` a quote that is never closed makes one cell of the rest of the table.
    reader = csv.reader(io.StringIO(text, newline=""), strict=True, delimiter=separator)
    found = Lines([], [], separator)
    skipped, number = int(stated is not None), 1
    try:
        for line in reader:
            cells = [cell.strip() for cell in line]
            if not found.cells:
                cells = [_heading(cell) for cell in cells]
            # Spreadsheets save rows of empty cells wherever something once was.
            if any(cells):
                found.cells.append(cells)
                found.numbers.append(number + skipped)
            number = reader.line_num + 1
    except csv.Error as error:
        raise InputError(f"is not CSV ({error}); mend the file", file=file) from None
    for name in found.cells[0] if found.cells else ():
        if not is_plain(name):
            raise InputError(
                f"found the column {name!r}, expected one without control characters; rename it", file=file
            )
    return found


def _heading(text: str) -> str:
    """Return what a heading says: spreadsheets break it into lines, hyphenate it unseen, and set a mark in front more than once."""
    return " ".join(text.translate(UNSEEN).split())


def separator_text(separator: str) -> str:
    """Return what a separator is called."""
    return SEPARATORS.get(separator, repr(separator))


def _read_text(file: Path, expected: str) -> str:
    try:
        data = read_document(file)
    except OSError as error:
        raise InputError(f"cannot be read ({error.strerror}), expected {expected}; check the path", file=file) from None
    except ValueError as error:
        raise InputError(f"cannot be read ({error}), expected {expected}; check the path", file=file) from None
    if data.startswith(SPREADSHEETS):
        raise InputError("is a spreadsheet or an archive, expected text; save it as CSV in UTF-8", file=file)
    # Without its mark UTF-16 shows by the null bytes of plain letters, which no text in UTF-8 has.
    if data.startswith(UTF_16) or b"\0" in data:
        raise InputError("is in UTF-16, expected UTF-8; save it as CSV in UTF-8", file=file)
    # Spreadsheets begin UTF-8 with a mark, or two where one saved what another had written, which must not become part of the first heading.
    try:
        return data.decode().lstrip("\ufeff")
    except UnicodeDecodeError as error:
        raise InputError(
            f"found bytes that are not UTF-8 at position {error.start}, as in Latin-1; save it as CSV in UTF-8",
            file=file,
        ) from None


def _separator(text: str, column: str) -> str:
    """Return what is between the cells."""
    line = next((line for line in text.splitlines() if line.strip()), "")
    columns: dict[str, list[str]] = {}
    for separator in SEPARATORS:
        columns[separator] = [_heading(cell.strip(' "')) for cell in line.split(separator)]
    named = [separator for separator, names in columns.items() if column in names]
    # Of several that fit equally well, max takes the first, which is the usual one.
    return max(named or columns, key=lambda separator: len(columns[separator]))
