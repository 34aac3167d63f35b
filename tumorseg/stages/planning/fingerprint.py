"""Measure a dataset: one pass over its files, several cases at once."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import NamedTuple

import numpy as np

from tumorseg.ops.statistics import intensity_statistics, samples_per_case
from tumorseg.planning.common_ground import CommonGround
from tumorseg.planning.evidence.images import with_named_kinds
from tumorseg.planning.folds.split_lists import SplitLists
from tumorseg.schema.base import Record
from tumorseg.schema.dataset import Dataset, DatasetDescription
from tumorseg.schema.fingerprint import CaseMeasurement, Fingerprint
from tumorseg.sources.discovery import require_certain_labels
from tumorseg.sources.regions import choose_regions, select_channels
from tumorseg.stages.opening.case_grids import check_one_grid
from tumorseg.stages.opening.each_case import Steps, each_case
from tumorseg.stages.opening.exclusion import excluded_ids, offering, open_selected
from tumorseg.stages.opening.loaded import SAVE_EVERY_S, Roots, check_apart, failed_cases, note_source
from tumorseg.stages.opening.reading import (
    expected_bytes,
    largest_first,
)
from tumorseg.stages.opening.stated import Stated
from tumorseg.stages.planning.common_ground import limit_to_common
from tumorseg.stages.planning.measure_case import MeasureResult, MeasureTask, measure_case, measurement_key
from tumorseg.storage.hashing import (
    HashCache,
    case_files,
    dataset_hash,
)
from tumorseg.storage.json_files import write_record
from tumorseg.storage.layout import work_folder
from tumorseg.storage.measurements import Measured, read_measured
from tumorseg.workers.outcomes import Failure


class FingerprintRequest(Record):
    """Options of `fingerprint`."""

    roots: Roots = Roots()
    """Data and work folder."""
    dataset: str
    """Name, folder or manifest."""
    channels: tuple[str, ...] = ()
    """Channels to use, in this order; all if empty."""
    regions: str | None = None
    """`brats`, `none`, or a JSON file; the dataset's own if None."""
    common_with: tuple[str, ...] = ()
    """Datasets whose channels and regions count: what all have is used."""
    stated: Stated = Stated()
    """What is stated of the dataset."""
    exclude: tuple[str, ...] = ()
    """Cases to leave out: ids, or files of them."""
    jobs: int | None = None
    """Processes; as many as the machine holds if None."""


class Fingerprinted(NamedTuple):
    """Fingerprint, and the cases that were left out."""

    fingerprint: Fingerprint
    kept_back: tuple[str, ...]
    """Cases of the dataset in no list of the split file."""
    common: CommonGround | None = None
    """What it has in common with other datasets, where only that is measured."""


def measure(
    request: FingerprintRequest, *, require_labels: bool = False, splits: SplitLists | None = None
) -> Fingerprinted:
    """Fingerprint the dataset that is asked for, and note where it was read for the verbs that come later.

    Args:
        request: which dataset, and how it is read.
        require_labels: whether doubtful labels are refused, before any file is measured.
        splits: what a split file says of the cases that are not excluded; None for no such file.

    Raises:
        InputError: the dataset is not there, lacks something that is asked for, or is unsound.
        PlanError: the split file names cases that the dataset does not have.
    """
    stated, roots = request.stated, request.roots
    dataset, kept_back = open_selected(request.dataset, roots, stated, exclude=request.exclude, splits=splits)
    check_apart(dataset, roots)
    if request.channels:
        dataset = select_channels(dataset, request.channels)
    if request.regions:
        dataset = choose_regions(dataset, request.regions)
    common = None
    if request.common_with:
        dataset, common = limit_to_common(dataset, request.common_with, roots, stated)
    if require_labels:
        require_certain_labels(dataset, "plan", is_confirmed=stated.confirm_labels)
    found = fingerprint(dataset, roots, jobs=request.jobs)
    work = work_folder(roots.work, dataset.name)
    note_source(work, request.dataset, roots.data_root, allow_outside=stated.allow_outside)
    return Fingerprinted(found.changed(excluded=excluded_ids(request.exclude)), kept_back, common)


