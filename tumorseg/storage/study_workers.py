"""Workers of a study: their names, and counters that show that they live."""

import os
import platform
import re
import secrets

from tumorseg.storage.atomic import remove_file, remove_leftovers, write_text
from tumorseg.storage.study_folder import StudyFolder, names_in, text_of

_NAME = re.compile(r"[a-z0-9-]+")
_LONGEST_HOST = 40
"""Characters of a machine's name: a file's name may have 255 bytes in all."""


def worker_prefix(process_id: int, machine: str = "") -> str:
    """Return what the name of a worker begins with.

    Args:
        process_id: of its process.
        machine: name of its machine; of this one if empty.
    """
    host = re.sub(r"[^a-z0-9]+", "-", (machine or platform.node()).lower()).strip("-")
    return f"{host[:_LONGEST_HOST] or 'machine'}-{process_id}-"


def new_worker() -> str:
    """Return a name for this process as a worker, which no other one has or will have."""
    # Numbers of processes come again, and machines that were cloned may share their name.
    return f"{worker_prefix(os.getpid())}{secrets.token_hex(4)}"


def write_beat(folder: StudyFolder, worker: str, count: int) -> None:
    """Show that a worker lives.

    Raises:
        StorageError: the folder cannot be written.
    """
    write_text(folder.beat(worker), f"{count}\n")


def read_beats(folder: StudyFolder) -> dict[str, str]:
    """Return the counter of each worker by its name.

    Raises:
        StorageError: the folder cannot be read.
    """
    names = [name for name in names_in(folder.workers) if _NAME.fullmatch(name)]
    beats = {name: text_of(folder.beat(name)) for name in names}
    return {name: beat for name, beat in beats.items() if beat is not None}


def remove_beat(folder: StudyFolder, worker: str) -> None:
    """Forget a worker that is gone.

    Raises:
        StorageError: the folder cannot be written.
    """
    remove_file(folder.beat(worker))
    remove_leftovers(folder.workers, {worker})
