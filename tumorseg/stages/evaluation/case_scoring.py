"""Read one prediction and its reference on one grid, and score them; called in worker processes."""

from typing import NamedTuple

from tumorseg.errors import InputError, with_advice
from tumorseg.ops.geometry import Orientation, orient, orientation_of, spacing_of
from tumorseg.ops.grids import covered_voxels, describe_mismatch, shared_part
from tumorseg.ops.labels import to_indices
from tumorseg.ops.metrics.case import case_metrics, score_segmentation
from tumorseg.ops.regridding import regrid_labels
from tumorseg.schema.cases import CaseReading
from tumorseg.schema.metrics import CaseMetrics, Missing
from tumorseg.schema.score_rules import ScoreRules
from tumorseg.schema.targets import Targets
from tumorseg.stages.opening.case_grids import LEAST_SHARED, grid_of, lay_label, way_onto
from tumorseg.storage.formats.stored import Geometry
from tumorseg.storage.images import Volume, has_grid, knows_names_only, read_geometry, read_reference
from tumorseg.types import Segmentation

RESAMPLE_TOO = "--resample nearest scores it on the grid of its reference"
NAME_TOO = "or name them in the file of --labels, under `prediction` alone where they are to count as background"


class Scoring(NamedTuple):
    """Rules for reading and scoring pairs."""

    targets: Targets
    """What is scored in references."""
    rules: ScoreRules = ScoreRules()
    """Which metrics, and how they are measured."""
    reading: CaseReading = CaseReading()
    """What is done where files leave open how they are read."""
    missing: Missing = "refuse"
    """What becomes of cases whose prediction is missing or damaged."""
    predicted: Targets | None = None
    """The same names in predictions, where these have other label values; None: they have the references'."""
    resample: bool = False
    """Whether a prediction on another grid is brought onto its reference's by nearest neighbour, rather than refused."""

    @property
    def predicted_targets(self) -> Targets:
        """Return what is scored in predictions."""
        return self.targets if self.predicted is None else self.predicted


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
    is_resampled: bool = False
    """Whether the prediction lay on another grid than its reference."""
    problem: str | None = None
    """Why an empty mask was scored in place of the prediction that is there."""


class PairRead(NamedTuple):
    """A prediction and its reference on one grid."""

    prediction: Segmentation
    """Class indices (Z, Y, X) of `predicted_targets`, as the reference's file stores its axes."""
    reference: Segmentation
    """Class indices (Z, Y, X) of `targets`, likewise."""
    volume: Volume
    """The reference as it was read."""
    is_resampled: bool

    @property
    def orientation(self) -> Orientation:
        """Return the way to canonical axes."""
        return orientation_of(self.volume.affine)


def score_case(task: ScoreTask) -> Scored:
    """Score one case. A prediction whose axes are stored otherwise is reoriented, without loss.

    Raises:
        InputError: a file cannot be read, or the two do not lie on one grid; where predictions are to be scored at their worst, only if it
            is the reference's fault.
    """
    try:
        return _score_files(task)
    except InputError as error:
        if task.scoring.missing != "worst" or not task.prediction:
            raise
        problem = f"{error.text(case_id=task.case_id)}; scored as an empty mask"
    # What fails without the prediction as well is the reference's fault.
    return _score_files(task._replace(prediction=()))._replace(problem=problem)


def _score_files(task: ScoreTask) -> Scored:
    scoring = task.scoring
    pair = read_pair(task)
    scores = score_segmentation(
        orient(pair.prediction, pair.orientation),
        orient(pair.reference, pair.orientation),
        targets=scoring.targets,
        spacing_mm=spacing_of(pair.volume.affine, pair.orientation),
        rules=scoring.rules,
        predicted=scoring.predicted,
    )
    return Scored(case_metrics(task.case_id, scores), pair.is_resampled)


def read_pair(task: ScoreTask) -> PairRead:
    """Read a prediction and its reference.

    Raises:
        InputError: a file cannot be read, or the two do not lie on one grid and that is refused.
    """
    targets, reading = task.scoring.targets, task.scoring.reading
    grid = _grid_of(task)
    volume = read_reference(task.reference, grid, targets.values_by_name, reading)
    reference = _to_indices(task.reference[0], volume.array, targets)
    if not task.prediction:
        return PairRead(reference * 0, reference, volume, is_resampled=False)
    predicted = task.scoring.predicted_targets
    found = read_reference(task.prediction, grid, predicted.values_by_name, reading)
    is_elsewhere = way_onto(found, volume, reading=reading) is None
    lay = _resampled if is_elsewhere and task.scoring.resample else _laid
    advice = None if task.scoring.predicted is None else NAME_TOO
    prediction = _to_indices(task.prediction[0], lay(task, found, volume), predicted, advice=advice)
    return PairRead(prediction, reference, volume, is_resampled=is_elsewhere)


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


def _laid(task: ScoreTask, found: Volume, onto: Volume) -> Segmentation:
    """Return a prediction (Z, Y, X) on the grid of its reference, which has the same voxels."""
    path, other = task.prediction[0], task.reference[0]
    try:
        return lay_label(task.case_id, path, found, onto, other=other, reading=task.scoring.reading)
    except InputError as error:
        if not (found.is_placed and onto.is_placed):
            raise
        raise with_advice(error, RESAMPLE_TOO) from None


def _resampled(task: ScoreTask, found: Volume, onto: Volume) -> Segmentation:
    """Return a prediction (Z, Y, X) on the grid of its reference, by nearest neighbour in the world."""
    if not (found.is_placed and onto.is_placed):
        return _laid(task, found, onto)  # it has no place in the world, which is refused there
    grid, other = grid_of(found), grid_of(onto)
    covered = covered_voxels(other, grid)
    # Of one study, the two cover the same part of the body; a prediction of another image would be scored as if it were bad.
    if (shared := shared_part(other, grid, covered)) < LEAST_SHARED:
        raise InputError(
            f"{task.prediction[0]} and {task.reference[0]} have {shared:.0%} of the smaller one's field of view in common (at least "
            f"{LEAST_SHARED:.0%} is expected to resample one onto the other); it {describe_mismatch(grid, other)}; check that both are of "
            "one image",
            case_id=task.case_id,
        )
    return regrid_labels(found.array, grid, other, covered=covered)


def _to_indices(path: str, segmentation: Segmentation, targets: Targets, *, advice: str | None = None) -> Segmentation:
    try:
        return to_indices(segmentation, targets)
    except InputError as error:
        refused = InputError(str(error), file=path)
        raise with_advice(refused, advice) if advice else refused from None
