"""Folders made of other folders' files, without copying them where the file system can."""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from tumorseg.storage.atomic import storage_error, write_bytes
from tumorseg.storage.cases import make_partial, remove_stale


def link_folder(target: Path, files: Mapping[str, Path], written: Mapping[str, bytes] = MappingProxyType({})) -> None:
    """Make a folder of hard links, or of copies on another file system; it appears whole or not at all.

    One that is there already stays as it is.

    Args:
        target: the folder.
        files: by their path inside it; none of them may be written to afterwards, only replaced.
        written: what further files hold, likewise.

    Raises:
        StorageError: the disk is full, or the folder cannot be written; nothing is left behind.
    """
    if target.is_dir():
        return
    remove_stale(target.parent)
    partial = make_partial(target.parent, target.name)
    try:
        for name, source in files.items():
            (partial / name).parent.mkdir(parents=True, exist_ok=True)
            # The file itself: what links to it may be moved or pointed elsewhere.
            link_or_copy(source.resolve(), partial / name)
        for name, data in written.items():
            write_bytes(partial / name, data)
        partial.rename(target)
    except OSError as error:
        if not target.is_dir():  # another process was first, and its folder is as good
            raise storage_error(target, error) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def link_or_copy(source: Path, target: Path) -> None:
    """Link a file, or copy it where it cannot be linked."""
    try:
        target.hardlink_to(source)
    except OSError:  # another file system, or one without links
        shutil.copyfile(source, target)
        # The folder is renamed into place next, and must not hold empty files after a power cut.
        with target.open("rb") as file:
            os.fsync(file.fileno())
