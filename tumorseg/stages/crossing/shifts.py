"""Measure what differs between datasets, on a sample of their cases, and draw a case of each."""

import logging
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from tumorseg.errors import StorageError
from tumorseg.ops.matching.channels import meaning_of
from tumorseg.ops.shifts import Measure, MeasuredImage, case_figures, spreads
from tumorseg.reports.overlays import OverlayInput, overlay_png
from tumorseg.reports.tables import cases_text
from tumorseg.schema.base import content_hash
from tumorseg.schema.cases import reading_of
from tumorseg.schema.crossing import DatasetShift
from tumorseg.schema.dataset import Case, DatasetDescription
from tumorseg.schema.targets import targets_of
from tumorseg.stages.crossing.hashed_datasets import HashedDataset
from tumorseg.stages.opening.each_case import Steps, each_case
from tumorseg.stages.opening.reading import expected_bytes, read_case_image, read_case_indices
from tumorseg.storage.atomic import write_bytes
from tumorseg.storage.cross_folders import CrossFolder
from tumorseg.storage.json_files import read_record, write_record

logger = logging.getLogger(__name__)

MOST_MEASURED = 40
"""Cases of a dataset; more hardly move a quantile, and reading thousands would take longer than segmenting some."""
VERSION = 1
"""Raised when the same cases would give other figures."""


Structures = Mapping[str, Sequence[int]]
"""Name of a structure to its class indices in the dataset."""


class NamedDataset(NamedTuple):
    """A dataset as the matrix calls it."""

    name: str
    found: HashedDataset


class MeasureTask(NamedTuple):
    """Input of a worker that measures one case."""

    case: Case
    dataset: DatasetDescription
    structures: Structures
    drawn: str | None
    """Channel of which a picture is made as well; None for no picture."""


class MeasuredCase(NamedTuple):
    """What a worker found."""

    figures: dict[Measure, float]
    picture: bytes | None
    """PNG: the slice with the most of the reference."""


def measure_shift(
    named: NamedDataset, output: CrossFolder, *, structures: Structures, drawn: str, jobs: int | None
) -> DatasetShift | None:
    """Return what was measured of a dataset, now or by an earlier run; None where no case could be.

    Args:
        named: the dataset.
        output: where the figures and the picture of a case are kept.
        structures: whose volumes are measured.
        drawn: name of the channel that a picture is made of.
        jobs: processes; as many as the machine holds if None.
    """
    name, found = named
    labelled = [case for case in found.dataset.cases if case.label is not None]
    hashes = [[case.case_id, found.hashes[case.case_id]] for case in labelled]
    description = found.dataset.description().model_dump(mode="json")
    identity = content_hash([VERSION, hashes, description, dict(structures), drawn])
    if (known := _known(output, name, identity)) is not None:
        return known
    sample = _sample(labelled)
    known_to_all = found.dataset.description()
    tasks = [MeasureTask(case, known_to_all, structures, drawn if case is sample[0] else None) for case in sample]
    measured = _measure(name, tasks, jobs)
    if not measured:
        return None
    shift = DatasetShift(
        dataset=name,
        content_hash=identity,
        num_cases=len(labelled),
        num_measured=len(measured),
        spreads=spreads([measured[case_id].figures for case_id in sorted(measured)]),
    )
    pictures = [one.picture for one in measured.values() if one.picture is not None]
    # The figures last, as they are what tells that all is there.
    for picture in pictures:
        write_bytes(output.slice(name), picture)
    write_record(output.shift(name), shift)
    return shift


def _measure(name: str, tasks: Sequence[MeasureTask], jobs: int | None) -> dict[str, MeasuredCase]:
    """Return what was measured of each case; those that cannot be read are told."""
    measured: dict[str, MeasuredCase] = {}
    failures = each_case(
        measure_case,
        [(task.case.case_id, task) for task in tasks],
        measured.__setitem__,
        num_cases=len(tasks),
        expected_bytes=expected_bytes(task.case for task in tasks),
        jobs=jobs,
        steps=Steps(f"measure {name}", len(tasks)),
    )
    if failures:
        logger.warning("%s: cases not measured: %s", name, cases_text([failure.case_id for failure in failures]))
    return measured


def _known(output: CrossFolder, name: str, identity: str) -> DatasetShift | None:
    """Return what an earlier run measured of the same cases."""
    path = output.shift(name)
    if not path.is_file():
        return None
    try:
        found = read_record(DatasetShift, path, error=StorageError)
    # Damaged, or of another version: measured anew.
    except StorageError:
        return None
    return found if found.content_hash == identity else None


def _sample(cases: list[Case]) -> list[Case]:
    """Return cases at even distances; ids are sorted, so that they come from all over the dataset."""
    count = min(len(cases), MOST_MEASURED)
    return [cases[number * len(cases) // count] for number in range(count)]


def measure_case(task: MeasureTask) -> MeasuredCase:
    """Measure one case; called in a worker process.

    Raises:
        InputError: a file cannot be read, or holds something else than the dataset says.
    """
    targets, reading = targets_of(task.dataset), reading_of(task.dataset)
    found = read_case_image(task.case, reading)
    indices = read_case_indices(task.case, found, targets, reading)
    names = [channel.name for channel in task.dataset.channels]
    figures = case_figures(MeasuredImage(found.image, found.spacing_mm, indices), _meanings(names), task.structures)
    if task.drawn is None:
        return MeasuredCase(figures, None)
    image, title = found.image[names.index(task.drawn)], f"{task.case.case_id}, {task.drawn}"
    shown = OverlayInput(title, image, found.spacing_mm, indices, class_names=targets.label_names)
    return MeasuredCase(figures, overlay_png(shown))


def _meanings(names: Sequence[str]) -> list[str]:
    """Return what channels show, so that those of different datasets stand together; their names where that says less."""
    meanings = [meaning_of(name) or name for name in names]
    return [name if meanings.count(meaning) > 1 else meaning for name, meaning in zip(names, meanings, strict=True)]
