"""Write a dataset in another layout, voxels and world as they are."""

import logging
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from tumorseg.errors import InputError, StorageError, TumorsegError, with_advice
from tumorseg.planning.evidence.certainty import absent_labels
from tumorseg.planning.evidence.images import with_named_kinds
from tumorseg.planning.evidence.kinds import kind_from_name
from tumorseg.schema.base import Record
from tumorseg.schema.cases import reading_of
from tumorseg.schema.dataset import Case, Dataset, DatasetDescription, Reading
from tumorseg.schema.targets import targets_of
from tumorseg.sources.conversion import Conversion, Writer
from tumorseg.sources.discovery import require_certain_labels
from tumorseg.sources.kept import read_kept
from tumorseg.sources.layouts import find_layout
from tumorseg.sources.registry import locate_dataset
from tumorseg.sources.writers import WRITERS
from tumorseg.stages.datasets.convert_case import ConvertTask, conversion_key, convert_case
from tumorseg.stages.opening.case_grids import common_grid
from tumorseg.stages.opening.each_case import Steps, each_case
from tumorseg.stages.opening.loaded import Roots, failed_cases
from tumorseg.stages.opening.reading import case_bytes, expected_bytes
from tumorseg.stages.opening.stated import Stated, open_stated
from tumorseg.storage.atomic import write_text
from tumorseg.storage.case_notes import (
    Owner,
    claim_folder,
    discard_case,
    is_finished,
    read_notes,
    remove_all_leftovers,
)
from tumorseg.storage.hashing import case_files
from tumorseg.storage.locks import hold_folder
from tumorseg.workers.outcomes import Failure

logger = logging.getLogger(__name__)

NNUNET_NAME = re.compile(r"Dataset\d{3}_.+")
"""What a folder must be called for nnU-Net's commands to find it."""


class ConvertRequest(Record):
    """Options of `data import`."""

    roots: Roots = Roots()
    """Where the dataset is looked for."""
    dataset: str
    """What `-d` says."""
    output: Path
    """The new dataset's folder: new, empty, or begun by an earlier run."""
    to: Literal["nnunet", "msd", "manifest"] = "nnunet"
    """The layout."""
    jobs: int | None = None
    """Processes at most; one per core if None, and never more than memory holds."""
    stated: Stated = Stated()
    """What is stated of the dataset."""


class Converted(NamedTuple):
    """Result of a conversion."""

    name: str
    """Of the dataset."""
    folder: Path
    num_training: int
    num_tests: int
    new_values: dict[str, tuple[int, int]]
    """Name of each label that has another value in the files than in the source's: the two."""


class _Source(NamedTuple):
    """A dataset and what lies beside it."""

    path: Path
    dataset: Dataset
    original: DatasetDescription
    """With the label values that it had before it was first converted."""
    training: tuple[Case, ...]
    tests: tuple[Case, ...]

    @property
    def num_cases(self) -> int:
        """Return how many cases there are to write."""
        return len(self.training) + len(self.tests)


def convert(request: ConvertRequest) -> Converted:
    """Write every case of a dataset, and last of all the file that makes the folder a dataset.

    Cases that were written before and have not changed are left alone.

    Raises:
        InputError: the dataset is not there or malformed, or the folder holds something else.
        TumorsegError: cases failed; all are listed. The folder is a dataset of the others.
        StorageError: the folder cannot be written, or another process writes to it.
    """
    source = _open_source(request)
    writer = WRITERS[request.to]
    _check_apart(request.output, source)
    _warn(request, source)
    with hold_folder(request.output, doing="written", error=StorageError):
        place = os.path.abspath(source.path)  # noqa: PTH100 (links stay)
        claim_folder(request.output, Owner(layout=request.to, dataset=source.dataset.name, source=place))
        remove_all_leftovers(request.output)
        failures = _write_cases(request, source, writer)
        failed = {failure.case_id for failure in failures}
        training = [case for case in source.training if case.case_id not in failed]
        tests = [case for case in source.tests if case.case_id not in failed]
        # A case that failed may be the one that holds the label.
        if training and not failures and not request.stated.confirm_labels:
            _check_present(request.output, source, writer)
        if training or tests:
            _write_documents(request.output, writer, Conversion(source.original, tuple(training), tuple(tests)))
    if failures:
        raise _failed(failures, source, request.output)
    values, written = source.dataset.labels, writer.describe(source.original).labels
    new_values = {name: (value, written[name]) for name, value in values.items() if written[name] != value}
    return Converted(source.dataset.name, request.output, len(training), len(tests), new_values)


