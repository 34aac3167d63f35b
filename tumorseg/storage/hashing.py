"""Content hashes of files, remembered by path, size, times of modification and change, and inode."""

import hashlib
import json
import os
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from tumorseg.errors import InputError
from tumorseg.schema.base import content_hash, json_text
from tumorseg.schema.dataset import Case
from tumorseg.storage.atomic import write_text
from tumorseg.storage.damage import PARSING, Damage
from tumorseg.storage.dicom.files import label_parts_of, parts_of

DAMAGE: Damage = (OSError, *PARSING)
"""What reading the notes of hashes may raise."""
Stamp = tuple[int, int, int, int]
"""Size in bytes, times of modification and of change in ns, inode. `cp -p`, rsync and archives set the first of the two times back,
the system alone sets the second; a file that is moved or whose rights change is read once more for it."""


class FileState(NamedTuple):
    """A file as it was read."""

    stamp: Stamp
    digest: str


class HashCache:
    """Hashes of files that have not changed since they were last read."""

    def __init__(self, path: Path) -> None:
        """Read the cache; one that is missing or damaged is empty."""
        self._path = path
        self._known: dict[str, FileState] = _read_states(path)
        self._saved_s = time.monotonic()

    def case_hash(self, case: Case) -> str | None:
        """Return the hash of a case's files, or None if one of them has to be read first.

        Raises:
            InputError: a file is missing.
        """
        # All files are looked at before an unknown one counts, so that a missing one is always an error.
        found = {path: self._file_hash(path) for path in case_files(case)}
        hashes = {path: digest for path, digest in found.items() if digest is not None}
        return combine_hashes(case, hashes) if len(hashes) == len(found) else None

    def case_states(self, case: Case) -> dict[str, FileState] | None:
        """Return a case's files as they were read, or None if one of them has to be read first.

        Raises:
            InputError: a file is missing.
        """
        if self.case_hash(case) is None:
            return None
        return {path: self._known[os.path.abspath(path)] for path in case_files(case)}  # noqa: PTH100 (links stay)

    def _file_hash(self, path: str) -> str | None:
        stamp = file_stamp(path)
        known = self._known.get(os.path.abspath(path))  # noqa: PTH100 (links stay)
        return known.digest if known is not None and known.stamp == stamp else None

    def remember(self, states: Mapping[str, FileState]) -> None:
        """Add what was read."""
        self._known.update({os.path.abspath(path): state for path, state in states.items()})  # noqa: PTH100

    def save(self) -> None:
        """Write the cache."""
        # A file whose name is not UTF-8 is hashed anew each time: no document can hold its name.
        kept = {path: state for path, state in self._known.items() if path.encode(errors="ignore").decode() == path}
        write_text(self._path, json_text(kept))
        self._saved_s = time.monotonic()

    def save_now_and_then(self, every_s: float) -> None:
        """Write the cache if it was last written so many seconds ago."""
        if time.monotonic() - self._saved_s >= every_s:
            self.save()


def _read_states(path: Path) -> dict[str, FileState]:
    try:
        found = json.loads(path.read_text("utf-8"))
        return {file: _state(entry) for file, entry in found.items()}
    # Not as documents of people are read: paths of files may hold what no key there may.
    except DAMAGE:
        return {}


def _state(entry: list[Any]) -> FileState:
    (size, mtime_ns, ctime_ns, inode), digest = entry
    return FileState((int(size), int(mtime_ns), int(ctime_ns), int(inode)), str(digest))


def case_files(case: Case) -> list[str]:
    """Return the files of a case, each once, images before the label."""
    files: list[str] = []
    for image in case.images:
        files += parts_of(image)
    files += label_parts_of(case)
    # Several channels may be volumes of one file.
    return list(dict.fromkeys(files))


def file_stamp(path: str) -> Stamp:
    """Return what tells whether a file is as it was.

    Raises:
        InputError: the file is missing.
    """
    try:
        found = Path(path).stat()
    except OSError as error:
        raise InputError(
            f"cannot be read ({error.strerror}); the dataset names this file; restore it", file=path
        ) from None
    return _stamp(found)


def _stamp(found: os.stat_result) -> Stamp:
    return found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino


def hash_files(files: Iterable[str]) -> dict[str, FileState]:
    """Read files and return their states.

    Raises:
        InputError: a file is missing, cannot be read, or changed meanwhile.
    """
    return {path: _read_state(path) for path in files}


def check_unchanged(states: Mapping[str, FileState]) -> None:
    """Refuse files that are no longer those that were hashed.

    Raises:
        InputError: a file was changed, replaced or removed since.
    """
    for path, state in states.items():
        stamp = file_stamp(path)
        if stamp == state.stamp:
            continue
        # A link, a backup or other rights change the time of change alone: then the bytes decide.
        if stamp[:2] != state.stamp[:2] or _digest(path) != state.digest:
            raise _changed(path)


def check_stamps(stamps: Mapping[str, Stamp]) -> None:
    """Refuse files that are no longer as they were.

    Raises:
        InputError: a file was changed, replaced or removed since.
    """
    for path, stamp in stamps.items():
        if file_stamp(path) != stamp:
            raise _changed(path)


def _read_state(path: str) -> FileState:
    before = file_stamp(path)
    # Stamped before and checked after: a file that changes while it is read has no hash.
    state = FileState(before, _digest(path))
    check_stamps({path: before})
    return state


def _digest(path: str) -> str:
    # 128 bits: two different files will never share one by chance.
    digest = hashlib.blake2b(digest_size=16)
    try:
        with Path(path).open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    except OSError as error:
        raise InputError(f"cannot be read ({error.strerror})", file=path) from None
    return digest.hexdigest()


def _changed(path: str) -> InputError:
    return InputError("was changed while it was used; give the command again once it is complete", file=path)


def combine_hashes(case: Case, hashes: Mapping[str, str]) -> str:
    """Return the hash of a case from those of its files, whatever they are called."""
    images: list[list[str | int | None]] = []
    for image in case.images:
        joined = _joined([hashes[part] for part in parts_of(image)])
        images.append([joined, image.index])
    label = _joined([hashes[part] for part in label_parts_of(case)]) if case.label else None
    return content_hash([images, label])


def _joined(hashes: list[str]) -> str:
    """Return one hash for the files of an image or label, in whatever order they are."""
    return hashes[0] if len(hashes) == 1 else content_hash(sorted(hashes))


def dataset_hash(case_hashes: Mapping[str, str]) -> str:
    """Return the hash of a dataset from those of its cases by case_id."""
    return content_hash(dict(case_hashes))