def fingerprint(dataset: Dataset, roots: Roots, *, jobs: int | None = None) -> Fingerprint:
    """Measure every case of a dataset, keep the result below the work folder, and return it.

    Cases that were measured before and have not changed are not read again.

    Args:
        dataset: as a source read it, with the channels and regions that are to be planned for.
        roots: data and work folder.
        jobs: processes; None for as many as the machine holds.

    Raises:
        TumorsegError: a case cannot be read or is unsound; all are listed, and the others are kept.
    """
    work = work_folder(roots.work, dataset.name)
    cache = HashCache(work.hashes)
    num_samples = samples_per_case(len(dataset.cases), len(dataset.channels))
    # Hashes are kept even where measuring breaks off: the bytes were read, which is what takes long.
    try:
        results, failures = _measure(dataset, cache, num_samples, work.measurements, jobs)
    finally:
        cache.save()
    if failures:
        error = failed_cases(failures, len(dataset.cases), f"fingerprint of {dataset.name}")
        raise offering(error, {failure.case_id for failure in failures})
    found = _assemble(dataset, [results[case.case_id] for case in dataset.cases])
    write_record(work.fingerprint, found)
    return found


def _measure(
    dataset: Dataset, cache: HashCache, num_samples: int, folder: Path, jobs: int | None
) -> tuple[dict[str, Measured], list[Failure]]:
    """Return the measurement of every case, and the cases that failed."""
    results: dict[str, Measured] = {}
    description = with_named_kinds(dataset.description())
    ordered = largest_first(dataset.cases)
    tasks = ((case.case_id, MeasureTask(case, description, num_samples, folder)) for case in ordered)

    def take(case_id: str, result: MeasureResult) -> None:
        results[case_id] = result.measured
        cache.remember(result.states)
        cache.save_now_and_then(SAVE_EVERY_S)

    failures = each_case(
        measure_case,
        tasks,
        take,
        num_cases=len(dataset.cases),
        expected_bytes=expected_bytes(dataset.cases),
        jobs=jobs,
        steps=Steps("fingerprint", len(dataset.cases)),
        known=partial(_known, cache),
    )
    return results, failures


def _known(cache: HashCache, task: MeasureTask) -> MeasureResult | None:
    """Return what an earlier run measured of a case, if its files are there and have not changed."""
    # Left to the worker, which says what is missing, while the other cases go on.
    if not all(Path(file).is_file() for file in case_files(task.case)):
        return None
    case_hash = cache.case_hash(task.case)
    measured = read_measured(task.folder, measurement_key(task, case_hash)) if case_hash else None
    return None if measured is None else MeasureResult(measured, {})


def _assemble(dataset: Dataset, measured: list[Measured]) -> Fingerprint:
    measurements = []
    for case, one in zip(dataset.cases, measured, strict=True):
        # Not part of the measured files, so that what an earlier run kept may say otherwise.
        measurements.append(one.measurement.changed(group=case.group, site=case.site))
    relative = [np.prod(one.shape_after_crop) / np.prod(one.shape) for one in measurements]
    with_foreground = [one.samples for one in measured if one.samples.shape[1]]
    intensities = {}
    for number, channel in enumerate(dataset.channels):
        intensities[channel.name] = intensity_statistics([samples[number] for samples in with_foreground])
    return Fingerprint(
        schema_version=1,
        dataset=_with_grid(dataset.description(), measurements),
        doubts=dataset.doubts,
        content_hash=dataset_hash({one.case_id: one.content_hash or "" for one in measurements}),
        cases=tuple(measurements),
        intensities=intensities,
        median_relative_size_after_cropping=float(median(relative)),
    )


def _with_grid(description: DatasetDescription, cases: Sequence[CaseMeasurement]) -> DatasetDescription:
    """Return a dataset that says on which channel's grid its labels lie, where channels lie on grids of their own.

    Raises:
        InputError: labels lie on different channels.
    """
    found: dict[str, list[str]] = {}
    for case in cases:
        if case.grid_channel is not None:
            found.setdefault(case.grid_channel, []).append(case.case_id)
    check_one_grid(description.name, found)
    if not found:
        return description
    reading = description.reading.changed(grid_channel=next(iter(found)))
    return description.changed(reading=reading)
