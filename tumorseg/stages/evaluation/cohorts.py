"""What is known of cases beside their scores: patient, site, columns of tables; and how scores are summarised by it."""

import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

from tumorseg.errors import InputError, escaped
from tumorseg.ops.subgroups import SIZE as VOLUME
from tumorseg.reports.tables import REMARK, VOLUMES
from tumorseg.schema.base import Record
from tumorseg.schema.dataset import Case
from tumorseg.schema.metric_names import METRICS
from tumorseg.schema.metrics import IntervalMethod, Intervals
from tumorseg.stages.evaluation.pairing import some_of
from tumorseg.stages.evaluation.scoring import Cohort
from tumorseg.storage.tables import read_lines

logger = logging.getLogger(__name__)

GROUP = "group"
"""Column of what a dataset calls a case's group: its patient."""
NO_CLUSTER = "none"
"""Stands for intervals over cases, whatever is known of patients."""
SIZE = "size"
"""What the volume of the reference is called among subgroups."""
TAKEN = ("case_id", "label", *METRICS, *VOLUMES, REMARK)
"""Columns of scores, which say nothing of a case itself."""


class SummaryOptions(Record):
    """How scores are summarised."""

    metrics: tuple[str, ...] = ()
    """Which, by name; empty for those that are cheap, or of tables for all that they hold."""
    intervals: IntervalMethod = Intervals().method
    """Which bootstrap."""
    cluster: str | None = None
    """Column whose values are drawn as wholes; `group` if None where cases share groups; `none` for single cases."""
    subgroups: tuple[str, ...] = ()
    """Columns by whose values cases are summarised apart: `site`, `group`, `size` of the structure, any column of a table."""
    table: Path | None = None
    """CSV file with `case_id` and further columns, which count before those of a dataset."""


def cohort_of(
    options: SummaryOptions, attributes: Mapping[str, Mapping[str, str]], case_ids: Collection[str]
) -> Cohort:
    """Return what is known of cases, and how their scores are summarised.

    Args:
        options: of the user.
        attributes: case to column to value, as far as a dataset or the scores' own table says.
        case_ids: the cases that are scored.

    Raises:
        InputError: the table of further columns is malformed, or knows none of the cases.
    """
    known = {case_id: dict(found) for case_id, found in attributes.items()}
    if options.table is not None:
        for case_id, found in _read_table(options.table, case_ids).items():
            known[case_id] = known.get(case_id, {}) | found
    intervals = Intervals(method=options.intervals, cluster=_cluster(options.cluster, known, case_ids))
    columns = dict.fromkeys(map(_column, options.subgroups))
    return Cohort(known, intervals, tuple(columns))


def attributes_of(cases: Iterable[Case]) -> dict[str, dict[str, str]]:
    """Return case to column to value of what datasets say of their cases; of a case in several, each column's first value counts."""
    found: dict[str, dict[str, str]] = {}
    for case in cases:
        own = {GROUP: case.group, "site": case.site}
        stated = {name: value for name, value in own.items() if value is not None}
        known = {name: value for name, value in case.columns.items() if name not in TAKEN} | stated
        found[case.case_id] = known | found.get(case.case_id, {})
    return found


def _column(words: str) -> str:
    """Return a column of subgroups, and its edges if stated, with the name that the size has among scores."""
    name, equals, edges = words.partition("=")
    return (VOLUME if name == SIZE else name) + equals + edges


def _cluster(stated: str | None, known: Mapping[str, Mapping[str, str]], case_ids: Collection[str]) -> str | None:
    """Return the column of what is drawn as wholes."""
    if stated is not None:
        return None if stated == NO_CLUSTER else stated
    groups = [known[case_id][GROUP] for case_id in case_ids if known.get(case_id, {}).get(GROUP)]
    # Where each patient has one case, the two are the same, and there is nothing to say about it.
    return GROUP if len(set(groups)) < len(groups) else None


def _read_table(file: Path, case_ids: Collection[str]) -> dict[str, dict[str, str]]:
    lines = read_lines(file, expected="a table of cases")
    header, *rows = lines.cells or [[]]
    filled = [name for name in header if name]
    if "case_id" not in header or len(set(filled)) != len(filled):
        raise InputError(
            f"found the columns {', '.join(map(repr, header)) or 'of nothing'}, expected `case_id` and others, each once; mend line 1",
            file=file,
        )
    found: dict[str, dict[str, str]] = {}
    for number, row in zip(lines.numbers[1:], rows, strict=True):
        case_id, named = _named_cells(header, row)
        faults = {
            f"found {len(row)} cells, expected {len(header)} as in the header": len(row) > len(header),
            "the cell of case_id is empty, expected a name": not case_id,
            f"found the case {case_id} again, expected each once": case_id in found,
        }
        for fault in (words for words, is_so in faults.items() if is_so):
            raise InputError(f"line {number}: {fault}; mend it", file=file)
        found[case_id] = named
    _check_known(file, found, case_ids)
    return found


def _named_cells(header: Sequence[str], row: list[str]) -> tuple[str, dict[str, str]]:
    """Return the case of a line, and what it says of it; empty cells behind the last column do not count."""
    while len(row) > len(header) and not row[-1]:
        row.pop()
    cells = dict(zip(header, row, strict=False))  # a short row lacks the last columns
    case_id = cells.pop("case_id", "")
    # A cell may become the name of a subgroup.
    return case_id, {name: escaped(cell) for name, cell in cells.items() if name and cell and name not in TAKEN}


def _check_known(file: Path, found: Collection[str], case_ids: Collection[str]) -> None:
    if case_ids and set(case_ids).isdisjoint(found):
        raise InputError(
            f"knows none of the cases: it has {some_of(found)}, scored are {some_of(case_ids)}; expected the same case_ids",
            file=file,
        )
    if unknown := [case_id for case_id in case_ids if case_id not in found]:
        logger.warning("%s says nothing of %d of %d cases: %s", file, len(unknown), len(case_ids), some_of(unknown))
