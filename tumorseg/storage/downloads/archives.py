"""Unpacking archives that came from elsewhere: nothing outside the one expected folder, and that whole or not at all.

Only plain tar is read, as the Decathlon's archives are: what is not compressed cannot grow when it is unpacked.
"""

import os
import shutil
import tarfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from tumorseg.errors import InputError
from tumorseg.storage.atomic import storage_error
from tumorseg.storage.damage import TAR
from tumorseg.storage.disk import WatchBytes, require_room
from tumorseg.storage.layout import FetchFiles

BLOCK_BYTES = 1 << 20


class Entry(NamedTuple):
    """A member that was found harmless."""

    path: PurePosixPath
    """Relative, without `.` and `..`."""
    member: tarfile.TarInfo


@contextmanager
def unpacked(archive: Path, files: FetchFiles, *, watch: WatchBytes) -> Iterator[Path]:
    """Unpack an archive of one folder, look at it in a `with` block, and move it into place when the block has ended well.

    What a killed run left is removed; files get the user's own rights and the time of now, whatever the archive says.

    Args:
        archive: a plain tar that holds nothing but a folder of the target's name; hidden files of macOS are passed over.
        files: `target` must be missing or an empty folder; other processes must be kept out.
        watch: called for every block.

    Yields:
        The folder, complete, at another place.

    Raises:
        InputError: the archive is damaged or holds anything else; nothing is left behind.
        StorageError: the disk is full, or the folder cannot be written; nothing is left behind.
    """
    remove_unpacking(files)
    try:
        _unpack(archive, files, watch)
        yield files.unpacking / files.target.name
        _move_into_place(files)
    finally:
        shutil.rmtree(files.unpacking, ignore_errors=True)


def remove_unpacking(files: FetchFiles) -> None:
    """Remove what a killed run had unpacked.

    Raises:
        StorageError: it cannot be removed.
    """
    try:
        shutil.rmtree(files.unpacking)
    except FileNotFoundError:
        return
    except OSError as error:
        raise storage_error(files.unpacking, error) from error


def safe_entries(tar: tarfile.TarFile, folder: str, *, source: str) -> list[Entry]:
    """Return the files and folders of an archive, if there is nothing but such below one folder.

    Args:
        tar: an open archive; only its headers are read.
        folder: the name of the folder.
        source: for messages.

    Raises:
        InputError: a member is a link, a device or sparse, lies elsewhere, or stands twice; or there is none.
    """
    entries = [Entry(_safe_path(member, folder, source), member) for member in tar if not _is_hidden(member.name)]
    files = [entry.path for entry in entries if entry.member.isreg()]
    # On macOS and Windows two names that differ in case alone are one.
    taken = {os.fspath(path).casefold() for path in files}
    folders = {os.fspath(entry.path).casefold() for entry in entries if entry.member.isdir()}
    for entry in entries:
        folders.update(os.fspath(parent).casefold() for parent in entry.path.parents)
    if len(taken) < len(files) or taken & folders:
        raise InputError(
            f"{source}: names a file twice, or a file and a folder alike; get it anew; nothing was unpacked"
        )
    if not files:
        raise InputError(f"{source}: holds no file, expected the folder {folder}; get it anew; nothing was unpacked")
    return entries


def _is_hidden(name: str) -> bool:
    """Tell whether a member is what macOS leaves beside files."""
    return PurePosixPath(name).name.startswith("._") or PurePosixPath(name).name == ".DS_Store"


def _safe_path(member: tarfile.TarInfo, folder: str, source: str) -> PurePosixPath:
    """Return where a member belongs."""
    path = PurePosixPath(member.name)
    if member.name.startswith("/") or ".." in path.parts:
        problem = "leads out of the folder it is unpacked in"
    elif "\\" in member.name or not all(sign.isprintable() for sign in member.name):
        problem = "has a name that is no plain path"
    elif not (member.isreg() or member.isdir()) or member.issparse():
        problem = "is neither a plain file nor a folder (links, devices and sparse files are not unpacked)"
    # tar lists `./` first, which names no folder of its own.
    elif path.parts[:1] != (folder,) and not (member.isdir() and not path.parts):
        problem = f"lies outside {folder}"
    elif path.parts == (folder,) and not member.isdir():
        problem = "is a file, expected a folder"
    else:
        return path
    raise InputError(f"{source}: {member.name!r} {problem}; nothing was unpacked; get the archive from its publisher")


def _unpack(archive: Path, files: FetchFiles, watch: WatchBytes) -> None:
    try:
        # `r:` is tar alone; plain `r` would unpack whatever compression it finds.
        with tarfile.open(archive, "r:") as tar:
            entries = safe_entries(tar, files.target.name, source=str(archive))
            total = sum(entry.member.size for entry in entries)
            require_room(files.target.parent, total, what=f"unpacking {archive.name}")
            _write_entries(tar, entries, files.unpacking, watch)
    # An InputError is a ValueError, and would be taken for damage below.
    except InputError:
        raise
    except TAR as error:
        raise InputError(f"{archive}: is no sound tar archive ({error}); get it anew; nothing was unpacked") from None


def _write_entries(tar: tarfile.TarFile, entries: Sequence[Entry], folder: Path, watch: WatchBytes) -> None:
    done, total = 0, sum(entry.member.size for entry in entries)
    try:
        for entry in entries:
            path = folder / entry.path
            if entry.member.isdir():
                path.mkdir(parents=True, exist_ok=True)
                continue
            # An archive need not list the folders of its files.
            path.parent.mkdir(parents=True, exist_ok=True)
            for num_bytes in _write_file(tar, entry.member, path):
                done += num_bytes
                watch(done, total, "")
    except OSError as error:
        raise storage_error(folder, error) from error


def _write_file(tar: tarfile.TarFile, member: tarfile.TarInfo, path: Path) -> Iterator[int]:
    """Write one file block by block, and yield how many bytes each had."""
    content = tar.extractfile(member)
    if content is None:
        raise tarfile.ReadError(f"{member.name} has no content")
    with content, path.open("xb") as file:
        while block := content.read(BLOCK_BYTES):
            file.write(block)
            yield len(block)
        file.flush()
        os.fsync(file.fileno())


def _move_into_place(files: FetchFiles) -> None:
    try:
        (files.unpacking / files.target.name).rename(files.target)
    except OSError as error:
        raise storage_error(files.target, error) from error
