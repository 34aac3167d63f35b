"""Converted networks on disk: each in a folder of its own, whole or not there."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from tumorseg.errors import InputError, StorageError
from tumorseg.schema.base import Record
from tumorseg.storage.atomic import storage_error
from tumorseg.storage.hashing import hash_files
from tumorseg.storage.json_files import read_record, write_record
from tumorseg.storage.locks import hold_folder

FILES = ("graph.xml", "graph.bin")
"""Operations, and the weights that they use."""
PATIENCE_S = 600.0
"""How long to wait for another process that converts the same network, which takes seconds."""


class WholeGraph(Record):
    """The note that a graph is written, which is written last."""

    files: dict[str, str]
    """Hash of each file."""


def find_graph(folder: Path) -> Path | None:
    """Return the file of the graph in a folder; None if there is no folder.

    Raises:
        StorageError: what is there is damaged.
    """
    if not folder.exists():
        return None
    try:
        whole = read_record(WholeGraph, _note(folder), error=StorageError)
        states = hash_files(str(folder / name) for name in FILES)
    except (StorageError, InputError) as error:
        raise StorageError(f"is damaged ({error.reason})", file=folder) from error
    found = {Path(path).name: state.digest for path, state in states.items()}
    if found != whole.files:
        raise StorageError("is damaged (its files are not as they were written)", file=folder)
    return folder / FILES[0]


def keep_graph(folder: Path, write: Callable[[Path], None]) -> Path:
    """Return the file of the graph in a folder, written first unless another process was quicker.

    Args:
        folder: its parent holds nothing but such folders; what is damaged is replaced.
        write: writes the file that it is given, and the weights beside it.

    Raises:
        StorageError: it cannot be written; nothing is left behind.
    """
    with hold_folder(folder, doing="written", error=StorageError, patience_s=PATIENCE_S):
        try:
            if (found := find_graph(folder)) is not None:
                return found
        except StorageError:
            shutil.rmtree(folder, ignore_errors=True)
        # Alone under the lock: what lies there was left by a process that was killed.
        unfinished = folder.with_name(f".{folder.name}.unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        try:
            _write(unfinished, write)
            unfinished.rename(folder)
        except OSError as error:
            raise storage_error(folder, error) from error
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
    return folder / FILES[0]


def _write(folder: Path, write: Callable[[Path], None]) -> None:
    folder.mkdir(parents=True)
    write(folder / FILES[0])
    for name in FILES:
        with (folder / name).open("rb") as file:
            os.fsync(file.fileno())
    states = hash_files(str(folder / name) for name in FILES)
    write_record(_note(folder), WholeGraph(files={Path(path).name: state.digest for path, state in states.items()}))


def _note(folder: Path) -> Path:
    return folder / "whole.json"