def _open_source(request: ConvertRequest) -> _Source:
    """Read the dataset; cases without a label are there to be predicted on."""
    dataset = open_stated(request.dataset, request.roots, request.stated)
    require_certain_labels(dataset, "data import", is_confirmed=request.stated.confirm_labels)
    path = locate_dataset(request.dataset, request.roots.data_root) or Path(request.dataset)
    kept = read_kept(path) if path.is_dir() else None
    original = dataset.description() if kept is None else kept.description()
    training = tuple(case for case in dataset.cases if case.label is not None)
    # the written files leave nothing open: all lie on one grid, structures are painted, stated orientations in headers
    written = original.changed(reading=Reading())
    return _Source(path, dataset, written, training, _tests(path, dataset, training, request.stated))


def _check_present(folder: Path, source: _Source, writer: Writer) -> None:
    """Refuse to make a dataset of cases of which none holds some label.

    Raises:
        InputError: a label has no voxel in any case.
    """
    found: set[int] = set()
    for note in read_notes(folder).values():
        found.update(note.classes)
    held = [name for index, name in enumerate(targets_of(source.dataset).label_names) if index in found]
    absent = absent_labels(source.dataset, [held])
    if absent:
        for document in writer.documents:
            (folder / document).unlink(missing_ok=True)
        raise InputError(
            f"{source.dataset.name}: no case has a voxel of {', '.join(absent)}; expected each label in some case; correct the labels, "
            "or give --confirm-labels; the cases are written, the folder is no dataset yet"
        )


def _tests(path: Path, dataset: Dataset, training: Sequence[Case], stated: Stated) -> tuple[Case, ...]:
    """Return the cases that a layout lists beside those with a label."""
    layout = find_layout(path)
    if layout is None:
        return ()
    try:
        listed = layout.list_cases(path, allow_outside=stated.allow_outside)
    except InputError as error:
        logger.warning("cases without a label are left out: %s", error)
        return ()
    known = {case.images for case in training}
    tests = tuple(case for case in listed.cases if case.images not in known)
    if others := [case.case_id for case in tests if len(case.images) != len(listed.channels)]:
        logger.warning("cases of another number of channels are left out: %s", ", ".join(others[:5]))
        tests = tuple(case for case in tests if case.case_id not in others)
    if tests and listed.channels != tuple(channel.name for channel in dataset.channels):
        logger.warning(
            "%d test cases have other channels (%s) and are left out", len(tests), ", ".join(listed.channels)
        )
        return ()
    return tests


def _check_apart(output: Path, source: _Source) -> None:
    """Refuse to write into the dataset, or where its files lie: what is stale there is removed."""
    inside = output.resolve()
    if source.path.is_dir() and inside.is_relative_to(source.path.resolve()):
        raise InputError(f"lies in the dataset {source.path} itself; give a folder beside it", file=output)
    for case in (*source.training, *source.tests):
        for path in map(Path, case_files(case)):
            if path.resolve().is_relative_to(inside):
                raise InputError(f"holds {path}, a file of the dataset that is read; give another folder", file=output)


