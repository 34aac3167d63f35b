"""Write one case in another layout."""

import os
from pathlib import Path
from typing import NamedTuple

from tumorseg.ops.geometry import AxisOrder
from tumorseg.ops.labels import count_values, to_values
from tumorseg.schema.base import content_hash
from tumorseg.schema.cases import CaseReading
from tumorseg.schema.dataset import Case
from tumorseg.schema.targets import Targets
from tumorseg.sources.conversion import CaseFiles
from tumorseg.stages.opening.reading import CaseImage, read_case_image, read_case_indices
from tumorseg.storage.case_notes import begin_case, finish_case
from tumorseg.storage.hashing import case_files, check_stamps, file_stamp
from tumorseg.storage.images import StoredVolume, read_geometry
from tumorseg.storage.rewriting import rewrite_channel, rewrite_joined, rewrite_label, write_stored
from tumorseg.types import Affine

CONVERSION_VERSION = 2
"""Raised when the same case would be written otherwise."""


class ConvertTask(NamedTuple):
    """Input of a worker that writes one case."""

    case: Case
    read: Targets
    """Label values in the case's file."""
    written: Targets
    """The same classes' values in the file to be written."""
    folder: Path
    files: CaseFiles
    name: str
    """Of the case's note."""
    key: str
    reading: CaseReading
    """What is done where files leave open how they are read."""


def conversion_key(case: Case, files: CaseFiles, *, read: Targets, written: Targets, reading: CaseReading) -> str:
    """Return what decides a case's new files: its old ones by size, times and inode, how they are read, and the label values.

    Raises:
        InputError: a file is missing.
    """
    states = [[os.path.abspath(path), *file_stamp(path)] for path in case_files(case)]  # noqa: PTH100 (links stay)
    images = [[image.index, image.num_volumes] for image in case.images]
    values = [[targets.values_by_name, targets.ignore_value] for targets in (read, written)]
    how = reading.model_dump(mode="json")
    return content_hash([CONVERSION_VERSION, states, images, case.label is None, values, files, how])


def convert_case(task: ConvertTask) -> None:
    """Write one case; called in a worker process.

    Raises:
        InputError: the case cannot be read or is unsound; nothing is written.
        StorageError: a file cannot be written.
    """
    case, label = task.case, task.case.label
    stamps = {path: file_stamp(path) for path in case_files(case)}
    found = read_case_image(case, task.reading, AxisOrder(is_as_stored=True))
    indices = None if label is None else read_case_indices(case, found, task.read, task.reading)
    names = list(task.files.images)
    if label is not None:
        names.append(task.files.label)
    begin_case(task.folder, task.name, names)
    first = _write_images(task, found)
    if label is not None and indices is not None:
        rewrite_label(task.folder / task.files.label, to_values(indices, task.written), source=label, like=first)
    # Only now, since files that can stay as they are were read once more to be copied.
    check_stamps(stamps)
    classes = [] if indices is None else count_values(indices)[0]
    finish_case(task.folder, task.name, task.key, files=names, classes=classes)


def _write_images(task: ConvertTask, found: CaseImage) -> Path:
    """Write the channels, first the one whose grid counts, and return its file."""
    images, paths = task.case.images, [task.folder / name for name in task.files.images]
    affine = _stated_affine(task, found)
    # With fewer files than channels, the layout keeps all of them in one 4D file.
    if len(paths) < len(images):
        read = StoredVolume(found.image, (1.0, 0.0), found.affine)
        rewrite_joined(paths[0], images, read, is_moved=any(found.is_moved), affine=affine)
        return paths[0]
    first = paths[found.grid]
    rewrite_channel(first, images[found.grid], affine=affine)
    for number, (file, path) in enumerate(zip(images, paths, strict=True)):
        if found.is_moved[number]:
            channel = StoredVolume(found.image[number], (1.0, 0.0), found.affine)
            write_stored(path, channel, like=str(first))
        elif number != found.grid:
            rewrite_channel(path, file, like=first)
    return first


def _stated_affine(task: ConvertTask, found: CaseImage) -> Affine | None:
    """Return the affine to write where the user states the orientation of a file that states none; None to keep headers."""
    orientation = task.reading.assumed_orientation
    if orientation is None or read_geometry(task.case.images[found.grid].path, orientation).is_placed:
        return None
    return found.affine
