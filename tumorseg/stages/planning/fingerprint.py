"""Measure a dataset: one pass over its files, several cases at once."""

import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np

from tumorseg.ops.cropping import box_shape, box_slices, nonzero_box
from tumorseg.ops.labels import count_values
from tumorseg.ops.places import label_places
from tumorseg.ops.statistics import intensity_statistics, sample_foreground, samples_per_case
from tumorseg.ops.thickness import count_runs, mean_lengths
from tumorseg.ops.units import ct_doubt
from tumorseg.planning.evidence.images import with_named_kinds
from tumorseg.planning.folds.split_lists import SplitLists
from tumorseg.schema.base import Record, content_hash
from tumorseg.schema.cases import CaseReading, reading_of
from tumorseg.schema.dataset import Case, Dataset, DatasetDescription
from tumorseg.schema.fingerprint import CaseMeasurement, Fingerprint, ImageDoubt
from tumorseg.schema.targets import IGNORE, Targets, targets_of
from tumorseg.sources.discovery import require_certain_labels
from tumorseg.sources.regions import choose_regions, select_channels
from tumorseg.stages.opening.case_grids import check_one_grid
from tumorseg.stages.opening.exclusion import excluded_ids, offering, open_selected
from tumorseg.stages.opening.loaded import SAVE_EVERY_S, Roots, check_apart, failed_cases, note_source
from tumorseg.stages.opening.reading import (
    CaseImage,
    expected_bytes,
    largest_first,
    read_case_image,
    read_case_indices,
    warn_of_forms,
)
from tumorseg.stages.opening.stated import Stated
from tumorseg.storage.hashing import (
    FileState,
    HashCache,
    case_files,
    check_unchanged,
    combine_hashes,
    dataset_hash,
    hash_files,
)
from tumorseg.storage.images import has_grid, read_geometry
from tumorseg.storage.json_files import write_record
from tumorseg.storage.layout import work_folder
from tumorseg.storage.measurements import Measured, read_measured, write_measured
from tumorseg.tracking.progress import progress
from tumorseg.types import FloatArray, Segmentation, Spacing
from tumorseg.workers.machine import num_cores
from tumorseg.workers.outcomes import Failure
from tumorseg.workers.pool import run_cases

MEASUREMENT_VERSION = 4
"""Raised when the same files would be measured otherwise."""
SEED = 1234


class FingerprintRequest(Record):
    """What `fingerprint` is asked for."""

    roots: Roots = Roots()
    """Data and work folder."""
    dataset: str
    """Name, folder or manifest."""
    channels: tuple[str, ...] = ()
    """Channels to use, in this order; all if empty."""
    regions: str | None = None
    """`brats`, `none`, or a JSON file; the dataset's own if None."""
    stated: Stated = Stated()
    """What is stated of the dataset."""
    exclude: tuple[str, ...] = ()
    """Cases to leave out: ids, or files of them."""
    jobs: int | None = None
    """Processes; as many as the machine holds if None."""


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


class Fingerprinted(NamedTuple):
    """What was measured, and what was left out."""

    fingerprint: Fingerprint
    kept_back: tuple[str, ...]
    """Cases of the dataset in no list of the split file."""


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
    if require_labels:
        require_certain_labels(dataset, "plan", is_confirmed=stated.confirm_labels)
    found = fingerprint(dataset, roots, jobs=request.jobs)
    work = work_folder(roots.work, dataset.name)
    note_source(work, request.dataset, roots.data_root, allow_outside=stated.allow_outside)
    return Fingerprinted(found.model_copy(update={"excluded": excluded_ids(request.exclude)}), kept_back)


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
        error = failed_cases(failures, len(dataset.cases), f"fingerprint of {dataset.name}")
        raise offering(error, {failure.case_id for failure in failures})
    found = _assemble(dataset, [results[case.case_id] for case in dataset.cases])
    write_record(work.fingerprint, found)
    return found


def _measure(
    dataset: Dataset, cache: HashCache, num_samples: int, folder: Path, jobs: int | None
) -> tuple[dict[str, Measured], list[Failure]]:
    results: dict[str, Measured] = {}
    failures: list[Failure] = []
    description = with_named_kinds(dataset.description())
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
    reading = reading_of(found).model_dump(mode="json")
    channels = [[channel.name, channel.kind] for channel in found.channels]
    return content_hash(
        [MEASUREMENT_VERSION, case_hash, targets, reading, channels, task.num_samples, task.case.case_id]
    )


def measure_case(task: MeasureTask) -> MeasureResult:
    """Measure one case and keep the result; called in a worker process.

    Raises:
        InputError: the case cannot be read or is unsound.
    """
    case = task.case
    states = hash_files(case_files(case))
    case_hash = combine_hashes(case, {path: state.digest for path, state in states.items()})
    key = _key(task, case_hash)
    if (known := read_measured(task.folder, key)) is not None:  # by a run that was killed
        return MeasureResult(known, states)
    reading = reading_of(task.description)
    image = read_case_image(case, reading)
    warn_of_forms(case)
    targets = targets_of(task.description)
    indices = read_case_indices(case, image, targets, reading)
    rng = np.random.default_rng([SEED, zlib.crc32(case.case_id.encode())])
    foreground = (indices > 0) | (indices == IGNORE)
    samples = sample_foreground(image.image, foreground, task.num_samples, rng=rng, covered=image.covered)
    labels = _measure_labels(indices, image, targets)
    measurement = CaseMeasurement(
        case_id=case.case_id,
        spacing_mm=image.spacing_mm,
        shape=image.image.shape[1:],
        content_hash=case_hash,
        unplaced=_unplaced(case, image, reading),
        **labels,
        **_measure_channels(image, task.description),
    )
    measured = Measured(measurement, samples)
    check_unchanged(states)
    write_measured(task.folder, key, measured)
    return MeasureResult(measured, states)


