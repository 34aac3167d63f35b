"""Measure a dataset: one pass over its files, several cases at once."""

import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import NamedTuple

import numpy as np

from tumorseg.ops.cropping import box_shape, nonzero_box
from tumorseg.ops.labels import count_values
from tumorseg.ops.runs import count_runs
from tumorseg.ops.statistics import intensity_statistics, sample_foreground, samples_per_case
from tumorseg.schema.base import content_hash
from tumorseg.schema.dataset import Case, Dataset, DatasetDescription
from tumorseg.schema.fingerprint import CaseMeasurement, Fingerprint
from tumorseg.schema.targets import IGNORE, Targets, targets_of
from tumorseg.stages.planned import SAVE_EVERY_S, Roots, failed_cases
from tumorseg.stages.reading import expected_bytes, largest_first, read_case_image, read_case_indices, warn_of_forms
from tumorseg.storage.hashing import FileState, HashCache, case_files, combine_hashes, dataset_hash, hash_files
from tumorseg.storage.json_files import write_record
from tumorseg.storage.layout import work_folder
from tumorseg.storage.measurements import Measured, read_measured, write_measured
from tumorseg.tracking.progress import progress
from tumorseg.types import Segmentation, Spacing
from tumorseg.workers.machine import num_cores
from tumorseg.workers.outcomes import Failure
from tumorseg.workers.pool import run_cases

MEASUREMENT_VERSION = 2
"""Raised when the same files would be measured otherwise."""
SEED = 1234


class MeasureTask(NamedTuple):
    """What a worker needs to measure one case."""

    case: Case
    description: DatasetDescription
    num_samples: int
    folder: Path


class MeasureResult(NamedTuple):
    """What a worker found."""

    measured: Measured
    states: dict[str, FileState]


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
    try:
        results, failures = _measure(dataset, cache, num_samples, work.measurements, jobs)
    finally:
        cache.save()
    if failures:
        raise failed_cases(failures, len(dataset.cases), f"fingerprint of {dataset.name}")
    found = _assemble(dataset, [results[case.case_id] for case in dataset.cases])
    write_record(work.fingerprint, found)
    return found


def _measure(
    dataset: Dataset, cache: HashCache, num_samples: int, folder: Path, jobs: int | None
) -> tuple[dict[str, Measured], list[Failure]]:
    results: dict[str, Measured] = {}
    failures: list[Failure] = []
    description = dataset.description()
    with progress("fingerprint", len(dataset.cases)) as advance:

        def unmeasured() -> Iterator[tuple[str, MeasureTask]]:
            for case in largest_first(dataset.cases):
                task = MeasureTask(case, description, num_samples, folder)
                known = _known(task, cache)
                if known is None:
                    yield case.case_id, task
                else:
                    results[case.case_id] = known
                    advance()

        num_workers = min(jobs or num_cores(), len(dataset.cases))
        expected = expected_bytes(dataset.cases) if num_workers > 1 else 0
        for outcome in run_cases(measure_case, unmeasured(), num_workers=num_workers, expected_bytes=expected):
            if isinstance(outcome, Failure):
                failures.append(outcome)
            else:
                results[outcome.case_id] = outcome.value.measured
                cache.remember(outcome.value.states)
                cache.save_now_and_then(SAVE_EVERY_S)
            advance()
    return results, failures


def _known(task: MeasureTask, cache: HashCache) -> Measured | None:
    if not all(Path(file).is_file() for file in case_files(task.case)):
        return None
    found = cache.case_hash(task.case)
    return read_measured(task.folder, _key(task, found)) if found else None


def _key(task: MeasureTask, case_hash: str) -> str:
    found = task.description
    targets = [found.labels, found.ignore_label, [[region.name, region.labels] for region in found.regions]]
    return content_hash([MEASUREMENT_VERSION, case_hash, targets, task.num_samples, task.case.case_id])


def measure_case(task: MeasureTask) -> MeasureResult:
    """Measure one case and keep the result; called in a worker process.

    Raises:
        InputError: the case cannot be read or is unsound.
    """
    case = task.case
    states = hash_files(case_files(case))
    case_hash = combine_hashes(case, {path: state[2] for path, state in states.items()})
    key = _key(task, case_hash)
    if (known := read_measured(task.folder, key)) is not None:  # by a run that was killed
        return MeasureResult(known, states)
    image = read_case_image(case)
    warn_of_forms(case)
    targets = targets_of(task.description)
    indices = read_case_indices(case, image, targets)
    rng = np.random.default_rng([SEED, zlib.crc32(case.case_id.encode())])
    foreground = (indices > 0) | (indices == IGNORE)
    samples = sample_foreground(image.image, foreground, task.num_samples, rng)
    shape = image.image.shape[1:]
    cropped = box_shape(nonzero_box(image.image))
    counts = dict(zip(*count_values(indices), strict=True))
    measurement = CaseMeasurement(
        case_id=case.case_id,
        spacing_mm=image.spacing_mm,
        shape=(shape[0], shape[1], shape[2]),
        shape_after_crop=(cropped[0], cropped[1], cropped[2]),
        label_voxels={name: counts.get(index, 0) for index, name in enumerate(targets.label_names) if index > 0},
        run_lengths_mm=_run_lengths(indices, counts, targets, image.spacing_mm),
        content_hash=case_hash,
    )
    measured = Measured(measurement, samples)
    write_measured(task.folder, key, measured)
    return MeasureResult(measured, states)


def _run_lengths(
    indices: Segmentation, counts: dict[int, int], targets: Targets, spacing_mm: Spacing
) -> dict[str, tuple[float, float, float]]:
    """Return how long the runs of each label or region are in the mean, in mm along each axis."""
    runs = count_runs(indices, targets.scored_classes, targets.num_classes)
    voxels = [sum(counts.get(index, 0) for index in classes) for classes in targets.scored_classes]
    found = zip(targets.scored_names, voxels, runs.tolist(), strict=True)
    return {name: _lengths(size, numbers, spacing_mm) for name, size, numbers in found if size}


def _lengths(size: int, runs: Sequence[int], spacing_mm: Spacing) -> tuple[float, float, float]:
    z, y, x = (size / number * edge for number, edge in zip(runs, spacing_mm, strict=True))
    return (z, y, x)


def _assemble(dataset: Dataset, measured: list[Measured]) -> Fingerprint:
    measurements = [
        one.measurement.model_copy(update={"group": case.group, "site": case.site})  # not part of the measured files
        for case, one in zip(dataset.cases, measured, strict=True)
    ]
    relative = [np.prod(one.shape_after_crop) / np.prod(one.shape) for one in measurements]
    with_foreground = [one.samples for one in measured if one.samples.shape[1]]
    return Fingerprint(
        schema_version=1,
        dataset=dataset.description(),
        content_hash=dataset_hash({one.case_id: one.content_hash or "" for one in measurements}),
        cases=tuple(measurements),
        intensities={
            channel.name: intensity_statistics([samples[number] for samples in with_foreground])
            for number, channel in enumerate(dataset.channels)
        },
        median_relative_size_after_cropping=float(median(relative)),
    )
