"""Score predictions against references, case by case and label by label."""

import logging
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from tumorseg.errors import InputError
from tumorseg.ops.geometry import orient, orientation_of, spacing_of
from tumorseg.ops.labels import to_indices
from tumorseg.ops.metrics import case_metrics, score_segmentation
from tumorseg.ops.summaries import metrics_report
from tumorseg.reports.tables import metrics_csv
from tumorseg.schema.base import Record
from tumorseg.schema.cases import CaseReading, reading_of
from tumorseg.schema.dataset import DatasetDescription
from tumorseg.schema.metrics import CaseMetrics, MetricsReport
from tumorseg.schema.targets import Targets, targets_of
from tumorseg.sources.inputs import open_labels
from tumorseg.sources.regions import choose_regions
from tumorseg.stages.grids import lay_label
from tumorseg.stages.planned import Roots, failed_cases
from tumorseg.stages.stated import Stated, open_stated
from tumorseg.storage.atomic import write_text
from tumorseg.storage.images import Volume, has_grid, knows_names_only, read_geometry, read_label_values, read_reference
from tumorseg.storage.json_files import write_record
from tumorseg.tracking.progress import progress
from tumorseg.workers.machine import num_cores
from tumorseg.workers.outcomes import Failure
from tumorseg.workers.pool import run_cases

logger = logging.getLogger(__name__)

EXPECTED_BYTES = 2**30
"""What a worker may need, until a case has been measured."""
SERIAL_CASES = 4
"""So few cases are scored here rather than in processes that have to start."""


class EvaluateRequest(Record):
    """What `evaluate` is asked for."""

    roots: Roots = Roots()
    """Data and work folder."""
    predictions: tuple[Path, ...]
    """Files, folders of `<case_id>.nii.gz`, or any layout."""
    references: tuple[Path, ...]
    """Likewise."""
    dataset: str | None = None
    """Where labels and regions are defined; every value found is a label if None."""
    regions: str | None = None
    """`brats`, `none`, or a JSON file; the dataset's own if None."""
    tolerance_mm: float = 1.0
    """Distance at which a border still counts as right for NSD."""
    output: Path
    """Folder for metrics.json and metrics.csv."""
    jobs: int | None = None
    """Processes; as many as the machine holds if None."""
    stated: Stated = Stated()
    """What is stated of files that leave it open."""


Pair = tuple[tuple[str, ...], tuple[str, ...]]
"""Files of a prediction and of its reference; more than one only where it is DICOM."""


class ScoreTask(NamedTuple):
    """What a worker needs to score one case."""

    case_id: str
    prediction: tuple[str, ...]
    reference: tuple[str, ...]
    targets: Targets
    tolerance_mm: float
    reading: CaseReading


class Scoring(NamedTuple):
    """How pairs are read and scored."""

    targets: Targets
    tolerance_mm: float = 1.0
    """Distance at which a border still counts as right for NSD."""
    reading: CaseReading = CaseReading()
    """What is done where files leave open how they are read."""


def evaluate(request: EvaluateRequest) -> MetricsReport:
    """Score every reference that has a prediction, and write metrics.json and metrics.csv.

    Raises:
        InputError: nothing to compare, or a reference without a prediction.
        TumorsegError: cases could not be scored; all are listed.
    """
    allowed = request.stated.allow_outside
    predictions, references = (
        open_labels(paths, allow_outside=allowed) for paths in (request.predictions, request.references)
    )
    pairs = _pair(predictions, references)
    targets, reading = _targets(request, pairs)
    scoring = Scoring(targets, request.tolerance_mm, reading)
    return score_pairs(pairs, scoring, request.output, jobs=request.jobs)


def score_pairs(pairs: Mapping[str, Pair], scoring: Scoring, output: Path, *, jobs: int | None = None) -> MetricsReport:
    """Score pairs of prediction and reference by case_id, and write the result into a folder.

    Raises:
        TumorsegError: cases could not be scored; all are listed, and the scores of the others are written.
    """
    scored: dict[str, tuple[CaseMetrics, ...]] = {}
    failures: list[Failure] = []
    num_workers = jobs or (1 if len(pairs) <= SERIAL_CASES else num_cores())

    def tasks() -> Iterator[tuple[str, ScoreTask]]:
        for case_id, (prediction, reference) in sorted(pairs.items()):
            yield case_id, ScoreTask(case_id, prediction, reference, *scoring)

    with progress("evaluate", len(pairs)) as advance:
        for outcome in run_cases(score_case, tasks(), num_workers=num_workers, expected_bytes=EXPECTED_BYTES):
            if isinstance(outcome, Failure):
                failures.append(outcome)
            else:
                scored[outcome.case_id] = outcome.value
            advance()
    report = metrics_report(
        [metrics for case_id in sorted(scored) for metrics in scored[case_id]], tolerance_mm=scoring.tolerance_mm
    )
    report = report.model_copy(update={"failed": tuple(sorted(failure.case_id for failure in failures))})
    write_record(output / "metrics.json", report)
    write_text(output / "metrics.csv", metrics_csv(report))
    if failures:
        raise failed_cases(failures, len(pairs), "evaluation")
    return report


