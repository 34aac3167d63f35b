"""What must be so before files are written into a folder of predictions."""

import os
from collections.abc import Collection, Iterable
from pathlib import Path

from tumorseg.errors import InputError, StorageError
from tumorseg.stages.inference.journal import Header, read_notes
from tumorseg.stages.inference.predictions import mask_hash
from tumorseg.storage.layout import LABEL_MAP_ENDINGS, PREDICTIONS


def present_files(root: Path, folders: Iterable[Path]) -> set[str]:
    """Return the files of some folders below the root, relative to that: by one look at each rather than at every file."""
    found: set[str] = set()
    for folder in folders:
        if (root / folder).is_dir():
            found.update((folder / name).as_posix() for name in os.listdir(root / folder))  # noqa: PTH208 (names alone)
    return found


def check_ours(root: Path, unknown: Iterable[str]) -> None:
    """Refuse to write over files, named relative to the root, that did not come from here.

    Raises:
        InputError: there is one.
    """
    for name in sorted(unknown):
        raise InputError(
            f"{root / name} is there already and no result of predict ({PREDICTIONS} does not name it); give another -o"
        )


def check_place(root: Path, case_id: str, names: Collection[str], present: Collection[str]) -> None:
    """Refuse to write a mask beside one in another format: whoever reads the folder would find two of one case.

    Args:
        root: the folder.
        case_id: of the case.
        names: files that are to be written of it.
        present: files that are there.

    Raises:
        InputError: a mask in another format is there.
    """
    ending = next((one for one in LABEL_MAP_ENDINGS if f"{case_id}{one}" in names), None)
    if ending is None:
        return
    for other in LABEL_MAP_ENDINGS:
        if other != ending and f"{case_id}{other}" in present:
            raise InputError(
                f"{root / case_id}{other} is there already, and would be a second mask of {case_id} beside {case_id}{ending}; "
                f"give another -o, or --format {other[1:]}"
            )


def is_as_written(path: Path, expected: str | None, case_id: str) -> bool:
    """Return whether a file is there; one that was changed is refused.

    Args:
        path: the file.
        expected: its hash; None where writing was cut short, so that whatever is there may be replaced.
        case_id: of its case.

    Raises:
        InputError: it is not as it was written.
    """
    if not os.path.lexists(path):
        return False
    if expected is not None and mask_hash(path) != expected:
        raise InputError(
            f"{path} was changed since predict wrote it, so it is no result and is left alone; move it elsewhere, "
            "or delete it, and give the command again",
            case_id=case_id,
        )
    return True


def check_agreement(root: Path, ours: Header, journals: Iterable[Path]) -> None:
    """Refuse to fill a folder beside shards that make something else.

    Args:
        root: the folder.
        ours: what is to be made.
        journals: of the shards that run now; one that has just begun or ended may have none.

    Raises:
        StorageError: one of them makes something else.
    """
    for path in journals:
        notes = read_notes(path, StorageError)
        theirs = ours if notes is None else notes.header
        if (theirs.made_by.method_hash, theirs.outputs) != (ours.made_by.method_hash, ours.outputs):
            raise StorageError(
                f"{root} is being filled by a shard of another model or other options ({theirs.made_by.plan}); give "
                "every shard the same, or another -o"
            )
