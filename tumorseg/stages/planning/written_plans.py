"""Write plans, and never over one that is not known as this dataset's own and unedited."""

import hashlib
import os
from pathlib import Path
from typing import NamedTuple

from pydantic import Field

from tumorseg.errors import PlanError, StorageError
from tumorseg.schema.base import Record, to_json
from tumorseg.schema.plan import Plan
from tumorseg.storage.atomic import require_replaceable, write_bytes
from tumorseg.storage.json_files import read_record, write_record
from tumorseg.storage.layout import WorkFolder


class Written(Record):
    """A plan that was written."""

    source: str
    """Absolute path of what it was planned from: datasets of one name share a work folder."""
    hashes: tuple[str, ...]
    """Of the file as it was written, and as it was written before."""


class WrittenPlans(Record):
    """The plans that were written for datasets of one name."""

    plans: dict[str, Written] = Field(default_factory=dict)
    """By absolute path."""


class Place(NamedTuple):
    """Destination of a plan."""

    output: Path
    """The file."""
    work: WorkFolder
    """Of the plan's dataset."""
    source: Path
    """What it was planned from."""


def write_plan(plan: Plan, place: Place, *, force: bool = False) -> None:
    """Write a plan, and note it in the dataset's work folder.

    A file that is there is replaced if it is as it was last written from the same source; one of the same bytes is left alone.

    Args:
        plan: what to write.
        place: where.
        force: whether any file may be replaced.

    Raises:
        PlanError: the file was edited, or belongs to another dataset.
        StorageError: it cannot be written.
    """
    content, output = to_json(plan).encode(), place.output
    path, source = _absolute(output), _absolute(place.source)
    there = _content(output)
    if there != content and not force:
        check_replaceable(place)
    # Both hashes are noted before the file is written, so that a kill in between leaves one of them right.
    hashes = [_digest(content)]
    if there is not None:
        hashes.append(_digest(there))
    notes = _read_notes(place.work).plans | {path: Written(source=source, hashes=tuple(hashes))}
    write_record(place.work.plans, WrittenPlans(plans=notes))
    if there != content:
        write_bytes(output, content)


def check_replaceable(place: Place) -> None:
    """Refuse to replace a file that is not as it was last written from the same source.

    Raises:
        PlanError: the file was edited, belongs to another dataset, or cannot be a plan's.
    """
    there, source = _content(place.output), _absolute(place.source)
    known = _read_notes(place.work).plans.get(_absolute(place.output))
    is_ours = there is not None and known is not None and known.source == source and _digest(there) in known.hashes
    if there is not None and not is_ours:
        raise PlanError(
            f"{place.output}: is there already, and was edited or was not planned from {source} here; give another -o, or --force to replace it"
        )


def check_writable(output: Path) -> None:
    """Refuse before the work what cannot be a plan's file.

    Raises:
        PlanError: it cannot be read.
        StorageError: it is a folder, a pipe or the like.
    """
    require_replaceable(output)
    _content(output)


def _content(output: Path) -> bytes | None:
    try:
        return output.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise PlanError(f"{output}: cannot be replaced by a plan ({error.strerror}); give another -o") from None


def _absolute(path: Path) -> str:
    return os.path.abspath(path)  # noqa: PTH100 (links stay)


def _read_notes(work: WorkFolder) -> WrittenPlans:
    """Return what was noted; notes that are damaged are as good as none, and every file counts as the user's."""
    try:
        return read_record(WrittenPlans, work.plans, error=StorageError) if work.plans.is_file() else WrittenPlans()
    except StorageError:
        return WrittenPlans()


def _digest(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=16).hexdigest()
