"""Notes of the files written for each case, so that a second run does only the rest and nothing stale stays.

Each case has a small note in a hidden folder. It is written before the case's files, which it names, and once more after them
with their sizes and times: a process that is killed in between leaves a note that tells what to remove.
"""

import logging
import os
from collections.abc import Iterable
from pathlib import Path

from pydantic import field_validator

from tumorseg.errors import InputError, StorageError
from tumorseg.schema.base import Record
from tumorseg.storage.atomic import remove_leftovers, storage_error
from tumorseg.storage.hashing import FileState, check_unchanged, hash_files
from tumorseg.storage.json_files import read_record, write_record

logger = logging.getLogger(__name__)

NOTES = ".tumorseg"
"""The hidden folder."""
OWNER = "folder.json"


class Owner(Record):
    """Layout and dataset that a folder is for."""

    layout: str
    """In which layout it is written."""
    dataset: str
    """The name of the dataset."""
    source: str
    """Where it was read, absolute."""


class CaseNote(Record):
    """Note of the files that were written for one case."""

    key: str
    """Says from what; empty while it is being written."""
    files: dict[str, FileState | None]
    """Path relative to the folder; as it was written, null while it is being written."""
    classes: tuple[int, ...] = ()
    """Class indices that its label holds."""

    @field_validator("files", mode="after")
    @classmethod
    def _check_inside(cls, files: dict[str, FileState | None]) -> dict[str, FileState | None]:
        """Refuse what leads out of the folder: such files would be removed."""
        if any(Path(file).is_absolute() or ".." in Path(file).parts for file in files):
            raise ValueError("a file lies outside the folder")
        return files


def claim_folder(folder: Path, owner: Owner) -> None:
    """Make a folder ready to be written, or to be gone on with.

    Raises:
        InputError: it holds something else.
        StorageError: it cannot be written.
    """
    path = folder / NOTES / OWNER
    if path.is_file():
        if (found := read_record(Owner, path)) != owner:
            raise InputError(
                f"holds {found.dataset} from {found.source} as {found.layout}, not {owner.dataset} from {owner.source} as "
                f"{owner.layout}; give another folder, or remove this one",
                file=folder,
            )
    elif folder.exists() and not _is_empty(folder):
        raise InputError("is there and was not written by this command; give a new or empty folder", file=folder)
    else:
        write_record(path, owner)


def read_notes(folder: Path) -> dict[str, CaseNote]:
    """Return the notes of all cases by name; one that cannot be read is as good as none."""
    notes = {}
    for path in sorted((folder / NOTES).glob("case *.json")):
        try:
            notes[path.stem.removeprefix("case ")] = read_record(CaseNote, path, error=StorageError)
        except StorageError:
            continue
    return notes


def is_finished(folder: Path, note: CaseNote | None, key: str) -> bool:
    """Tell whether a case's files were written from what the key says, and are as they were left."""
    if note is None or note.key != key:
        return False
    return all(_is_as_written(folder / name, state) for name, state in note.files.items())


def _is_as_written(path: Path, state: FileState | None) -> bool:
    try:
        check_unchanged({} if state is None else {str(path): state})
    except InputError:
        return False
    return state is not None


def begin_case(folder: Path, name: str, files: list[str]) -> None:
    """Note that a case's files are about to be written; those that are there without a note are moved aside, with a warning."""
    for path in (folder / file for file in files):
        if path.is_file():
            _set_aside(path)
    write_record(_note_path(folder, name), CaseNote(key="", files=dict.fromkeys(files)))


def finish_case(folder: Path, name: str, key: str, *, files: list[str], classes: Iterable[int] = ()) -> None:
    """Note that a case's files are all there, and which class indices its label holds."""
    states = hash_files(str(folder / file) for file in files)
    noted = {file: states[str(folder / file)] for file in files}
    write_record(_note_path(folder, name), CaseNote(key=key, files=noted, classes=tuple(sorted(classes))))


def discard_case(folder: Path, name: str, note: CaseNote) -> None:
    """Remove a case's files, then its note; a file that somebody has changed is moved aside, with a warning.

    Raises:
        StorageError: a file cannot be removed.
    """
    for file, state in note.files.items():
        path = folder / file
        # Without a key the writing was cut short: what is there is a rest of ours, and nobody's work.
        if note.key and path.is_file() and not _is_as_written(path, state):
            _set_aside(path)
    # The note goes last, so that a kill in between leaves nothing that is not known to be ours.
    for path in [*(folder / file for file in note.files), _note_path(folder, name)]:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise storage_error(path, error) from error


def _set_aside(path: Path) -> None:
    """Rename a file that is not as it was written, to a name that is free."""
    aside, number = path.with_name(f"{path.name}.changed"), 1
    # A broken link takes a name as well, which `exists` would not see.
    while os.path.lexists(aside):
        number += 1
        aside = path.with_name(f"{path.name}.changed-{number}")
    logger.warning("%s was changed after it was written; it is kept as %s", path, aside.name)
    path.replace(aside)


def remove_all_leftovers(folder: Path) -> None:
    """Remove the temporary files of killed processes from a claimed folder and those directly in it."""
    # A link may lead to a folder that others write to.
    for place in [folder, *(entry for entry in folder.iterdir() if entry.is_dir() and not entry.is_symlink())]:
        remove_leftovers(place)


def _is_empty(folder: Path) -> bool:
    """Tell whether a path is a folder without any but hidden entries."""
    # The lock of a folder lies inside it where its parent is read-only, and file managers leave hidden files.
    return folder.is_dir() and all(entry.name.startswith(".") for entry in folder.iterdir())


def _note_path(folder: Path, name: str) -> Path:
    return folder / NOTES / f"case {name}.json"