def score_case(task: ScoreTask) -> tuple[CaseMetrics, ...]:
    """Score one case; called in a worker process. A prediction whose axes are stored otherwise is reoriented, without loss.

    Raises:
        InputError: a file cannot be read, or the two do not lie on one grid.
    """
    prediction, reference = _read_pair(task)
    path, other = task.prediction[0], task.reference[0]
    predicted = lay_label(task.case_id, path, prediction, reference, other=other, reading=task.reading)
    orientation = orientation_of(reference.affine)
    scores = score_segmentation(
        orient(to_indices(predicted, task.targets), orientation),
        orient(to_indices(reference.array, task.targets), orientation),
        targets=task.targets,
        spacing_mm=spacing_of(reference.affine, orientation),
        tolerance_mm=task.tolerance_mm,
    )
    return case_metrics(task.case_id, scores)


def _read_pair(task: ScoreTask) -> tuple[Volume, Volume]:
    """Return prediction and reference; one that knows names only is painted on the grid of the other."""
    files, values = (task.prediction, task.reference), task.targets.values_by_name
    given = sorted((file for file in files if has_grid(file[0])), key=lambda file: knows_names_only(file[0]))
    if not given:
        raise InputError(
            f"case {task.case_id}: both segmentations are DICOM; expected one of a format with a grid; convert it"
        )
    grid = read_geometry(given[0][0], task.reading.assumed_orientation)
    prediction, reference = (read_reference(file, grid, values, task.reading) for file in files)
    return prediction, reference


def _pair(predictions: Mapping[str, tuple[str, ...]], references: Mapping[str, tuple[str, ...]]) -> dict[str, Pair]:
    """Pair by case_id; one prediction and one reference belong together whatever they are called."""
    if len(predictions) == len(references) == 1:
        ((case_id, reference),) = references.items()
        if case_id not in predictions:
            logger.warning("prediction %s is scored against reference %s", _some(predictions), case_id)
        return {case_id: (next(iter(predictions.values())), reference)}
    missing = sorted(set(references) - set(predictions))
    if not set(references) & set(predictions):
        raise InputError(
            f"no prediction has the case_id of a reference: predictions are {_some(predictions)}, references {_some(references)}"
        )
    if missing:
        raise InputError(
            f"{len(missing)} of {len(references)} references have no prediction: {_some(missing)}; predict them too"
        )
    if extra := sorted(set(predictions) - set(references)):
        logger.warning("%d predictions have no reference and are not scored: %s", len(extra), _some(extra))
    return {case_id: (predictions[case_id], reference) for case_id, reference in references.items()}


def _some(names: Iterable[str]) -> str:
    listed = list(names)
    return ", ".join(listed[:5]) + (", …" if len(listed) > 5 else "")


def _targets(request: EvaluateRequest, pairs: Mapping[str, Pair]) -> tuple[Targets, CaseReading]:
    """Return what is scored, and how files are read."""
    if request.dataset is None:
        if request.regions not in (None, "none"):
            raise InputError(f"--regions {request.regions} needs the labels of a dataset; give -d DATASET too")
        stated = request.stated
        if stated.paint_order:
            raise InputError("--paint-order needs the labels of a dataset; give -d DATASET too")
        reading = CaseReading(assumed_orientation=stated.assumed_orientation, paint_order=stated.paint_order)
        return _found_targets(pairs), reading
    dataset = open_stated(request.dataset, request.roots, request.stated)
    return targets_of(choose_regions(dataset, request.regions) if request.regions else dataset), reading_of(dataset)


def _found_targets(pairs: Mapping[str, Pair]) -> Targets:
    """Return every value that occurs as a label of its own."""
    predicted, drawn = (_values_in(files[side] for files in pairs.values()) for side in range(2))
    if predicted and drawn and not predicted & drawn:
        raise InputError(
            f"predictions hold the label values {_some(map(str, sorted(predicted)))}, references {_some(map(str, sorted(drawn)))}, none "
            "in common; expected the same numbers on both sides; renumber one of them"
        )
    labels = {"background": 0} | {f"label_{value}": value for value in sorted(predicted | drawn)}
    if len(labels) == 1:
        raise InputError("predictions and references are all background; give -d DATASET so that its labels are scored")
    return targets_of(DatasetDescription(name="evaluation", channels=("image",), labels=labels))


def _values_in(segmentations: Iterable[tuple[str, ...]]) -> set[int]:
    """Return the label values in files, the background left out."""
    values: set[int] = set()
    for file, *_ in segmentations:
        if knows_names_only(file):
            raise InputError(
                f"{file}: found labels that have names but no values; give -d DATASET so that their values are known"
            )
        values |= read_label_values(file) - {0}
    return values
