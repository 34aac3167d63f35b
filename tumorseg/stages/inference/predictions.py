"""A folder of predictions, and its record of which masks are results of what and which may be replaced."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field

from tumorseg.errors import InputError, TumorsegError
from tumorseg.schema.base import Record, parse_record
from tumorseg.schema.cases import CaseReading
from tumorseg.storage.atomic import remove_leftovers
from tumorseg.storage.hashing import hash_files
from tumorseg.storage.json_files import read_json, write_record
from tumorseg.storage.layout import PREDICTIONS, prediction_file

RECORD_VERSION = 2
"""Of the record's form; raised when its fields change."""


class Made(Record):
    """A mask that is done."""

    input_hash: str
    """Of the files that were segmented, as they were read, and of the previous segmentation that was shown."""
    mask_hash: str
    """Of its own file, as it was written."""


class Predictions(Record):
    """Record of the method and the inputs that made the masks in a folder."""

    schema_version: Literal[2] = 2
    """Of this document's form."""
    method_hash: str
    """Of everything that shapes a mask beside its inputs."""
    method_version: int
    """Of how this version of tumorseg predicts; part of that hash, and here to be read, as is what follows."""
    plan: str
    """Name of the model's plan."""
    weight_hashes: tuple[str, ...]
    """Of the checkpoints, those of a cascade's previous model included."""
    mirroring: bool
    """Whether mirrored views were averaged."""
    reading: CaseReading
    """What was done where files leave open how they are read."""
    cases: dict[str, Made] = Field(default_factory=dict)
    """What is done, by case_id."""
    replaceable: dict[str, str | None] = Field(default_factory=dict)
    """Masks that are no results of this: the hash of the file that another model, other options or other inputs made;
    null for one that was being written."""


def read_predictions(path: Path, error: type[TumorsegError]) -> Predictions:
    """Read the record of a folder.

    Raises:
        TumorsegError: of class `error`: it is of another version of tumorseg, damaged or missing.
    """
    document = read_json(path, error)
    found = document.get("schema_version", 1) if isinstance(document, dict) else None
    if found != RECORD_VERSION:
        raise error(
            f"found a record of form {found}, expected {RECORD_VERSION}: another version of tumorseg made these masks; "
            f"move {path.parent} aside, or give another folder",
            file=path,
        )
    return parse_record(Predictions, document, source=str(path), error=error)


class PredictionFolder:
    """Masks and the record of what made them, which one process at a time holds.

    A kill at any moment leaves them in agreement: the record first says that a file may be replaced, then that it is
    done.
    """

    def __init__(self, root: Path, made_by: Predictions, stale: Sequence[Path] = ()) -> None:
        """Read what is there, and keep of it what `made_by` made.

        Args:
            root: the folder.
            made_by: a record without cases.
            stale: files that are no longer true once a mask has changed.

        Raises:
            InputError: the record cannot be read.
        """
        self.root = root
        self._stale = stale
        path = root / PREDICTIONS
        before = read_predictions(path, InputError) if path.is_file() else made_by
        if before.method_hash == made_by.method_hash:
            self._record = made_by.changed(cases=before.cases, replaceable=before.replaceable)
            return
        # Masks of another method are no results of this, but they are ours, so that they may be replaced.
        masks = {case_id: made.mask_hash for case_id, made in before.cases.items()}
        self._record = made_by.changed(replaceable=before.replaceable | masks)

    def mask(self, case_id: str) -> Path:
        """Return the file of a case."""
        return prediction_file(self.root, case_id)

    def check_names(self, case_ids: Iterable[str]) -> None:
        """Refuse to write over files that did not come from here.

        Raises:
            InputError: there is one.
        """
        ours = self._record.cases.keys() | self._record.replaceable.keys()
        foreign = [self.mask(case_id) for case_id in case_ids if case_id not in ours]
        if found := [path for path in foreign if os.path.lexists(path)]:
            raise InputError(
                f"{found[0]} is there already and no result of predict ({PREDICTIONS} does not name it); "
                "give another -o"
            )

    def of_others(self, case_ids: Iterable[str]) -> list[str]:
        """Return the cases beside those given whose masks are here and made by something else."""
        others = self._record.replaceable.keys() - set(case_ids)
        return sorted(case_id for case_id in others if self.mask(case_id).is_file())

    def is_done(self, case_id: str, input_hash: str) -> bool:
        """Return whether a mask is there that is a result of this.

        Raises:
            InputError: there is one that was changed since it was written, or came from elsewhere meanwhile.
        """
        path = self.mask(case_id)
        self.check_names([case_id])
        if not os.path.lexists(path):
            return False
        made = self._record.cases.get(case_id)
        # None where writing was cut short: then whatever is there may be replaced.
        written = self._record.replaceable[case_id] if made is None else made.mask_hash
        if written is not None and mask_hash(path) != written:
            raise InputError(
                f"{path} was changed since predict wrote it, so it is no result and is left alone; move it elsewhere, "
                "or delete it, and give the command again",
                case_id=case_id,
            )
        return made is not None and made.input_hash == input_hash

    def begin(self, case_id: str) -> None:
        """Note that a mask is being written, which outdates what was drawn from the masks."""
        for path in self._stale:
            path.unlink(missing_ok=True)
        cases = {known: made for known, made in self._record.cases.items() if known != case_id}
        self._note(cases, self._record.replaceable | {case_id: None})

    def finish(self, case_id: str, input_hash: str) -> None:
        """Note that a mask is written."""
        made = Made(input_hash=input_hash, mask_hash=mask_hash(self.mask(case_id)))
        replaceable = {known: found for known, found in self._record.replaceable.items() if known != case_id}
        self._note(self._record.cases | {case_id: made}, replaceable)

    def remove_leftovers(self, case_ids: Iterable[str]) -> None:
        """Remove what a killed process left half written of these cases and of the record."""
        remove_leftovers(self.root, {PREDICTIONS, *(self.mask(case_id).name for case_id in case_ids)})

    def _note(self, cases: dict[str, Made], replaceable: dict[str, str | None]) -> None:
        self._record = self._record.changed(cases=cases, replaceable=replaceable)
        write_record(self.root / PREDICTIONS, self._record)


def mask_hash(path: Path) -> str:
    """Return the hash of a mask's file.

    Raises:
        InputError: it is missing or cannot be read.
    """
    return hash_files([str(path)])[str(path)].digest
