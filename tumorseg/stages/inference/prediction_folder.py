"""A folder of predictions that a run fills: alone, or beside the other shards of one command."""

import logging
import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from threading import Lock

from tumorseg.errors import InputError, StorageError, TumorsegError
from tumorseg.stages.inference.case_report import CaseEntry
from tumorseg.stages.inference.folder_checks import (
    check_agreement,
    check_ours,
    check_place,
    is_as_written,
    present_files,
)
from tumorseg.stages.inference.journal import Begun, Finished, Header, Journal, open_notes
from tumorseg.stages.inference.ledger import fold_journals, read_ledger
from tumorseg.stages.inference.predictions import Made, mask_hash
from tumorseg.stages.inference.shards import Shard
from tumorseg.storage.atomic import remove_file, remove_leftovers
from tumorseg.storage.layout import PREDICTIONS, REPORT, journal_file, journal_files
from tumorseg.storage.locks import briefly_alone, held_parts, hold_folder, hold_part

logger = logging.getLogger(__name__)


def hold_predictions(root: Path, shard: Shard | None) -> AbstractContextManager[None]:
    """Keep other processes out of a folder of predictions meanwhile, or out of the part of it that a shard is.

    Raises:
        StorageError: another process writes into it now, or it cannot be written.
    """
    # Resolved, so that two links to one folder mean one lock.
    folder = root.resolve()
    if shard is None:
        return hold_folder(folder, doing="written to", error=StorageError)
    # What this shard had noted before it was killed may be of another command; others take it for what the holder does.
    first = partial(fold_journals, folder, [journal_file(folder, shard.name)], StorageError)
    return hold_part(folder, shard.name, fits=shard.fits, error=StorageError, first=first)


