"""The files of an evaluation: which there are, whether they may be replaced, and writing them."""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from tumorseg.errors import InputError, StorageError
from tumorseg.reports.results.page import Page
from tumorseg.reports.results.writing import write_page
from tumorseg.reports.tables import CSV_START, VOLUMES, metrics_csv
from tumorseg.schema.base import Record
from tumorseg.schema.comparisons import Comparison, Ranking
from tumorseg.schema.metrics import MetricsReport
from tumorseg.sources.folders import image_files
from tumorseg.storage.atomic import require_replaceable, require_writable, write_text
from tumorseg.storage.json_files import read_record, write_record
from tumorseg.storage.layout import ScoresFolder
from tumorseg.storage.locks import hold_folder

MADE_BY = '<meta name="generator" content="tumorseg">'
"""By which a page of our own is known."""
MOST_START = 2048
"""Letters of a file that are looked at to tell what made it."""
_NAMES = ScoresFolder(Path())
KINDS: dict[str, type[Record]] = {
    **dict.fromkeys((_NAMES.metrics.name, _NAMES.table.name, _NAMES.report.name), MetricsReport),
    _NAMES.comparison.name: Comparison,
    _NAMES.ranking.name: Ranking,
}
"""Name of each file to what it holds."""


class Results(NamedTuple):
    """What an evaluation found; what is None is not written."""

    report: MetricsReport | None
    other: MetricsReport | None = None
    """Scores of the predictions that are compared with, where they were scored here."""
    comparison: Comparison | None = None
    ranking: Ranking | None = None
    page: Page | None = None


def is_scores_file(output: Path) -> bool:
    """Tell whether scores go into one file rather than into a folder."""
    return output.suffix.lower() in (".json", ".csv") and not output.is_dir()


def holds_scores(path: Path) -> bool:
    """Tell whether a path holds scores rather than predictions."""
    if path.is_dir():
        return ScoresFolder(path).metrics.is_file() and not image_files(path)
    return path.suffix.lower() in (".json", ".csv")


def write_scores(report: MetricsReport, output: Path) -> None:
    """Write scores into a folder, or into one file.

    Raises:
        StorageError: it cannot be written.
    """
    folder = ScoresFolder(output)
    for path in (output,) if is_scores_file(output) else (folder.metrics, folder.table):
        if path.suffix.lower() == ".json":
            write_record(path, report)
        else:
            write_text(path, metrics_csv(report))


def write_results(results: Results, output: Path) -> None:
    """Write what an evaluation found into a folder; into one file go its scores alone.

    Raises:
        StorageError: it cannot be written.
    """
    if is_scores_file(output):
        if results.report is not None:
            write_scores(results.report, output)
        return
    folder = ScoresFolder(output)
    for place, report in ((folder, results.report), (folder.against, results.other)):
        if report is not None:
            write_scores(report, place.root)
    for path, record in ((folder.comparison, results.comparison), (folder.ranking, results.ranking)):
        if record is not None:
            write_record(path, record)
    if results.page is not None:
        write_page(folder.report, results.page)
    # A ranking has no scores of its own, so that nothing there belongs to others.
    if results.report is not None:
        _remove_outdated(results, folder)


def _remove_outdated(results: Results, folder: ScoresFolder) -> None:
    """Remove results of an earlier run, which belong to other scores than those that are written now."""
    outdated: list[Path] = []
    if results.other is None:
        outdated += (folder.against.metrics, folder.against.table)
    for path, record in ((folder.comparison, results.comparison), (folder.ranking, results.ranking)):
        outdated += () if record is not None else (path,)
    for path in outdated:
        if path.is_file() and _is_result(path, KINDS[path.name]):
            path.unlink()


@contextmanager
def held(output: Path) -> Iterator[None]:
    """Keep other processes from writing the same results meanwhile.

    Raises:
        StorageError: another one does now, or nothing can be written there.
    """
    if is_scores_file(output):
        require_writable(output.parent)
        yield
        return
    # Resolved, so that two links to one folder mean one lock.
    with hold_folder(output.resolve(), doing="written to", error=StorageError):
        yield


def check_replaceable(output: Path) -> None:
    """Refuse to write over a file that is no result of an evaluation.

    Raises:
        InputError: there is one.
        StorageError: there is a pipe or the like, of which not even the content could be looked at.
    """
    for path, kind in _kinds(output).items():
        require_replaceable(path)
        if os.path.lexists(path) and not _is_result(path, kind):
            raise InputError("is there already and holds no scores; move it elsewhere, or give another -o", file=path)


def check_apart(output: Path, inputs: Iterable[Path]) -> None:
    """Refuse to write over files that the same command reads.

    Args:
        output: folder, or one file, of results.
        inputs: files; what else is among them is no matter.

    Raises:
        InputError: one is in the place of a result.
    """
    # Resolved, so that a link does not hide one.
    read = {path.resolve() for path in inputs}
    for path in _kinds(output):
        if path.resolve() in read:
            raise InputError("is read, and would be replaced by the results; give another -o", file=path)


def _kinds(output: Path) -> dict[Path, type[Record]]:
    """Return the files that may be written, and what those in JSON hold."""
    if is_scores_file(output):
        return {output: MetricsReport}
    folder = ScoresFolder(output)
    own = (folder.metrics, folder.table, folder.report, folder.comparison, folder.ranking)
    return {path: KINDS[path.name] for path in (*own, folder.against.metrics, folder.against.table)}


def _is_result(path: Path, kind: type[Record]) -> bool:
    try:
        if path.suffix.lower() == ".json":
            read_record(kind, path, error=InputError)
            return True
        with path.open(encoding="utf-8") as file:
            start = file.read(MOST_START)
        return MADE_BY in start if path.suffix == ".html" else _has_our_header(start)
    except (InputError, OSError, UnicodeDecodeError):
        return False


def _has_our_header(text: str) -> bool:
    """Tell scores as `metrics_csv` writes them from manifests, and tables of other programs, that begin alike."""
    header = text.partition("\n")[0].split(",")
    return text.startswith(CSV_START) and set(VOLUMES) <= set(header)
