"""Score predictions against references, case by case and label by label."""

import logging
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from tumorseg.errors import InputError, StorageError
from tumorseg.reports.tables import CSV_START
from tumorseg.schema.base import Record
from tumorseg.schema.cases import CaseReading, reading_of
from tumorseg.schema.dataset import DatasetDescription
from tumorseg.schema.metrics import MetricsReport, Missing
from tumorseg.schema.targets import Targets, targets_of
from tumorseg.sources.discovery import MOST_VALUES
from tumorseg.sources.inputs import Segmentations, open_labels
from tumorseg.sources.regions import choose_regions
from tumorseg.stages.evaluation.scoring import Pair, Scoring, is_scores_file, score_pairs, scores_files
from tumorseg.stages.opening.loaded import Roots, failed_cases
from tumorseg.stages.opening.stated import Stated, open_stated
from tumorseg.storage.atomic import require_writable
from tumorseg.storage.images import knows_names_only, read_label_values
from tumorseg.storage.json_files import read_record
from tumorseg.storage.locks import hold_folder

logger = logging.getLogger(__name__)


class EvaluateRequest(Record):
    """Options of `evaluate`."""

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
    missing: Missing = "refuse"
    """What becomes of references whose prediction is missing or damaged: `refuse` leaves them out and fails, `worst` scores them as empty
    masks, `skip` leaves them out. Damage fails whatever is asked for."""
    output: Path
    """Folder for metrics.json and metrics.csv, or a file that ends in .json or .csv."""
    jobs: int | None = None
    """Processes; as many as the machine holds if None."""
    stated: Stated = Stated()
    """What is stated of files that leave it open."""


def evaluate(request: EvaluateRequest) -> MetricsReport:
    """Score every reference that has a prediction, and write metrics.json and metrics.csv, or one file.

    Raises:
        InputError: nothing to compare, or files that hold no scores are in the place of the results.
        StorageError: another process writes into the folder now.
        TumorsegError: cases could not be scored, or predictions are missing and that is refused; all are listed, and the scores of the
            others are written.
    """
    for path in scores_files(request.output):
        _check_replaceable(path)
    if is_scores_file(request.output):
        require_writable(request.output.parent)
        return _evaluate(request)
    # Resolved, so that two links to one folder mean one lock.
    with hold_folder(request.output.resolve(), doing="written to", error=StorageError):
        return _evaluate(request)


def _check_replaceable(path: Path) -> None:
    """Refuse to write over a file that is no result of evaluate."""
    if os.path.lexists(path) and not _holds_scores(path):
        raise InputError("is there already and holds no scores; move it elsewhere, or give another -o", file=path)


def _holds_scores(path: Path) -> bool:
    try:
        if path.suffix.lower() == ".json":
            read_record(MetricsReport, path, error=InputError)
            return True
        with path.open(encoding="utf-8") as file:
            return file.readline().startswith(CSV_START)
    except (InputError, OSError, UnicodeDecodeError):
        return False


def _evaluate(request: EvaluateRequest) -> MetricsReport:
    allowed = request.stated.allow_outside
    predictions = _there(open_labels(request.predictions, allow_outside=allowed, may_be_empty=True))
    references = open_labels(request.references, allow_outside=allowed)
    predictions = _with_references(predictions, references)
    pairs = _pair(predictions, references)
    if not pairs:
        raise failed_cases([*predictions.refused, *references.refused], len(references.refused), "evaluation")
    targets, reading = _targets(request, pairs)
    scoring = Scoring(targets, request.tolerance_mm, reading, request.missing)
    failed = [*predictions.refused, *references.refused]
    return score_pairs(pairs, scoring, request.output, jobs=request.jobs, failed=failed)


def _there(predictions: Segmentations) -> Segmentations:
    """Leave out predictions that were named and are not there: they are missing, not damaged."""
    found = {case_id: files for case_id, files in predictions.files.items() if all(map(os.path.lexists, files))}
    if gone := sorted(predictions.files.keys() - found.keys()):
        logger.warning("%d predictions are not there: %s", len(gone), _some(gone))
    return predictions._replace(files=found)


def _with_references(predictions: Segmentations, references: Segmentations) -> Segmentations:
    """Leave out refused predictions that no reference belongs to, unless one lacks its prediction: that may be it, badly named."""
    if not references.files.keys() <= predictions.files.keys():
        return predictions
    wanted = {*references.files, *(failure.case_id for failure in references.refused)}
    kept = tuple(failure for failure in predictions.refused if failure.case_id in wanted)
    for failure in predictions.refused:
        if failure not in kept:
            logger.warning("prediction %s has no reference and is not scored; %s", failure.case_id, failure.message)
    return predictions._replace(refused=kept)


def _pair(found: Segmentations, references: Segmentations) -> dict[str, Pair]:
    """Pair by case_id; one prediction and one reference belong together whatever they are called.

    Raises:
        InputError: no two belong together.
    """
    predictions = found.files
    if len(predictions) == len(references.files) == 1 and not (found.refused or references.refused):
        ((case_id, reference),) = references.files.items()
        if case_id not in predictions:
            logger.warning("prediction %s is scored against reference %s", _some(predictions), case_id)
        return {case_id: (next(iter(predictions.values())), reference)}
    known = {*predictions, *(failure.case_id for failure in found.refused)}
    if known and references.files and known.isdisjoint(references.files):
        raise InputError(
            f"no prediction has the case_id of a reference: predictions are {_some(sorted(known))}, references {_some(references.files)}"
        )
    referenced = {*references.files, *(failure.case_id for failure in references.refused)}
    if extra := sorted(predictions.keys() - referenced):
        logger.warning("%d predictions have no reference and are not scored: %s", len(extra), _some(extra))
    return {case_id: (predictions.get(case_id, ()), reference) for case_id, reference in references.files.items()}


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
    """Return every value that occurs as a label of its own; files that cannot be read fail with their cases."""
    unread: list[str] = []
    predicted = _values_in([prediction for prediction, _ in pairs.values()], unread)
    drawn = _values_in([reference for _, reference in pairs.values()], unread)
    if predicted and drawn and not predicted & drawn:
        raise InputError(
            f"predictions hold the label values {_some(map(str, sorted(predicted)))}, references {_some(map(str, sorted(drawn)))}, none "
            "in common; expected the same numbers on both sides; renumber one of them"
        )
    labels = {"background": 0} | {f"label_{value}": value for value in sorted(predicted | drawn)}
    if len(labels) == 1 and unread:
        raise InputError(f"found no label in any file, and {len(unread)} cannot be read; the first is {unread[0]}")
    if len(labels) == 1:
        raise InputError("predictions and references are all background; give -d DATASET so that its labels are scored")
    return targets_of(DatasetDescription(name="evaluation", channels=("image",), labels=labels))


def _values_in(segmentations: Iterable[tuple[str, ...]], unread: list[str]) -> set[int]:
    """Return the label values in files, the background left out; why some cannot be read is added to `unread`."""
    values: set[int] = set()
    named: list[str] = []
    for files in segmentations:
        if not files:
            continue
        file = files[0]
        try:
            if knows_names_only(file):
                named.append(file)
                continue
            found = read_label_values(file)
        except InputError as error:
            unread.append(str(error))
            continue
        # So many values are an image's: its case fails, as they are no labels.
        values |= found - {0} if len(found) < MOST_VALUES else set()
    if named and not values:
        raise InputError(
            "found labels that have names but no values; give -d DATASET so that their values are known", file=named[0]
        )
    return values