def _warn(request: ConvertRequest, source: _Source) -> None:
    """Say what may surprise."""
    if unlabelled := [case.case_id for case in source.dataset.cases if case.label is None]:
        logger.warning(
            "%d of %d cases have no label and become test cases: %s%s",
            len(unlabelled),
            len(source.dataset.cases),
            ", ".join(unlabelled[:5]),
            ", …" if len(unlabelled) > 5 else "",
        )
    if request.to != "nnunet":
        return
    name = request.output.resolve().name
    if not NNUNET_NAME.fullmatch(name):
        logger.warning(
            "nnU-Net's commands find a folder only by a name such as Dataset501_%s; this one is called %s",
            source.original.name,
            name,
        )
    for channel in source.original.channels:
        if channel.kind is None and kind_from_name(channel.name) is None:
            logger.warning(
                "neither kind nor name says what made channel %s, so nnU-Net will take z-scores; if it is CT, say so in a "
                "manifest (--to manifest writes one)",
                channel.name,
            )


def _write_cases(request: ConvertRequest, source: _Source, writer: Writer) -> list[Failure]:
    """Write what is left to be written, after what is stale has been removed; return the cases that failed."""
    tasks, unread = _tasks(request.output, source, writer)
    if unread and not tasks:  # the disk that it lies on may be away: nothing is removed for it
        raise failed_cases(unread, len(unread), f"import of {source.dataset.name}")
    notes = read_notes(request.output)
    done = {task.name for task in tasks if is_finished(request.output, notes.get(task.name), task.key)}
    pending = [task for task in tasks if task.name not in done]
    stale = {name: note for name, note in notes.items() if name not in done}
    # Without its documents the folder is no dataset, until all that they will name is written.
    if pending or stale:
        for document in writer.documents:
            (request.output / document).unlink(missing_ok=True)
    if gone := sorted(set(stale) - {task.name for task in pending}):
        # Notes are called `Tr <case_id>` and `Ts <case_id>`.
        listed = ", ".join(name.split(" ", 1)[-1] for name in gone[:5])
        logger.warning(
            "%d cases that were written before are removed, for they are no longer there: %s", len(gone), listed
        )
    for name, note in stale.items():
        discard_case(request.output, name, note)
    expected = expected_bytes(task.case for task in pending)
    pending.sort(key=lambda task: case_bytes(task.case), reverse=True)
    failures = each_case(
        convert_case,
        [(task.case.case_id, task) for task in pending],
        num_cases=len(pending),
        expected_bytes=expected,
        jobs=request.jobs,
        steps=Steps("import", source.num_cases, len(done) + len(unread), are_named=True),
    )
    for name, note in read_notes(request.output).items():
        if not note.key:  # failed half-way
            discard_case(request.output, name, note)
    return [*unread, *failures]


def _tasks(folder: Path, source: _Source, writer: Writer) -> tuple[list[ConvertTask], list[Failure]]:
    """Return a task per case, and the cases of which a file is missing."""
    read, written = targets_of(source.dataset), targets_of(writer.describe(source.original))
    described = reading_of(with_named_kinds(source.dataset.description()))
    reading = common_grid(source.dataset, described)
    tasks, failures = [], []
    for is_test, cases in ((False, source.training), (True, source.tests)):
        for case in cases:
            files = writer.name_files(case.case_id, len(case.images), is_test=is_test)
            name = f"{'Ts' if is_test else 'Tr'} {case.case_id}"
            try:
                key = conversion_key(case, files, read=read, written=written, reading=reading)
            except InputError as error:
                failures.append(Failure(case.case_id, error.text(case_id=case.case_id)))
            else:
                tasks.append(ConvertTask(case, read, written, folder, files, name, key, reading))
    return tasks, failures


def _write_documents(folder: Path, writer: Writer, conversion: Conversion) -> None:
    """Write what makes the folder a dataset, unless it is there."""
    texts = writer.make_documents(conversion)
    for name in writer.documents:
        if name not in texts:
            (folder / name).unlink(missing_ok=True)
    for name, text in texts.items():
        path = folder / name
        if not path.is_file() or path.read_text("utf-8") != text:
            write_text(path, text)


def _failed(failures: Sequence[Failure], source: _Source, folder: Path) -> TumorsegError:
    error = failed_cases(list(failures), source.num_cases, f"import of {source.dataset.name} to {folder}")
    return with_advice(
        error, "mend them and give the same command again; until then the folder is a dataset of the others"
    )
