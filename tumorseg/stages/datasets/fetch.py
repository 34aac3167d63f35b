"""Fetch public datasets: download, check, unpack, open."""

import logging
from pathlib import Path
from typing import NamedTuple

from tumorseg.errors import InputError, StorageError, TumorsegError
from tumorseg.schema.base import Record, json_text
from tumorseg.schema.dataset import Dataset
from tumorseg.sources.registry import REGISTERED, Archive, find_registered, open_dataset, registered_name
from tumorseg.stages.opening.loaded import Roots
from tumorseg.storage.atomic import storage_error, write_text
from tumorseg.storage.downloads.archives import remove_unpacking, unpacked
from tumorseg.storage.downloads.download import download, forget, md5_of
from tumorseg.storage.hashing import case_files
from tumorseg.storage.layout import FETCHED, FetchFiles
from tumorseg.storage.locks import hold_folder
from tumorseg.tracking.progress import progress_of_bytes

logger = logging.getLogger(__name__)


class FetchRequest(Record):
    """Options of `data fetch`."""

    roots: Roots = Roots()
    """Datasets come below the data root; the work folder is not used."""
    names: tuple[str, ...]
    """Registered names."""
    keep_archive: bool = False
    """Leave the archive beside the dataset's folder."""


class Fetched(NamedTuple):
    """A dataset that is there now."""

    name: str
    path: Path
    num_cases: int
    """Training cases."""
    was_there: bool
    """Whether it had been there before."""


def fetch(request: FetchRequest) -> list[Fetched]:
    """Bring registered datasets below the data root; what is there already is left alone.

    An interrupted fetch goes on where it stopped. A dataset's folder appears whole or not at all.

    Raises:
        InputError: a name is unknown, or its dataset cannot be had without registration; nothing is fetched then.
        TumorsegError: datasets failed; all are listed, and the others are fetched.
    """
    names = list(dict.fromkeys(map(registered_name, request.names)))
    _check_available(names, request.roots.data_root)
    fetched: list[Fetched] = []
    failures: dict[str, TumorsegError] = {}
    for name in names:
        try:
            fetched.append(_fetch(name, request))
        except TumorsegError as error:
            failures[name] = error
    if len(names) == 1 and failures:
        raise failures[names[0]]
    if failures:
        raise TumorsegError(
            f"{len(failures)} of {len(names)} datasets failed, the others are there:",
            lines=[f"  {name}: {error}" for name, error in failures.items()],
        )
    return fetched


def _check_available(names: list[str], data_root: Path) -> None:
    closed = [name for name in names if REGISTERED[name].archive is None and find_registered(name, data_root) is None]
    if closed:
        how = "; ".join(REGISTERED[name].how_to_get for name in closed)
        raise InputError(f"{', '.join(closed)} cannot be fetched without registration; {how}")


def _fetch(name: str, request: FetchRequest) -> Fetched:
    """Return a dataset that is there, or get it; other processes are kept out meanwhile."""
    data_root, known = request.roots.data_root, REGISTERED[name]
    files = FetchFiles(data_root / known.folder)
    # Nothing is written then, so no lock is needed, which a read-only data root could not hold.
    if (there := find_registered(name, data_root)) and not _has_leftovers(files):
        return _opened(name, there, was_there=True)
    with hold_folder(files.target, doing="fetched", error=StorageError):
        # Looked up again, now that no other process can be bringing it.
        there = find_registered(name, data_root)
        if there is None and known.archive is not None:
            _get(known.archive, files, request.keep_archive)
        done = _opened(name, there or files.target, was_there=there is not None)
        remove_unpacking(files)
        forget(files)
        return done


def _has_leftovers(files: FetchFiles) -> bool:
    return any(path.exists() for path in (files.partial, files.version, files.unpacking))


def _opened(name: str, path: Path, *, was_there: bool) -> Fetched:
    """Open a dataset to see that it is one."""
    try:
        dataset = open_dataset(str(path), path.parent)
    except InputError as error:
        raise InputError(
            f"{path} is there, but is no sound dataset; move it away and fetch again, or mend it: {error}"
        ) from None
    files = _files_of(dataset)
    if missing := sorted(file for file in files if not Path(file).is_file()):
        logger.warning("%s: %d of %d files are missing, such as %s", path, len(missing), len(files), missing[0])
    return Fetched(name, path, len(dataset.cases), was_there)


def _files_of(dataset: Dataset) -> set[str]:
    """Return the files of all cases."""
    files: set[str] = set()
    for case in dataset.cases:
        files.update(case_files(case))
    return files


def _get(archive: Archive, files: FetchFiles, keep_archive: bool) -> None:
    """Download, check, unpack and open an archive, and put its folder in place."""
    if files.target.is_symlink() or (files.target.exists() and not files.target.is_dir()):
        raise InputError(
            "found a link or file where the dataset's folder belongs; remove it, or give --data-root where the data shall lie",
            file=files.target,
        )
    found = _archive_of_user(archive, files) or _downloaded(archive, files, keep_archive)
    with (
        progress_of_bytes(f"unpack {files.target.name}") as watch,
        unpacked(found, files, watch=watch) as folder,
    ):
        _check_sound(folder, archive.url)
        # From now on the folder is known to come from elsewhere, so that nothing in it is allowed to lead outside.
        write_text(folder / FETCHED, json_text({"url": archive.url, "md5": archive.md5}))


def _check_sound(folder: Path, url: str) -> None:
    """Check that what an archive held is a dataset, and of its own files only, which a manifest need not keep to."""
    try:
        dataset = open_dataset(str(folder), folder.parent)
    except InputError as error:
        # The hidden folder is gone when the message is read, so it is not named.
        reason = str(error).replace(str(folder), folder.name)
        raise InputError(f"{url}: the archive holds no sound dataset: {reason}; it was not put in place") from None
    inside = folder.resolve()
    files = _files_of(dataset)
    if outside := sorted(file for file in files if not Path(file).resolve().is_relative_to(inside)):
        raise InputError(
            f"{url}: the archive names files outside its folder, such as {outside[0]}; it was not put in place"
        )


def _archive_of_user(archive: Archive, files: FetchFiles) -> Path | None:
    """Return the archive if it lies in its place already and is sound; it is never removed."""
    if not files.archive.is_file():
        return None
    if (found := _md5(files.archive, files)) != archive.md5:
        raise InputError(
            f"its MD5 is {found}, expected {archive.md5}: it is damaged, or another version; "
            "move it away, and the right one is downloaded",
            file=files.archive,
        )
    return files.archive


def _downloaded(archive: Archive, files: FetchFiles, keep_archive: bool) -> Path:
    """Return the downloaded archive, checked; a bad one is removed, because going on from it would never end well."""
    with progress_of_bytes(f"fetch {files.target.name}") as watch:
        download(archive.url, files, watch=watch)
    if (found := _md5(files.partial, files)) != archive.md5:
        forget(files)
        raise StorageError(
            f"{archive.url}: what came has the MD5 {found}, expected {archive.md5}; it was removed, nothing was "
            "unpacked; fetch again, and check whether a proxy answers in the server's place"
        )
    if not keep_archive:
        return files.partial
    try:
        files.partial.rename(files.archive)
    except OSError as error:
        raise storage_error(files.archive, error) from error
    return files.archive


def _md5(path: Path, files: FetchFiles) -> str:
    with progress_of_bytes(f"verify {files.target.name}") as watch:
        return md5_of(path, watch=watch)
