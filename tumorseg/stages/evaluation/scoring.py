"""Score pairs of prediction and reference, in processes of their own, and write what comes of it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from tumorseg.errors import InputError, TumorsegError, with_advice
from tumorseg.ops.geometry import orient, orientation_of, spacing_of
from tumorseg.ops.labels import to_indices
from tumorseg.ops.metrics import case_metrics, score_segmentation
from tumorseg.ops.summaries import metrics_report
from tumorseg.reports.tables import metrics_csv
from tumorseg.schema.cases import CaseReading
from tumorseg.schema.metrics import CaseMetrics, MetricsReport, Missing
from tumorseg.schema.quantities import GB
from tumorseg.schema.targets import Targets
from tumorseg.stages.opening.case_grids import lay_label
from tumorseg.stages.opening.each_case import Steps, each_case
from tumorseg.stages.opening.loaded import failed_cases
from tumorseg.stages.opening.reading import file_bytes
from tumorseg.storage.atomic import write_text
from tumorseg.storage.formats.stored import Geometry
from tumorseg.storage.images import Volume, has_grid, knows_names_only, read_geometry, read_reference
from tumorseg.storage.json_files import write_record
from tumorseg.types import Segmentation
from tumorseg.workers.outcomes import Failure

EXPECTED_BYTES = GB
"""What a worker may need, until a case has been measured."""
SERIAL_CASES = 4
"""So few cases are scored here rather than in processes that have to start."""
PREDICT_TOO = (
    "predict what is missing too, or give --missing worst to score empty masks, or --missing skip to leave it out"
)

Pair = tuple[tuple[str, ...], tuple[str, ...]]
"""Files of a prediction and of its reference; more than one only where it is DICOM, none where there is no prediction."""


class Scoring(NamedTuple):
    """Rules for reading and scoring pairs."""

    targets: Targets
    tolerance_mm: float = 1.0
    """Distance at which a border still counts as right for NSD."""
    reading: CaseReading = CaseReading()
    """What is done where files leave open how they are read."""
    missing: Missing = "refuse"
    """What becomes of cases whose prediction is missing or damaged."""


class ScoreTask(NamedTuple):
    """Input of a worker that scores one case."""

    case_id: str
    prediction: tuple[str, ...]
    """Empty where there is none, which counts as an empty mask."""
    reference: tuple[str, ...]
    scoring: Scoring


class Scored(NamedTuple):
    """The scores of one case."""

    metrics: tuple[CaseMetrics, ...]
    problem: str | None = None
    """Why an empty mask was scored in place of the prediction that is there."""


def score_pairs(
    pairs: Mapping[str, Pair],
    scoring: Scoring,
    output: Path,
    *,
    jobs: int | None = None,
    failed: Sequence[Failure] = (),
) -> MetricsReport:
    """Score pairs of prediction and reference by case_id, and write the result.

    Args:
        pairs: their files.
        scoring: how they are read and scored.
        output: a folder for metrics.json and metrics.csv, or one file of these endings.
        jobs: processes; as many as the machine holds if None.
        failed: cases whose prediction or reference cannot be used; they may be among the pairs.

    Raises:
        TumorsegError: cases could not be scored, or predictions are missing and `scoring` refuses that; all are listed, and the scores of
            the others are written.
    """
    # A prediction that was refused is told as failed, and not as missing too.
    known = {failure.case_id for failure in failed}
    missing = sorted(case_id for case_id, (prediction, _) in pairs.items() if not prediction and case_id not in known)
    tasks = [ScoreTask(case_id, *files, scoring) for case_id, files in sorted(pairs.items())]
    if scoring.missing != "worst":
        tasks = [task for task in tasks if task.prediction]
    scored, failures = _score(tasks, jobs)
    failures += failed
    metrics: list[CaseMetrics] = []
    for case_id in sorted(scored):
        metrics += scored[case_id]
    report = metrics_report(metrics, tolerance_mm=scoring.tolerance_mm)
    every = {*pairs, *known}
    unscored = {
        "failed": tuple(sorted({failure.case_id for failure in failures})),
        "missing": tuple(missing),
        "is_complete": every <= scored.keys(),
    }
    report = report.changed(**unscored)
    write_scores(report, output)
    if scoring.missing == "refuse":
        failures += (Failure(case_id, "found no prediction") for case_id in missing)
    if failures:
        raise _failed(failures, len(every), report, output)
    return report


def _failed(failures: list[Failure], num_cases: int, report: MetricsReport, output: Path) -> TumorsegError:
    marked = "" if report.is_complete else ", marked as incomplete"
    advice = f"; {PREDICT_TOO}" if report.missing and not report.is_complete else ""
    error = failed_cases(failures, num_cases, "evaluation")
    return with_advice(error, f"the scores are written to {output}{marked}{advice}")


def is_scores_file(output: Path) -> bool:
    """Tell whether scores go into one file rather than into a folder."""
    return output.suffix.lower() in (".json", ".csv") and not output.is_dir()


def scores_files(output: Path) -> tuple[Path, ...]:
    """Return the files that scores go into."""
    return (output,) if is_scores_file(output) else (output / "metrics.json", output / "metrics.csv")


def write_scores(report: MetricsReport, output: Path) -> None:
    """Write scores into a folder, or into one file.

    Raises:
        StorageError: it cannot be written.
    """
    for path in scores_files(output):
        if path.suffix.lower() == ".json":
            write_record(path, report)
        else:
            write_text(path, metrics_csv(report))


def _score(tasks: Sequence[ScoreTask], jobs: int | None) -> tuple[dict[str, tuple[CaseMetrics, ...]], list[Failure]]:
    """Return the scores of each case, and the failures, also of predictions that count as empty masks."""
    scored: dict[str, Scored] = {}
    largest_first = sorted(tasks, key=_size, reverse=True)
    failures = each_case(
        score_case,
        ((task.case_id, task) for task in largest_first),
        scored.__setitem__,
        num_cases=len(tasks),
        expected_bytes=EXPECTED_BYTES,
        jobs=jobs or (1 if len(tasks) <= SERIAL_CASES else None),
        steps=Steps("evaluate", len(tasks)),
    )
    failures += (Failure(case_id, one.problem) for case_id, one in scored.items() if one.problem is not None)
    return {case_id: one.metrics for case_id, one in scored.items()}, failures


def _size(task: ScoreTask) -> int:
    return sum(map(file_bytes, (*task.prediction, *task.reference)))


def score_case(task: ScoreTask) -> Scored:
    """Score one case; called in a worker process. A prediction whose axes are stored otherwise is reoriented, without loss.

    Raises:
        InputError: a file cannot be read, or the two do not lie on one grid; where predictions are to be scored at their worst, only if it
            is the reference's fault.
    """
    try:
        return Scored(_score_files(task))
    except InputError as error:
        if task.scoring.missing != "worst" or not task.prediction:
            raise
        problem = f"{error.text(case_id=task.case_id)}; scored as an empty mask"
    # What fails without the prediction as well is the reference's fault.
    return Scored(_score_files(task._replace(prediction=())), problem)


def _score_files(task: ScoreTask) -> tuple[CaseMetrics, ...]:
    targets, reading = task.scoring.targets, task.scoring.reading
    grid = _grid_of(task)
    volume = read_reference(task.reference, grid, targets.values_by_name, reading)
    orientation = orientation_of(volume.affine)
    predicted = _read_prediction(task, grid, volume)
    scores = score_segmentation(
        orient(predicted, orientation),
        orient(_to_indices(task.reference[0], volume.array, targets), orientation),
        targets=targets,
        spacing_mm=spacing_of(volume.affine, orientation),
        tolerance_mm=task.scoring.tolerance_mm,
    )
    return case_metrics(task.case_id, scores)


def _grid_of(task: ScoreTask) -> Geometry:
    """Return the grid on which what knows names only is painted."""
    files = [files for files in (task.prediction, task.reference) if files]
    given = [file for file in files if has_grid(file[0])]
    # A label map first, as segments may cover a part of the image only.
    given.sort(key=lambda file: knows_names_only(file[0]))
    if given:
        return read_geometry(given[0][0], task.scoring.reading.assumed_orientation)
    if task.prediction:
        raise InputError(
            "both segmentations are DICOM; expected one of a format with a grid; convert it", case_id=task.case_id
        )
    raise InputError(
        "the reference is DICOM, and there is no prediction whose grid it could be drawn on; expected a format with "
        "a grid; convert it, or give --missing skip",
        case_id=task.case_id,
    )


def _read_prediction(task: ScoreTask, grid: Geometry, reference: Volume) -> Segmentation:
    """Return a prediction as class indices (Z, Y, X) on the grid of its reference; background where there is none."""
    targets, reading = task.scoring.targets, task.scoring.reading
    if not task.prediction:
        return _to_indices(task.reference[0], reference.array * 0, targets)
    path, other = task.prediction[0], task.reference[0]
    volume = read_reference(task.prediction, grid, targets.values_by_name, reading)
    laid = lay_label(task.case_id, path, volume, reference, other=other, reading=reading)
    return _to_indices(path, laid, targets)


def _to_indices(path: str, segmentation: Segmentation, targets: Targets) -> Segmentation:
    try:
        return to_indices(segmentation, targets)
    except InputError as error:
        raise InputError(str(error), file=path) from None
