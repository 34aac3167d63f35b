"""Scores that were written before, by `evaluate` or by another program, as they stand in a table or a metrics.json."""

import logging
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from pydantic import ValidationError

from tumorseg.errors import InputError
from tumorseg.reports.tables import FAILED, PREDICTION_MISSING, REMARK, VOLUMES
from tumorseg.schema.base import describe_validation
from tumorseg.schema.metric_names import METRICS
from tumorseg.schema.metrics import CaseMetrics, MetricsReport
from tumorseg.storage.json_files import read_record
from tumorseg.storage.layout import ScoresFolder
from tumorseg.storage.tables import Lines, read_lines, separator_text

logger = logging.getLogger(__name__)

OTHER_NAMES = {
    "case": "case_id",
    "dice": "dsc",
    "dice_score": "dsc",
    "dice_coefficient": "dsc",
    "jaccard": "iou",
    "sensitivity": "recall",
    "surface_dice": "nsd",
    "hd95": "hd95_mm",
    "hausdorff95": "hd95_mm",
    "hd": "hd_mm",
    "assd": "assd_mm",
    "masd": "masd_mm",
    "cldice": "cl_dice",
}
"""What columns are called elsewhere, in lower case with `_` for blanks and hyphens."""
UNDEFINED = {"", "nan", "na", "n/a", "none", "null", "-", "–", "inf", "+inf", "infinity"}
"""Cells of what is undefined, in lower case; other programs write infinity for the distance to an empty mask."""
REQUIRED = ("case_id", "label")
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.ASCII | re.IGNORECASE)
"""What a number looks like; Python's own would take 1_000 too, and digits of other scripts."""
DOUBTFUL = re.compile(r"[+-]?[1-9]\d{0,2},\d{3}", re.ASCII)
"""What may have three decimals as well as be of thousands."""


class Scores(NamedTuple):
    """Scores of one model as they were written."""

    cases: tuple[CaseMetrics, ...]
    metrics: tuple[str, ...]
    """That are there, in the order of tables."""
    attributes: Mapping[str, Mapping[str, str]]
    """Case to column to value."""
    report: MetricsReport | None = None
    """The document that they stood in; None for a table."""
    failed: tuple[str, ...] = ()
    """Cases of which the table says so."""
    missing: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    """What had to be taken for granted."""


class _Row(NamedTuple):
    """One line of a table."""

    number: int
    cells: dict[str, str]
    """Column to cell."""


def read_scores(path: Path) -> Scores:
    """Read a metrics.json, the folder that holds one, or a CSV file with a line per case and label.

    Args:
        path: a table needs the columns `case_id`, `label` and at least one metric; what else is the same in all lines of a case is kept
            as an attribute of it. Cells may stand between commas, semicolons or tabs, with decimal points or, but for the first, commas.

    Raises:
        InputError: it is none of these, or malformed.
    """
    file = scores_file(path)
    if file.suffix.lower() == ".json":
        report = read_record(MetricsReport, file)
        return Scores(report.cases, report.metrics, report.attributes, report, report.failed, report.missing)
    lines = read_lines(file, expected="a table of scores or a metrics.json")
    rows = _named(file, lines)
    metrics = tuple(name for name in METRICS if name in rows[0].cells) if rows else ()
    scored = [row for row in rows if not _is_unscored(row, metrics)]
    _check_once(file, scored)
    cases = tuple(_case(file, row, metrics, lines.separator) for row in scored)
    remarks = {row.cells["case_id"]: row.cells.get(REMARK, "") for row in rows}
    return Scores(
        cases=cases,
        metrics=metrics,
        attributes=_attributes(file, scored, metrics),
        failed=tuple(case_id for case_id, remark in remarks.items() if remark == FAILED),
        missing=tuple(case_id for case_id, remark in remarks.items() if remark == PREDICTION_MISSING),
        warnings=tuple(_units_taken(lines.cells[0])),
    )


def scores_file(path: Path) -> Path:
    """Return the file that `read_scores` reads."""
    return ScoresFolder(path).metrics if path.is_dir() else path


def _is_unscored(row: _Row, metrics: Sequence[str]) -> bool:
    """Tell whether a line says no more than why a case has no scores; any other needs a label."""
    is_told = row.cells["case_id"] and row.cells.get(REMARK) in (FAILED, PREDICTION_MISSING)
    return bool(is_told) and not row.cells["label"] and not any(row.cells[name] for name in metrics)


def _named(file: Path, lines: Lines) -> list[_Row]:
    header, *body = lines.cells or [[]]
    names = [_column(name) for name in header]
    _check_header(file, header, names, lines.separator)
    rows = []
    for number, cells in zip(lines.numbers[1:], body, strict=True):
        while len(cells) > len(names) and not cells[-1]:
            cells.pop()
        if len(cells) != len(names):
            raise InputError(
                f"line {number}: found {len(cells)} cells, expected {len(names)} as in the header; mend it", file=file
            )
        named = zip(names, cells, strict=True)
        rows.append(_Row(number, {name: cell for name, cell in named if name}))
    if not rows:
        raise InputError("found no line below the header, expected one per case and label", file=file)
    return rows


