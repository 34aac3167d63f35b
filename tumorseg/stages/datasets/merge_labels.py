"""Label files of a pool: those of datasets whose values mean something else there are written anew."""

import os
from pathlib import Path
from typing import NamedTuple

from tumorseg.errors import InputError
from tumorseg.ops.geometry import AxisOrder
from tumorseg.ops.labels import to_values
from tumorseg.planning.evidence.images import with_named_kinds
from tumorseg.schema.base import content_hash
from tumorseg.schema.cases import CaseReading, reading_of
from tumorseg.schema.dataset import Case
from tumorseg.schema.targets import Targets, targets_of
from tumorseg.sources.pooling import Member, Pool
from tumorseg.stages.opening.case_grids import common_grid
from tumorseg.stages.opening.each_case import Steps, each_case
from tumorseg.stages.opening.reading import expected_bytes, largest_first, read_case_image, read_case_indices
from tumorseg.storage.case_notes import (
    Owner,
    begin_case,
    claim_folder,
    discard_case,
    finish_case,
    is_finished,
    read_notes,
    remove_all_leftovers,
)
from tumorseg.storage.hashing import case_files, check_stamps, file_stamp
from tumorseg.storage.image_writing import write_segmentation
from tumorseg.storage.images import knows_names_only
from tumorseg.workers.outcomes import Failure

LABELS_VERSION = 1
"""Raised when the same label would be written otherwise."""


class LabelTask(NamedTuple):
    """Input of a worker that writes one label file."""

    case: Case
    """With the one image on whose grid the label lies."""
    read: Targets
    """Label values in the case's file."""
    written: Targets
    """The same classes' values in the pool."""
    reading: CaseReading
    """What is done where files leave open how they are read."""
    folder: Path
    key: str

    @property
    def file(self) -> str:
        """Return the name of the file to be written."""
        return f"{self.case.case_id}.nii.gz"


def labels_folder(output: Path) -> Path:
    """Return where the label files of a manifest go."""
    return output.with_name(f"{output.stem}_labels")


def _must_rewrite(member: Member) -> bool:
    """Return whether a dataset's label files cannot stand in a pool as they are."""
    labels = [case for case in member.dataset.cases if case.label is not None]
    # Structures with names have to be painted, in this dataset's own order.
    has_names = any(case.more_labels or knows_names_only(str(case.label)) for case in labels)
    return bool(labels) and (has_names or not member.keeps_labels)


def rewrite_labels(pool: Pool, output: Path, *, jobs: int | None) -> tuple[tuple[str, ...], list[Failure]]:
    """Write the label files that have to be; those that were written before and have not changed are left alone.

    Returns:
        Ids of the cases that have a label file of their own in the pool, and the cases that failed.

    Raises:
        InputError: the folder holds something else.
        StorageError: it cannot be written.
    """
    folder = labels_folder(output)
    tasks, failures = _tasks(pool, folder)
    if not tasks and not folder.exists():
        return (), failures
    claim_folder(folder, Owner(layout="labels", dataset=pool.description.name, source=output.name))
    remove_all_leftovers(folder)
    notes = read_notes(folder)
    done = {task.case.case_id for task in tasks if is_finished(folder, notes.get(task.case.case_id), task.key)}
    by_id = {task.case.case_id: task for task in tasks if task.case.case_id not in done}
    stale = {name: note for name, note in notes.items() if name not in done}
    # An earlier manifest would give new files the labels of old ones, if this run were killed.
    if by_id or stale:
        output.unlink(missing_ok=True)
    for name, note in stale.items():
        discard_case(folder, name, note)
    pending = largest_first(task.case for task in by_id.values())
    failures += each_case(
        write_label,
        [(case.case_id, by_id[case.case_id]) for case in pending],
        num_cases=len(pending),
        expected_bytes=expected_bytes(pending),
        jobs=jobs,
        steps=Steps("labels", len(tasks), len(done)),
    )
    return tuple(task.case.case_id for task in tasks), failures


def _tasks(pool: Pool, folder: Path) -> tuple[list[LabelTask], list[Failure]]:
    """Return a task for each label file that has to be written, and the cases of which a file is missing."""
    tasks: list[LabelTask] = []
    failures: list[Failure] = []
    for member in filter(_must_rewrite, pool.members):
        read = targets_of(member.dataset)
        written = _written(read, member.values)
        described = reading_of(with_named_kinds(member.dataset.description()))
        reading = common_grid(member.dataset, described)
        for case in member.dataset.cases:
            if case.label is None:
                continue
            # The label lies on the grid of one image, and no other has to be read.
            alone = case.changed(images=(case.images[reading.grid or 0],))
            one = reading.changed(grid=None, outside_values=())
            try:
                key = _key(alone, one, read=read, written=written)
            except InputError as error:
                failures.append(Failure(case.case_id, error.text(case_id=case.case_id)))
            else:
                tasks.append(LabelTask(alone, read, written, one, folder, key))
    return tasks, failures


def _written(read: Targets, values: dict[int, int]) -> Targets:
    """Return a dataset's classes with the values that the pool gives them."""
    ignore = None if read.ignore_value is None else values[read.ignore_value]
    return read.changed(label_values=tuple(values[value] for value in read.label_values), ignore_value=ignore)


def _key(case: Case, reading: CaseReading, *, read: Targets, written: Targets) -> str:
    """Return what decides a label file: those that it is made of, by size, times and inode, and the values."""
    states = [[os.path.abspath(path), *file_stamp(path)] for path in case_files(case)]  # noqa: PTH100 (links stay)
    values = [[targets.values_by_name, targets.label_values, targets.ignore_value] for targets in (read, written)]
    return content_hash([LABELS_VERSION, states, values, reading.model_dump(mode="json")])


def write_label(task: LabelTask) -> None:
    """Write one label file; called in a worker process.

    Raises:
        InputError: the case cannot be read or is unsound; nothing is written.
        StorageError: the file cannot be written.
    """
    case = task.case
    stamps = {path: file_stamp(path) for path in case_files(case)}
    found = read_case_image(case, task.reading, AxisOrder(is_as_stored=True))
    indices = read_case_indices(case, found, task.read, task.reading)
    check_stamps(stamps)
    begin_case(task.folder, case.case_id, [task.file])
    write_segmentation(
        task.folder / task.file, to_values(indices, task.written), like=case.images[0], affine=found.affine
    )
    finish_case(task.folder, case.case_id, task.key, files=[task.file])
