"""Measure one case."""

import zlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tumorseg.ops.cropping import box_shape, box_slices, nonzero_box
from tumorseg.ops.labels import count_values
from tumorseg.ops.places import label_places
from tumorseg.ops.statistics import sample_foreground
from tumorseg.ops.thickness import count_runs, mean_lengths
from tumorseg.ops.units import ct_doubt
from tumorseg.schema.base import content_hash
from tumorseg.schema.cases import CaseReading, reading_of
from tumorseg.schema.dataset import Case, DatasetDescription
from tumorseg.schema.fingerprint import CaseMeasurement, ImageDoubt
from tumorseg.schema.targets import IGNORE, Targets, targets_of
from tumorseg.stages.opening.reading import CaseImage, read_case_image, read_case_indices, warn_of_forms
from tumorseg.storage.hashing import FileState, case_files, check_unchanged, combine_hashes, hash_files
from tumorseg.storage.images import has_grid, read_geometry
from tumorseg.storage.measurements import Measured, read_measured, write_measured
from tumorseg.types import FloatArray, Segmentation, Spacing

MEASUREMENT_VERSION = 4
"""Raised when the same files would be measured otherwise."""
SEED = 1234


class MeasureTask(NamedTuple):
    """Input of a worker that measures one case."""

    case: Case
    description: DatasetDescription
    num_samples: int
    folder: Path


class MeasureResult(NamedTuple):
    """Result of a worker that measured one case."""

    measured: Measured
    states: dict[str, FileState]
    """Its files as they were hashed."""


def measurement_key(task: MeasureTask, case_hash: str) -> str:
    """Return the address of a measurement: of the files, how they are read, and what is measured of them."""
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
    hashes = {path: state.digest for path, state in states.items()}
    case_hash = combine_hashes(case, hashes)
    key = measurement_key(task, case_hash)
    if (known := read_measured(task.folder, key)) is not None:  # by a run that was killed
        return MeasureResult(known, states)
    reading = reading_of(task.description)
    image = read_case_image(case, reading)
    warn_of_forms(case)
    targets = targets_of(task.description)
    indices = read_case_indices(case, image, targets, reading)
    # Drawn by the case alone, whichever worker takes it when; hash() of a text differs from process to process.
    rng = np.random.default_rng([SEED, zlib.crc32(case.case_id.encode())])
    # nnU-Net's ignore label has the highest value, so that its statistics count it as foreground.
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
    voxels = {name: counts.get(index, 0) for index, name in names.items()}
    cropped = {names[index]: count for index, count in lost.items() if count}
    return {
        "shape_after_crop": box_shape(box),
        "label_voxels": voxels,
        "label_voxels_cropped": cropped,
        "label_places": {names[index]: place for index, place in places.items()},
        "run_lengths_mm": _run_lengths(indices, counts, targets, image.spacing_mm),
    }


def _measure_channels(image: CaseImage, description: DatasetDescription) -> dict[str, Any]:
    """Return what a case's measurement says of its channels."""
    covered = image.covered or (None,) * len(description.channels)
    minima: dict[str, float] = {}
    outside: dict[str, int] = {}
    doubts: list[ImageDoubt] = []
    for channel, array, inside in zip(description.channels, image.image, covered, strict=True):
        # What a channel does not cover was filled, and is no measurement.
        voxels = array if inside is None else array[inside]
        if inside is not None:
            outside[channel.name] = int(inside.size - inside.sum())
        if voxels.size:
            minima[channel.name] = float(voxels.min())
        if (doubt := _doubt(channel.name, channel.kind, voxels)) is not None:
            doubts.append(doubt)
    return {
        "channel_minima": minima,
        "uncovered_voxels": outside or None,
        "grid_channel": None if image.is_shared else description.channels[image.grid].name,
        "image_doubts": tuple(doubts),
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
    voxels = []
    for classes in targets.scored_classes:
        voxels.append(sum(counts.get(index, 0) for index in classes))
    found = zip(targets.scored_names, voxels, runs.tolist(), strict=True)
    return {name: mean_lengths(size, numbers, spacing_mm) for name, size, numbers in found if size}
