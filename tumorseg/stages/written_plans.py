"""Write plans, and never over one that is not known as this dataset's own and unedited."""

import hashlib
import os
from pathlib import Path

from pydantic import Field

from tumorseg.errors import PlanError, StorageError
from tumorseg.schema.base import Record, to_json
from tumorseg.schema.plan import Plan
from tumorseg.storage.atomic import write_text
from tumorseg.storage.json_files import read_record, write_record
from tumorseg.storage.layout import WorkFolder


class WrittenPlans(Record):
    """The plans that were written for a dataset."""

    hashes: dict[str, str] = Field(default_factory=dict)
    """Hash of the file as it was written, by absolute path."""


def write_plan(plan: Plan, output: Path, work: WorkFolder, *, force: bool = False) -> None:
    """Write a plan, and note it in the dataset's work folder.

    A file that is there is replaced if it is as it was last written for this dataset; one of the same bytes is left alone.

    Args:
        plan: what to write.
        output: where.
        work: of the plan's dataset.
        force: whether any file may be replaced.

    Raises:
        PlanError: the file was edited, or belongs to another dataset.
        StorageError: it cannot be written.
    """
    text, place = to_json(plan), os.path.abspath(output)  # noqa: PTH100 (links stay)
    noted = _read_notes(work)
    is_same = output.is_file() and output.read_bytes() == text.encode()
    if not is_same:
        if output.exists() and not force and _digest(output.read_bytes()) != noted.hashes.get(place):
            raise PlanError(
                f"{output}: is there already, and was edited or is not a plan that was written for {plan.dataset.name} here; give another "
                "-o, or --force to replace it"
            )
        write_text(output, text)
    write_record(work.plans, WrittenPlans(hashes=noted.hashes | {place: _digest(text.encode())}))


def _read_notes(work: WorkFolder) -> WrittenPlans:
    """Return what was noted; notes that are damaged are as good as none, and every file counts as the user's."""
    try:
        return read_record(WrittenPlans, work.plans, error=StorageError) if work.plans.is_file() else WrittenPlans()
    except StorageError:
        return WrittenPlans()


def _digest(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=16).hexdigest()