def _column(heading: str) -> str:
    """Return the metric, or the column of our own, that a heading means; else the heading."""
    plain = heading.casefold().replace("(mm)", "mm").replace("(ml)", "ml").replace("-", "_").replace(" ", "_")
    plain = OTHER_NAMES.get(plain, plain)
    return plain if plain in (*REQUIRED, *METRICS, *VOLUMES, REMARK) else heading


def _units_taken(header: Iterable[str]) -> Iterator[str]:
    """Yield a line for each heading of distances that does not say that they are in mm."""
    for heading in header:
        if _column(heading).endswith("_mm") and "mm" not in heading.casefold():
            yield f"{heading} is taken for millimetres, as its heading states no unit"


def _check_header(file: Path, header: Sequence[str], names: Sequence[str], separator: str) -> None:
    between = "" if separator == "," else f" (the cells are separated by {separator_text(separator)})"
    found = f"found the columns {', '.join(map(repr, header)) or 'of nothing'}{between}"
    if lacking := [name for name in REQUIRED if name not in names]:
        raise InputError(f"{found}, expected {' and '.join(map(repr, lacking))} too; mend line 1", file=file)
    filled = [name for name in names if name]
    if repeated := {name for name in filled if filled.count(name) > 1}:
        raise InputError(f"{found}, of which several are {', '.join(sorted(repeated))}; expected one", file=file)
    if not METRICS.keys() & set(names):
        raise InputError(f"{found}, expected a metric among them, such as {', '.join(list(METRICS)[:6])}", file=file)


def _check_once(file: Path, rows: Iterable[_Row]) -> None:
    """Check that each line is of a case and label of its own."""
    first: dict[tuple[str, str], int] = {}
    for row in rows:
        case_id, label = row.cells["case_id"], row.cells["label"]
        if not case_id or not label:
            lacks = "case_id" if not case_id else "label"
            raise InputError(f"line {row.number}: the cell of {lacks} is empty, expected a name; mend it", file=file)
        if (earlier := first.setdefault((case_id, label), row.number)) != row.number:
            raise InputError(
                f"found {label} of case {case_id} in the lines {earlier} and {row.number}, expected it once; remove one of them",
                file=file,
            )


def _case(file: Path, row: _Row, metrics: Sequence[str], separator: str) -> CaseMetrics:
    def number(name: str) -> float | None:
        return _number(file, row, name, separator)

    fields = {
        "case_id": row.cells["case_id"],
        "label": row.cells["label"],
        "scores": {name: number(name) for name in metrics},
        **{name: number(name) if name in row.cells else None for name in VOLUMES},
    }
    try:
        return CaseMetrics.model_validate(fields)
    except ValidationError as invalid:
        found = describe_validation(invalid, fields).removeprefix("document: ")
        advice = "; divide percentages by 100" if "expected 0 to 1" in found else ""
        raise InputError(f"line {row.number}: {found}{advice}; mend it", file=file) from None


def _number(file: Path, row: _Row, name: str, separator: str) -> float | None:
    text = row.cells[name]
    if text.casefold() in UNDEFINED:
        return None
    found = f"line {row.number}: found {text!r} in the column {name}"
    has_comma = separator != "," and "." not in text
    # A share is never of thousands.
    if has_comma and DOUBTFUL.fullmatch(text) and not (name in METRICS and METRICS[name].is_share):
        point, whole = text.replace(",", "."), text.replace(",", "")
        raise InputError(
            f"{found}, which may be {point} or {whole}; write it as one of these, with a decimal point", file=file
        )
    # Between commas a decimal comma would be a cell of its own; a point beside it separates thousands, which is doubtful.
    plain = text.replace(",", ".") if has_comma else text
    value = float(plain) if NUMBER.fullmatch(plain) else math.nan
    if not math.isfinite(value):
        raise InputError(f"{found}, expected a number, or nothing where it is undefined; mend it", file=file)
    return value


def _attributes(file: Path, rows: Sequence[_Row], metrics: Sequence[str]) -> dict[str, dict[str, str]]:
    """Return what further columns say of each case; what differs between the labels of a case says nothing of it."""
    own = {*REQUIRED, *metrics, *VOLUMES, REMARK}
    columns = [name for name in rows[0].cells if name not in own] if rows else []
    found: dict[str, dict[str, str]] = {}
    varying: dict[str, str] = {}
    for row in rows:
        known = found.setdefault(row.cells["case_id"], {})
        for name in columns:
            cell = row.cells[name]
            if cell and known.setdefault(name, cell) != cell:
                varying.setdefault(name, row.cells["case_id"])
    for name, case_id in varying.items():
        logger.warning("%s: column %r is left out, as it differs between the lines of case %s", file, name, case_id)
    return {
        case_id: {name: cell for name, cell in known.items() if name not in varying} for case_id, known in found.items()
    }
