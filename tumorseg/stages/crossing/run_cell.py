"""Carry one cell out: segment, score, and note what came of it; what is done already is left alone."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from tumorseg.errors import StorageError, TumorsegError
from tumorseg.reports.results.page import ResultsInput, results_page
from tumorseg.reports.tables import cases_text
from tumorseg.schema.cases import reading_of
from tumorseg.schema.crossing import Cell, KnownBy
from tumorseg.schema.metrics import MetricsReport
from tumorseg.stages.crossing.cells import CellRules, CellTask
from tumorseg.stages.crossing.fold_choices import Choice
from tumorseg.stages.crossing.models import load_folds
from tumorseg.stages.evaluation.case_scoring import Scoring
from tumorseg.stages.evaluation.cohorts import SummaryOptions, attributes_of, cohort_of
from tumorseg.stages.evaluation.overlays import shown_images
from tumorseg.stages.evaluation.pages import Shown, with_pictures
from tumorseg.stages.evaluation.results import Results, write_results
from tumorseg.stages.evaluation.scoring import Pair, score_all
from tumorseg.stages.inference.ensembles import alone
from tumorseg.stages.inference.predict_cases import Filling, Predicted, predict_cases
from tumorseg.storage.cross_folders import CellFolder
from tumorseg.storage.hashing import hash_files
from tumorseg.storage.json_files import read_record, write_record
from tumorseg.storage.locks import hold_folder
from tumorseg.workers.outcomes import Failure, failure_lines

logger = logging.getLogger(__name__)


class RunOptions(NamedTuple):
    """How cells are carried out; none of it changes a score."""

    device: str
    jobs: int | None = None
    """Processes that score; as many as the machine holds if None."""
    has_pages: bool = True
    """Whether cells get a report of their own."""


def run_cell(task: CellTask, folder: CellFolder, rules: CellRules, options: RunOptions) -> Cell:
    """Segment and score a cell's cases, unless that is done; whatever fails is told in the cell, so that others go on.

    Args:
        task: what is to be done.
        folder: where.
        rules: of the matrix.
        options: how.
    """
    if (done := finished_cell(task, folder)) is not None:
        return done
    logger.info("%s: %d cases", describe(task.draft), task.num_cases)
    try:
        # Resolved, so that two links to one folder mean one lock.
        with hold_folder(folder.root.resolve(), doing="written to", error=StorageError):
            cell = _attempted(task, folder, rules, options)
            write_record(folder.cell, cell)
            return cell
    # What another process does, or where nothing can be written, is no result to keep.
    except TumorsegError as error:
        return _failed(task, error)


def _attempted(task: CellTask, folder: CellFolder, rules: CellRules, options: RunOptions) -> Cell:
    """Return what became of a cell, so that other shards know it, too."""
    try:
        return _predict_and_score(task, folder, rules, options)
    except TumorsegError as error:
        return _failed(task, error)


def _failed(task: CellTask, error: TumorsegError) -> Cell:
    failed = task.draft.changed(state="failed", num_cases=0, held_out=(), failures=(str(error),))
    logger.warning("%s: %s", describe(failed), error)
    return failed


def finished_cell(task: CellTask, folder: CellFolder) -> Cell | None:
    """Return a cell that an earlier run finished, of the same weights, cases and rules; None where there is work to do."""
    found = known_cell(task, folder)
    return found if found is not None and found.state == "done" else None


def known_cell(task: CellTask, folder: CellFolder) -> Cell | None:
    """Return what another run made of a cell of the same weights, cases and rules, even if cases failed; None where none did."""
    try:
        found = read_record(Cell, folder.cell, error=StorageError) if folder.cell.is_file() else None
    # Of another version, or damaged: it is made anew.
    except StorageError:
        return None
    if found is None or found.identity != task.draft.identity or not has_its_scores(found, folder):
        return None
    # What the scores do not follow from may have changed since.
    now = task.draft
    return found.changed(remarks=now.remarks, left_out=now.left_out, relatives=now.relatives)


def has_its_scores(cell: Cell, folder: CellFolder) -> bool:
    """Tell whether the scores in a cell's folder are those that the cell is of; one without scores has none to miss."""
    if not cell.scores_hash:
        return not cell.summary
    metrics = folder.scores.metrics
    return metrics.is_file() and _hash(metrics) == cell.scores_hash


def _hash(path: Path) -> str:
    return hash_files([str(path)])[str(path)].digest


def describe(cell: Cell) -> str:
    """Return what a cell is called in messages."""
    without = f" without {', '.join(cell.dropped)}" if cell.dropped else ""
    return f"{cell.model} on {cell.dataset}{without}"