def _unplaced(case: Case, image: CaseImage, reading: CaseReading) -> tuple[str, ...]:
    """Return the names of a case's files that state no orientation."""
    paths = [case.images[number].path for number in image.unplaced]
    if case.label is not None and has_grid(case.label):
        is_placed = read_geometry(case.label, reading.assumed_orientation).is_placed
        paths += [] if is_placed else [case.label]
    return tuple(dict.fromkeys(Path(path).name for path in paths))


def _measure_labels(indices: Segmentation, image: CaseImage, targets: Targets) -> dict[str, Any]:
    """Return what a case's measurement says of its labels, and of the box that cropping leaves."""
    box = nonzero_box(image.image, image.covered)
    counts = dict(zip(*count_values(indices), strict=True))
    kept = dict(zip(*count_values(indices[box_slices(box)]), strict=True))
    names = dict(enumerate(targets.label_names))
    del names[0]
    places = label_places(indices, targets.num_classes, image.spacing_mm)
    lost = {index: counts.get(index, 0) - kept.get(index, 0) for index in names}
    return {
        "shape_after_crop": box_shape(box),
        "label_voxels": {name: counts.get(index, 0) for index, name in names.items()},
        "label_voxels_cropped": {names[index]: count for index, count in lost.items() if count},
        "label_places": {names[index]: place for index, place in places.items()},
        "run_lengths_mm": _run_lengths(indices, counts, targets, image.spacing_mm),
    }


def _measure_channels(image: CaseImage, description: DatasetDescription) -> dict[str, Any]:
    """Return what a case's measurement says of its channels."""
    covered = image.covered or (None,) * len(description.channels)
    voxels = [
        channel if inside is None else channel[inside] for channel, inside in zip(image.image, covered, strict=True)
    ]
    names = [channel.name for channel in description.channels]
    outside = {
        name: int(inside.size - inside.sum()) for name, inside in zip(names, covered, strict=True) if inside is not None
    }
    doubts = [
        _doubt(channel.name, channel.kind, found) for channel, found in zip(description.channels, voxels, strict=True)
    ]
    return {
        "channel_minima": {name: float(found.min()) for name, found in zip(names, voxels, strict=True) if found.size},
        "uncovered_voxels": outside or None,
        "grid_channel": None if image.is_shared else names[image.grid],
        "image_doubts": tuple(doubt for doubt in doubts if doubt is not None),
    }


def _doubt(name: str, kind: str | None, image: FloatArray) -> ImageDoubt | None:
    """Return what speaks against the intensities of a channel, of the voxels that it covers."""
    least = float(image.min(initial=np.inf))
    if least >= float(image.max(initial=-np.inf)):
        return ImageDoubt(channel=name, kind="constant", message=f"every voxel is {least:g}")
    found = ct_doubt(image) if kind == "ct" else None
    if found is None or not found.is_impossible:
        return None
    return ImageDoubt(channel=name, kind="not_hounsfield", message=found.message)


def _run_lengths(
    indices: Segmentation, counts: dict[int, int], targets: Targets, spacing_mm: Spacing
) -> dict[str, tuple[float, float, float]]:
    """Return how long the runs of each label or region are in the mean, in mm along each axis."""
    runs = count_runs(indices, targets.scored_classes, targets.num_classes)
    voxels = [sum(counts.get(index, 0) for index in classes) for classes in targets.scored_classes]
    found = zip(targets.scored_names, voxels, runs.tolist(), strict=True)
    return {name: mean_lengths(size, numbers, spacing_mm) for name, size, numbers in found if size}


def _assemble(dataset: Dataset, measured: list[Measured]) -> Fingerprint:
    measurements = [
        one.measurement.model_copy(update={"group": case.group, "site": case.site})  # not part of the measured files
        for case, one in zip(dataset.cases, measured, strict=True)
    ]
    relative = [np.prod(one.shape_after_crop) / np.prod(one.shape) for one in measurements]
    with_foreground = [one.samples for one in measured if one.samples.shape[1]]
    return Fingerprint(
        schema_version=1,
        dataset=_with_grid(dataset.description(), measurements),
        doubts=dataset.doubts,
        content_hash=dataset_hash({one.case_id: one.content_hash or "" for one in measurements}),
        cases=tuple(measurements),
        intensities={
            channel.name: intensity_statistics([samples[number] for samples in with_foreground])
            for number, channel in enumerate(dataset.channels)
        },
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
    reading = description.reading.model_copy(update={"grid_channel": next(iter(found))})
    return description.model_copy(update={"reading": reading})