class PredictionFolder:
    """Files of predictions and the record of what made them; several threads may use it.

    A kill at any moment leaves them in agreement: the journal first says that files may be replaced, then that they are done. Files
    are named relative to the folder.
    """

    def __init__(self, root: Path, header: Header, *, shard: Shard | None = None, stale: Sequence[Path] = ()) -> None:
        """Read what is there, and keep of it what this run makes, too.

        Args:
            root: a folder that the caller holds, or the part of it that the shard is.
            header: what this run makes.
            shard: which part of all cases this run takes; all of them if None.
            stale: files that are no longer true once a mask has changed.

        Raises:
            InputError: the record cannot be read.
        """
        self.root = root
        self._header, self._shard, self._stale = header, shard, stale
        self._own = journal_file(root, None if shard is None else shard.name)
        self._journal: Journal | None = None
        self._has_ended = False
        # Of the ledger and the journal: cases go through several at once.
        self._lock = Lock()
        self._kept: dict[str, dict[str, str]] = {}
        with self._undisturbed():
            killed = open_notes(self._ended(), InputError)
        # Others may write the record meanwhile: what it tells of their cases is of no concern here.
        self._ledger = read_ledger(root, killed, InputError)
        self._ledger.adopt(header.made_by, header.run)

    def _undisturbed(self) -> AbstractContextManager[None]:
        """Keep other shards from the record; a run that takes all cases has the folder to itself."""
        return nullcontext() if self._shard is None else briefly_alone(self.root.resolve())

    def _ended(self) -> list[Path]:
        """Return the journals of runs that are over, whether they came to their end or were killed; this one's own is among them."""
        running = self._of_others_now()
        return [path for path in journal_files(self.root) if path not in running]

    def _of_others_now(self) -> list[Path]:
        """Return the journals of the shards that are running beside this one."""
        if self._shard is None:
            return []
        held = held_parts(self.root.resolve())
        return [journal_file(self.root, part) for part in held if part != self._shard.name]

    def begin_run(self, case_files: Mapping[str, Collection[str]]) -> None:
        """Take over what runs that were killed have left, once it is known that nothing stands in the way of this one.

        Args:
            case_files: names of the files that this run makes of each case, by case_id.

        Raises:
            InputError: a file stands in the place of one that is to be written, and came from elsewhere.
            StorageError: another shard that runs now makes something else, or the folder cannot be written.
        """
        known = {name for made in self._ledger.cases.values() for name in made.files} | self._ledger.replaceable.keys()
        present = present_files(self.root, {Path(name).parent for names in case_files.values() for name in names})
        for case_id, names in case_files.items():
            check_place(self.root, case_id, names, present)
            check_ours(self.root, present.intersection(names) - known)
        with self._undisturbed():
            check_agreement(self.root, self._header, self._of_others_now())
            fold_journals(self.root, self._ended(), InputError)
            self._remove_leftovers(case_files.values())
            # Others go by it, so that it is there from the start; alone, a run that finds all done writes nothing.
            if self._shard is not None:
                self._journal = Journal(self._own, self._header)

    def of_others(self, names: Iterable[str]) -> list[str]:
        """Return the files beside those named that are here and made by something else."""
        others = self._ledger.replaceable.keys() - set(names)
        return sorted(name for name in others if (self.root / name).is_file())

    def is_done(self, case_id: str, input_hash: str, names: Collection[str]) -> bool:
        """Return whether all files of a case are there, and results of this.

        Raises:
            InputError: one was changed since it was written, or came from elsewhere meanwhile.
        """
        with self._lock:
            made, has_entry = self._ledger.cases.get(case_id), case_id in self._ledger.entries
            known = ({} if made is None else made.files) | {
                name: self._ledger.replaceable[name] for name in names if name in self._ledger.replaceable
            }
        check_ours(self.root, [name for name in names if name not in known and os.path.lexists(self.root / name)])
        present = [name for name in names if name in known and is_as_written(self.root / name, known[name], case_id)]
        if made is None or len(present) < len(names):
            return False
        return has_entry and made.input_hash == input_hash and set(names) <= made.files.keys()

    def begin(self, case_id: str, input_hash: str, names: Collection[str]) -> None:
        """Note that files of a case are being written, which outdates what was drawn from its mask.

        Raises:
            StorageError: the folder cannot be written, or the run is over.
        """
        with self._lock:
            self._check_going_on()
            for path in self._stale:
                remove_file(path)
            made = self._ledger.cases.get(case_id)
            files = {} if made is None else made.files
            others = {name: found for name, found in files.items() if name not in names}
            # What another command had written of the same image stays a result.
            is_kept = made is not None and made.input_hash == input_hash
            self._kept[case_id] = others if is_kept else {}
            self._note(Begun(begun=case_id, replaceable={**others, **dict.fromkeys(names)}))
        if others and not is_kept:
            logger.warning(
                "case %s: its image was another when %s was written; ask for it again", case_id, ", ".join(others)
            )

    def finish(self, case_id: str, input_hash: str, names: Collection[str], entry: CaseEntry) -> None:
        """Note that the files of a case are written.

        Raises:
            StorageError: the folder cannot be written, or the run is over.
        """
        files = {name: mask_hash(self.root / name) for name in names}
        with self._lock:
            made = Made(input_hash=input_hash, files=self._kept.pop(case_id) | files)
            self._note(Finished(finished=case_id, made=made, entry=entry))

    def _check_going_on(self) -> None:
        if self._has_ended:
            raise StorageError("the run was stopped before this case was written; give the same command again")

    def _note(self, step: Begun | Finished) -> None:
        self._check_going_on()
        if self._journal is None:
            self._journal = Journal(self._own, self._header)
        self._journal.note(step)
        self._ledger.take(step)

    def _remove_leftovers(self, case_files: Iterable[Collection[str]]) -> None:
        """Remove what a killed process left half written of these files and of the record."""
        folders: dict[Path, set[str]] = {self.root: {PREDICTIONS, REPORT, self._own.name}}
        for names in case_files:
            for path in (self.root / name for name in names):
                folders.setdefault(path.parent, set()).add(path.name)
        for folder, names in folders.items():
            remove_leftovers(folder, names)

    def end_run(self) -> TumorsegError | None:
        """Let the record take over what this run has done, and what killed ones have left.

        Returns:
            Why it cannot, as on a full disk; then the journals keep it for the next run, and readers of the record know them.
        """
        with self._lock:
            # A lane that is not done by now would write into a folder that others may hold.
            self._has_ended = True
        if self._journal is None:
            return None
        try:
            with self._undisturbed():
                fold_journals(self.root, self._ended(), StorageError)
        except TumorsegError as error:
            logger.warning("what was done is not yet in %s; the next run will add it", self.root / PREDICTIONS)
            return error
        return None