def _predict_and_score(task: CellTask, folder: CellFolder, rules: CellRules, options: RunOptions) -> Cell:
    pairs: dict[str, Pair] = {}
    failures: list[Failure] = []
    for choice, cases in task.cases.items():
        predicted = _predict(task, folder, choice, options)
        failures += predicted.failures
        failed = {failure.case_id for failure in predicted.failures}
        sound = [case for case in cases if case.case_id not in failed]
        pairs |= {case.case_id: ((str(predicted.files[case.case_id]),), case.label_files) for case in sound}
    if not pairs:
        return task.draft.changed(state="failed", num_cases=0, held_out=(), failures=tuple(failure_lines(failures)))
    return _score(task, folder, rules, _Predictions(pairs, failures, options))


def _predict(task: CellTask, folder: CellFolder, choice: Choice, options: RunOptions) -> Predicted:
    """Segment the cases of one choice of folds; those that are done are left alone."""
    model = load_folds(task.pairing.model, choice.folds, options.device, held_out=choice.is_held_out)
    output = folder.held_out(choice.folds) if choice.is_held_out else folder.predictions
    scores = folder.scores
    stale = (folder.cell, scores.metrics, scores.table, scores.report)
    return predict_cases(alone(model), task.cases[choice], output, options=task.options, filling=Filling(stale=stale))


class _Predictions(NamedTuple):
    """What there is to score."""

    pairs: dict[str, Pair]
    failures: Sequence[Failure]
    """Cases that could not be segmented."""
    options: RunOptions


def _score(task: CellTask, folder: CellFolder, rules: CellRules, predictions: _Predictions) -> Cell:
    """Score what was segmented, and write the scores."""
    scoring = Scoring(
        task.targets.reference,
        rules.scoring,
        reading_of(task.pairing.found.dataset),
        predicted=task.targets.prediction,
        # A model answers on the grid of its first channel, which need not be the label's in another dataset.
        resample=True,
    )
    cases = task.all_cases()
    cohort = cohort_of(SummaryOptions(), attributes_of(cases), tuple(predictions.pairs))
    jobs, has_page = predictions.options.jobs, predictions.options.has_pages and not task.draft.dropped
    outcome = score_all(predictions.pairs, scoring, jobs=jobs, failed=predictions.failures, cohort=cohort)
    shown = Shown(predictions.pairs, scoring, shown_images(cases, list(task.draft.channels)))
    content = ResultsInput(describe(task.draft), origin(task.draft), metrics=outcome.report)
    page = results_page(with_pictures(content, outcome.report, shown)) if has_page else None
    # A kill between the files must not leave an earlier cell beside scores that are not its own.
    folder.cell.unlink(missing_ok=True)
    write_results(Results(outcome.report, page=page), folder.root)
    return _filled(task, outcome.report, outcome.failures).changed(scores_hash=_hash(folder.scores.metrics))


UNSEEN: dict[KnownBy, str] = {
    "content": "Cases that the model was not trained on",
    "case_id": "Cases that are not called like those that the model was trained on; copies of these under other names may be among them",
    "unknown": "It is not known whether the model was trained on these cases",
}
"""What is said of cases that are not known to be of the training."""


def origin(cell: Cell) -> str:
    """Return where the predictions of a cell come from, and how certain that is."""
    if not cell.held_out:
        return UNSEEN[cell.known_by]
    by_folds = (
        f"{len(cell.held_out)} of {cell.num_cases} cases by the folds that held them out, as the model was trained on them or on others "
        "of their patients"
    )
    is_told = cell.known_by == "content" or len(cell.held_out) == cell.num_cases
    return (
        by_folds
        if is_told
        else f"{by_folds}. The others: {UNSEEN[cell.known_by][0].lower()}{UNSEEN[cell.known_by][1:]}"
    )


def _filled(task: CellTask, report: MetricsReport, failures: Sequence[Failure]) -> Cell:
    """Return the cell with its scores, and with the cases that failed."""
    draft, scored = task.draft, {case.case_id for case in report.cases}
    if failures:
        logger.warning("%s: cases failed: %s", describe(draft), cases_text([failure.case_id for failure in failures]))
    return draft.changed(
        state="failed" if failures else "done",
        num_cases=len(scored),
        held_out=tuple(case_id for case_id in draft.held_out if case_id in scored),
        failures=tuple(failure_lines(failures)),
        warnings=report.warnings,
        summary=report.summary,
    )
