"""A manifest in CSV, as people and spreadsheets write it, as the value that one in JSON would hold.

A column that is neither `case_id`, `label`, `group`, `site` nor `label:NAME=VALUE` is a channel where most of its cells are paths of
images; else it says something of the cases, such as their age, and is kept with them. The bare name of a folder or file, which may be a
patient's or a number as well, counts for a path only if no other column names images. Columns and rows without a word in them are left out.
"""

import logging
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tumorseg.errors import InputError
from tumorseg.schema.base import LARGEST, LEAST
from tumorseg.schema.dataset import repeated_values
from tumorseg.schema.wording import shown
from tumorseg.sources.folders import Problems, is_there, note_or_warn
from tumorseg.sources.leaving_out import used
from tumorseg.sources.pair_names import LABEL_WORDS
from tumorseg.storage.dicom.files import BARE_ENDINGS, holds_dicom, is_dicom_file
from tumorseg.storage.images import ENDINGS
from tumorseg.storage.tables import read_lines, separator_text

logger = logging.getLogger(__name__)

OPTIONAL = ("label", "group", "site")
"""Columns that need not be there."""
LABEL_PREFIX = "label:"
LEAST_IMAGES = 0.75
"""Share of a column's cells that name images, from which on it is a channel."""
LEAST_FILLED = 0.5
"""Share of the rows that such a column must fill, if none of what it names is there."""
OTHER_ENDINGS = (".txt", ".pdf", ".csv", ".tsv", ".json", ".xml", ".html", ".doc", ".docx", ".xls", ".xlsx")
"""Of files that a table may name beside images."""


class _Table(NamedTuple):
    """A table without what is empty in it."""

    header: list[str]
    rows: list[dict[str, str]]
    """Column to cell."""

    def cells(self, column: str) -> list[str]:
        """Return what stands in a column, each text once."""
        return list(dict.fromkeys(row[column] for row in self.rows if row[column]))


def read_csv_manifest(file: Path) -> dict[str, Any]:
    """Return a CSV manifest as a JSON one.

    Raises:
        InputError: it cannot be read as a table, or lacks what a manifest needs.
    """
    table = _read_table(file)
    labels = dict(_parse_label(file, name) for name in table.header if name.startswith(LABEL_PREFIX))
    known = ("case_id", *OPTIONAL)
    others = [name for name in table.header if name not in known and not name.startswith(LABEL_PREFIX)]
    channels = _channels(file, table, others)
    extra = [name for name in others if name not in channels and table.cells(name)]
    for name in extra:
        _warn_of_paths(file, table, name)
    if extra:
        used_names, kept = ", ".join(channels), ", ".join(extra)
        logger.info("%s: channels are the columns %s; kept with the cases are: %s", file, used_names, kept)
    problems = Problems(file)
    cases = [_case(row, channels, extra, problems=problems) for row in table.rows]
    problems.check()
    return {"channels": channels, "labels": labels or None, "cases": cases}


def _channels(file: Path, table: _Table, names: Sequence[str]) -> list[str]:
    """Return the columns whose cells name images; of a table that names none, those that may be meant."""
    channels = [name for name in names if _is_channel(file.parent, table, name)]
    channels = channels or _bare_channels(file, table, names)
    empty = [name for name in names if not table.cells(name)]
    if not channels and empty:
        return empty  # each case then says what it lacks
    if not channels:
        found = ", ".join(names) or "none beside case_id, label, group and site"
        raise InputError(
            f"found no column of images, expected one for each channel; other columns are {found}; add paths", file=file
        )
    if empty:
        logger.warning("%s: columns without any cell are left out: %s", file, ", ".join(empty))
    for name in channels:
        if "label" not in table.header and name.casefold() in LABEL_WORDS:
            note_or_warn(f"{file}: column {name!r} is taken for a channel; if it is the reference, call it `label`")
    return channels


def _is_channel(folder: Path, table: _Table, name: str) -> bool:
    """Tell whether a column names images: most of its cells do, and what they name is there, or they are no rare remarks."""
    named = _most(table.cells(name), lambda cell: names_image(folder, cell))
    filled = sum(bool(row[name]) for row in table.rows)
    # Where nothing is there, a full column holds wrong paths, which its cases are to tell; a sparse one holds notes.
    is_remark = filled <= LEAST_FILLED * len(table.rows) and not any(is_there(folder / cell) for cell in named)
    return bool(named) and not is_remark


def _most(cells: Sequence[str], is_image: Callable[[str], bool]) -> list[str]:
    """Return the cells that name images, none where they are too few."""
    named = [cell for cell in cells if is_image(cell)]
    return named if len(named) >= LEAST_IMAGES * len(cells) else []


def _warn_of_paths(file: Path, table: _Table, name: str) -> None:
    """Tell of a column that is no channel though it names images here and there."""
    named = [cell for cell in table.cells(name) if names_image(file.parent, cell)]
    if named:
        num_named = sum(row[name] in named for row in table.rows)
        logger.warning(
            "%s: column %r is kept with the cases, as it names images in %d of %d only; complete it if it is a channel",
            file,
            name,
            num_named,
            len(table.rows),
        )


