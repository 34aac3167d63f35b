"""What is known of the files in a folder of predictions: the record and the report, and what journals add to them."""

import heapq
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from tumorseg.errors import TumorsegError
from tumorseg.stages.inference.case_report import RunEntry
from tumorseg.stages.inference.journal import Begun, Finished, Notes, open_notes, read_entry
from tumorseg.stages.inference.predictions import Made, Predictions, read_document
from tumorseg.stages.inference.report_file import Report, entry_text, read_entries, read_report, report_parts, run_key
from tumorseg.storage.atomic import remove_file, write_parts
from tumorseg.storage.json_files import write_record
from tumorseg.storage.layout import PREDICTIONS, REPORT, journal_files


class KnownEntry(NamedTuple):
    """A case's entry, which stays in its file: those of 20,000 cases with 60 labels would take 100 MiB."""

    run: str
    """Key of the run."""
    noted: tuple[Path, int] | None = None
    """The journal that holds it, and the first byte of its line; None where the report does."""


class Ledger:
    """Cases that are done, and files that may be replaced; steps are taken in the order in which they happened."""

    def __init__(self, record: Predictions | None, report: Report) -> None:
        """Begin with what the files of a folder say; a record of None knows nothing."""
        self.made_by = None if record is None else record.changed(cases={}, replaceable={})
        self.cases: dict[str, Made] = {} if record is None else dict(record.cases)
        self.replaceable: dict[str, str | None] = {} if record is None else dict(record.replaceable)
        self.entries = {case_id: KnownEntry(run) for case_id, run in report.entries.items()}
        self._runs: dict[str, RunEntry] = dict(report.runs)

    def adopt(self, made_by: Predictions, run: RunEntry) -> None:
        """Keep of what is done that which `made_by` makes, too; the rest may be replaced."""
        before, self._runs[run_key(run)] = self.made_by, run
        if before is not None and before.method_hash != made_by.method_hash:
            # Files of another method are no results of this, but they are ours.
            for case_id in list(self.cases):
                self._give_up(case_id, self.cases[case_id].files)
        forms = {} if before is None else dict(before.forms)
        other = {kind for kind, form in made_by.forms.items() if forms.get(kind, form) != form}
        for case_id in list(self.cases) if other else ():
            self._give_up(case_id, [name for name in self.cases[case_id].files if name.split("/")[0] in other])
        self.made_by = made_by.changed(forms=forms | made_by.forms)

    def _give_up(self, case_id: str, names: Iterable[str]) -> None:
        """Let files of a case be results no longer; without any the case is not done."""
        files = dict(self.cases[case_id].files)
        self.replaceable |= {name: files.pop(name) for name in list(names)}
        if files:
            self.cases[case_id] = self.cases[case_id].changed(files=files)
        else:
            del self.cases[case_id]
            self.entries.pop(case_id, None)

    def take(self, step: Begun | Finished, noted: tuple[Path, int] | None = None) -> None:
        """Take one step of a journal; `noted` tells where a report can find it."""
        if isinstance(step, Begun):
            self.cases.pop(step.begun, None)
            self.entries.pop(step.begun, None)
            self.replaceable |= step.replaceable
            return
        self.cases[step.finished], self.entries[step.finished] = step.made, KnownEntry(step.entry.run, noted)
        for name in step.made.files:
            self.replaceable.pop(name, None)

    def take_all(self, notes: Notes) -> None:
        """Take over a whole journal."""
        self.adopt(notes.header.made_by, notes.header.run)
        for start, step in notes.steps:
            self.take(step, (notes.path, start))

    def record(self) -> Predictions:
        """Return the record; somebody must have adopted something."""
        assert self.made_by is not None
        return self.made_by.changed(cases=self.cases, replaceable=self.replaceable)

    def runs(self) -> dict[str, RunEntry]:
        """Return the runs of which something is left, by key."""
        used = {entry.run for entry in self.entries.values()}
        return {key: run for key, run in self._runs.items() if key in used}


def read_ledger(root: Path, journals: Iterable[Notes], error: type[TumorsegError]) -> Ledger:
    """Read the record and the report of a folder, and what journals add.

    Another process may let the record take those over meanwhile: what is told twice does no harm.

    Args:
        root: the folder.
        journals: those that count, opened before.
        error: the class to raise.

    Raises:
        TumorsegError: of class `error`: one of them is damaged, or of another version of tumorseg.
    """
    path = root / PREDICTIONS
    ledger = Ledger(read_document(path, error) if path.is_file() else None, read_report(root / REPORT, error))
    for notes in journals:
        ledger.take_all(notes)
    return ledger


def fold_journals(root: Path, journals: Sequence[Path], error: type[TumorsegError]) -> None:
    """Let the record and the report of a folder take journals over.

    A kill at any moment leaves nothing untold: what a journal says may be taken over twice.

    Args:
        root: a folder whose record nobody else writes now.
        journals: of runs that have ended.
        error: the class to raise.

    Raises:
        TumorsegError: of class `error`: as from `read_ledger`.
        StorageError: the folder cannot be written.
    """
    present = open_notes(journals, error)
    if not present:
        return
    ledger = read_ledger(root, present, error)
    entries = heapq.merge(_told(root, ledger, error), _noted(ledger, error))
    write_parts(root / REPORT, report_parts(entries, ledger.runs()))
    write_record(root / PREDICTIONS, ledger.record())
    for notes in present:
        remove_file(notes.path)


def _told(root: Path, ledger: Ledger, error: type[TumorsegError]) -> Iterator[tuple[str, str]]:
    """Yield the entries that stay as the report holds them: case_id and text, sorted."""
    for case_id, text in read_entries(root / REPORT, error):
        known = ledger.entries.get(case_id)
        if known is not None and known.noted is None:
            yield case_id, text


def _noted(ledger: Ledger, error: type[TumorsegError]) -> Iterator[tuple[str, str]]:
    """Yield the entries that journals hold, likewise."""
    for case_id, known in sorted(ledger.entries.items()):
        if known.noted is not None:
            yield case_id, entry_text(read_entry(*known.noted, error))


def read_predictions(path: Path, error: type[TumorsegError]) -> Predictions:
    """Read the record of a folder, and what runs that were killed, or go on, have added to it.

    Args:
        path: of the record, which is there.
        error: the class to raise.

    Raises:
        TumorsegError: of class `error`: it is of another version of tumorseg, damaged or missing.
    """
    # Opened before the record, which may take them over meanwhile; what is told twice does no harm.
    notes = open_notes(journal_files(path.parent), error)
    ledger = Ledger(read_document(path, error), Report({}, {}))
    for found in notes:
        ledger.take_all(found)
    return ledger.record()