def _bare_channels(file: Path, table: _Table, names: Sequence[str]) -> list[str]:
    """Return the only column whose cells are names of folders or files of DICOM, if there is one.

    Raises:
        InputError: there are several.
    """
    cells = {name: _most(table.cells(name), lambda cell: _holds_image(file.parent, cell)) for name in names}
    found = [name for name in names if cells[name]]
    if len(found) > 1:
        raise InputError(
            f"found several columns of names of DICOM, {', '.join(found)}, which may say other things; expected paths; write ./ "
            f"before them where images are meant, as in ./{cells[found[0]][0]}",
            file=file,
        )
    return found


def names_image(folder: Path, cell: str) -> bool:
    """Tell whether a cell is the path of an image: by its ending, by what is there, or as it points into a folder that is there.

    A word without ending or / is none, whatever is called so.
    """
    place = folder / cell
    if cell.lower().endswith((*ENDINGS, *BARE_ENDINGS)):
        return True
    if cell.lower().endswith(OTHER_ENDINGS):
        return False
    # Without an ending a missing file counts only where its folder is there; a bare word may be anything.
    if not is_there(place):
        return place.parent != folder and is_there(place.parent)
    # Any ending counts for a file that is there, but what follows the point of `1.5` is none.
    if place.is_file() and re.fullmatch(r"\.[A-Za-z]\w*", place.suffix):
        return True
    return "/" in cell and _holds_image(folder, cell)


def _holds_image(folder: Path, cell: str) -> bool:
    """Tell whether a file, or what lies in a folder, is DICOM."""
    place = folder / cell
    if not place.is_dir():
        return is_dicom_file(place)
    is_above = folder.resolve().is_relative_to(place.resolve())  # such as `.` and `/`
    return not is_above and holds_dicom(place, ENDINGS)


def _read_table(file: Path) -> _Table:
    lines = read_lines(file, expected="a manifest")
    if lines.separator != ",":
        logger.info("%s: the cells are separated by %s", file, separator_text(lines.separator))
    header, *rows = lines.cells or [[]]
    _check_header(file, header, lines.separator)
    return _named(file, header, _check_rows(file, header, rows))


def _check_rows(file: Path, header: Sequence[str], rows: Iterable[list[str]]) -> list[list[str]]:
    """Return the rows that have as many cells as the header; empty ones behind these do not count."""
    problems, sound, position = Problems(file), [], header.index("case_id")

    def id_of(row: list[str]) -> str:
        # A slice, as a row that is too short may lack the cell.
        return "".join(row[position : position + 1])

    # Numbered before any is left out: messages count all rows.
    numbered = list(enumerate(rows, start=1))
    for number, row in used(file, numbered, lambda entry: id_of(entry[1])):
        while len(row) > len(header) and not row[-1]:
            row.pop()
        if len(row) == len(header):
            sound.append(row)
        else:
            reason = f"found {len(row)} cells, expected {len(header)} as in the header"
            problems.add(f"row {number}: {reason}", case_id=id_of(row) or None)
    problems.check()
    return sound


def _check_header(file: Path, header: Sequence[str], separator: str) -> None:
    names = [name for name in header if name]
    repeated = repeated_values(names)
    if "case_id" in names and not repeated:
        return
    found = f"{', '.join(map(repr, repeated))} twice" if "case_id" in names else f"{names}"
    between = "" if separator == "," else f" (the cells are separated by {separator_text(separator)})"
    raise InputError(
        f"found the columns {found}{between}, expected `case_id`, one per channel, `label`; mend line 1", file=file
    )


def _named(file: Path, header: Sequence[str], rows: Sequence[Sequence[str]]) -> _Table:
    """Return a table without the columns that have no heading."""
    for position, name in enumerate(header):
        if name:
            continue
        cell = next((row[position] for row in rows if row[position]), "")
        if cell and names_image(file.parent, cell):
            raise InputError(
                f"column {position + 1} has no heading, but names images such as {cell!r}; give it one", file=file
            )
        if cell:
            logger.info("%s: column %d has no heading and is left out", file, position + 1)
    named = []
    for row in rows:
        cells = zip(header, row, strict=True)
        named.append({name: cell for name, cell in cells if name})
    return _Table([name for name in header if name], named)


def _parse_label(file: Path, header: str) -> tuple[str, int]:
    """Return name and value of a `label:NAME=VALUE` header."""
    name, _, value = header.removeprefix(LABEL_PREFIX).rpartition("=")
    try:
        number = int(value)
    except ValueError:
        number = None
    if number is None:
        raise InputError(f"found the column {shown(header)}, expected label:NAME=INTEGER; mend line 1", file=file)
    # As in documents, which a plan of this manifest becomes.
    if not LEAST <= number <= LARGEST:
        raise InputError(
            f"found the column {shown(header)}, expected a value of at most {LARGEST}; mend line 1", file=file
        )
    return name.strip(), number


def _case(row: dict[str, str], channels: Sequence[str], extra: Sequence[str], *, problems: Problems) -> dict[str, Any]:
    if filled := [name for name, cell in row.items() if name.startswith(LABEL_PREFIX) and cell]:
        reason = f"column {filled[0]!r} must be empty; its header says it all"
        problems.add(reason, case_id=row["case_id"], part="label")
    return {
        "case_id": row["case_id"],
        "images": {name: row[name] for name in channels},
        "columns": {name: row[name] for name in extra if row[name]},
        **{name: row.get(name) or None for name in OPTIONAL},
    }
