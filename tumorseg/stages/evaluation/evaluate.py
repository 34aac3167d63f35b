"""Score predictions against references, case by case and label by label, and compare them with others."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from pydantic import Field

from tumorseg.errors import InputError, with_advice
from tumorseg.reports.results.page import ResultsInput, results_page
from tumorseg.schema.base import parse_record
from tumorseg.schema.comparisons import Comparison
from tumorseg.schema.dataset import Dataset, ImageFile
from tumorseg.schema.metric_names import DEFAULT_METRICS
from tumorseg.schema.metrics import Amount, MetricsReport, Missing
from tumorseg.schema.score_rules import ScoreRules, lesion_preset
from tumorseg.sources.inputs import Segmentations, open_labels
from tumorseg.stages.evaluation.beforehand import check_columns, check_comparable, expected_report
from tumorseg.stages.evaluation.case_scoring import Scoring
from tumorseg.stages.evaluation.cohorts import SummaryOptions, attributes_of, cohort_of
from tumorseg.stages.evaluation.comparing import compared, names_of, summarized
from tumorseg.stages.evaluation.overlays import shown_images
from tumorseg.stages.evaluation.pages import Shown, with_pictures
from tumorseg.stages.evaluation.pairing import Paired, pair_up
from tumorseg.stages.evaluation.results import (
    Results,
    check_apart,
    check_replaceable,
    held,
    holds_scores,
    is_scores_file,
    write_results,
)
from tumorseg.stages.evaluation.scored_targets import scored_targets
from tumorseg.stages.evaluation.scoring import Cohort, Outcome, check_outcome, score_all
from tumorseg.stages.evaluation.tables_in import Scores, read_scores, scores_file
from tumorseg.stages.opening.loaded import Roots
from tumorseg.stages.opening.stated import Stated, open_stated
from tumorseg.storage.layout import ScoresFolder


class EvaluateRequest(SummaryOptions):
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
    labels: Path | None = None
    """JSON file that says which labels of predictions and references are the same, where names or values differ."""
    tolerance_mm: Amount = 1.0
    """Distance at which a border still counts as right for NSD, and the width of the boundary IoU."""
    tolerances_mm: dict[str, Amount] = Field(default_factory=dict)
    """Of labels or regions that have another one."""
    lesions: str = "brats_gli"
    """Rules by which lesions are matched, by name."""
    missing: Missing = "refuse"
    """What becomes of references whose prediction is missing or damaged: `refuse` leaves them out and fails, `worst` scores them as empty
    masks, `skip` leaves them out. Damage fails whatever is asked for."""
    resample: Literal["nearest"] | None = None
    """How a prediction on another grid is brought onto its reference's; None refuses it."""
    against: Path | None = None
    """Other predictions of the same references, or scores that were written before, to compare with."""
    output: Path
    """Folder for metrics.json, metrics.csv and report.html, or a file that ends in .json or .csv for the scores alone."""
    jobs: int | None = None
    """Processes; as many as the machine holds if None."""
    stated: Stated = Stated()
    """What is stated of files that leave it open."""


class Evaluation(NamedTuple):
    """Scores, and what a comparison with others found."""

    metrics: MetricsReport
    comparison: Comparison | None = None


class _Rival(NamedTuple):
    """What is compared with."""

    report: MetricsReport
    taken: tuple[str, ...] = ()
    """What had to be taken for granted of scores that were written before."""


class _Basis(NamedTuple):
    """What scores rest on, on both sides of a comparison."""

    scoring: Scoring
    cohort: Cohort
    images: Mapping[str, ImageFile]
    """Image on which a case is shown."""
    warnings: tuple[str, ...]
    """What is in files and is not scored."""


def evaluate(request: EvaluateRequest) -> MetricsReport:
    """Score every reference that has a prediction; write metrics.json, metrics.csv and report.html, or one file of scores.

    Raises:
        InputError: nothing to compare, an option does not fit, or files that are no results are in the place of the results.
        StorageError: another process writes into the folder now.
        TumorsegError: cases could not be scored, or predictions are missing and that is refused; all are listed, and the scores of the
            others are written.
    """
    return evaluate_against(request).metrics


def evaluate_against(request: EvaluateRequest) -> Evaluation:
    """Do what `evaluate` does, and return what the comparison with `against` found too.

    Raises:
        TumorsegError: as from `evaluate`.
    """
    check_replaceable(request.output)
    check_apart(request.output, _inputs(request))
    if request.against is not None and is_scores_file(request.output):
        raise InputError("is one file, and a comparison has several; give -o a folder", file=request.output)
    with held(request.output):
        return _evaluate(request)


def _inputs(request: EvaluateRequest) -> list[Path]:
    """Return the files that are read and might be in the place of results."""
    given = (*request.predictions, *request.references)
    named = [path for path in (request.table, request.labels) if path is not None]
    return [*given, *named, *([scores_file(request.against)] if request.against else [])]


def _evaluate(request: EvaluateRequest) -> Evaluation:
    # Read first: what is wrong with it costs no time then.
    written = read_scores(request.against) if request.against and holds_scores(request.against) else None
    dataset = None if request.dataset is None else open_stated(request.dataset, request.roots, request.stated)
    references = open_labels(request.references, allow_outside=request.stated.allow_outside)
    paired = pair_up(_predictions(request, request.predictions), references)
    rival = None
    if request.against is not None and written is None:
        rival = pair_up(_predictions(request, (request.against,)), references)
    basis = _basis(request, dataset, [paired] if rival is None else [paired, rival])
    second = _checked(request, basis, paired, written)
    outcome = _score(request, basis, paired)
    other = None if rival is None else _score(request, basis, rival)
    found = _comparison(request, basis, outcome.report, second if other is None else _Rival(other.report))
    comparison = found if isinstance(found, Comparison) else None
    results = Results(outcome.report, None if other is None else other.report, comparison)
    if not is_scores_file(request.output):
        content = _content(request, comparison)
        shown = Shown(paired.pairs, basis.scoring, basis.images)
        results = results._replace(page=results_page(with_pictures(content, outcome.report, shown)))
    write_results(results, request.output)
    check_outcome(outcome, request.output)
    if other is not None:
        check_outcome(other, ScoresFolder(request.output).against.root)
    if isinstance(found, InputError):
        raise with_advice(found, f"the scores are written to {request.output}")
    return Evaluation(outcome.report, comparison)


def _checked(request: EvaluateRequest, basis: _Basis, paired: Paired, written: Scores | None) -> _Rival | None:
    """Check, before much is computed, what columns and a comparison need; return the scores that were written before.

    Raises:
        InputError: a column is in no case, or the scores have nothing in common with what will be scored.
    """
    expected = expected_report(paired.pairs, basis.scoring, basis.cohort)
    check_columns(expected, basis.cohort)
    if request.against is None or written is None:
        return None
    names = _names(request, request.against)
    check_comparable(expected, written, names=names, cohort=basis.cohort)
    return _Rival(summarized(written, basis.cohort), tuple(f"{names[1]}: {line}" for line in written.warnings))


def _content(request: EvaluateRequest, comparison: Comparison | None) -> ResultsInput:
    """Return the head of a report, and what a comparison found."""
    title = names_of(request.predictions[:1])[0] if comparison is None else " against ".join(comparison.names)
    regions = "" if request.regions in (None, "none") else f", regions {request.regions}"
    subtitle = f"Labels of {request.dataset}{regions}" if request.dataset else "Every label value that was found"
    return ResultsInput(title, subtitle, comparison=comparison)


def _predictions(request: EvaluateRequest, paths: Sequence[Path]) -> Segmentations:
    return open_labels(paths, allow_outside=request.stated.allow_outside, may_be_empty=True)


def _basis(request: EvaluateRequest, dataset: Dataset | None, paired: Sequence[Paired]) -> _Basis:
    pairs = [pair for one in paired for pair in one.pairs.values()]
    found = scored_targets(pairs, dataset, request.stated, regions=request.regions, labels=request.labels)
    if unknown := sorted(request.tolerances_mm.keys() - set(found.targets.scored_names)):
        known = ", ".join(found.targets.scored_names)
        raise InputError(f"--tolerance names {', '.join(unknown)}, scored are {known}; choose among them")
    scoring = Scoring(
        found.targets,
        _rules(request),
        found.reading,
        request.missing,
        predicted=found.predicted,
        resample=request.resample is not None,
    )
    cases = list(paired[0].cases.values())
    # What -d says of a case counts before what -r does, which may be no more than its folders tell.
    known_cases = [*(dataset.cases if dataset else ()), *cases]
    cohort = cohort_of(request, attributes_of(known_cases), paired[0].pairs)
    # Of a dataset the names of the channels are known, so that the best one to look at can be told.
    named = shown_images(dataset.cases, [channel.name for channel in dataset.channels]) if dataset else {}
    return _Basis(scoring, cohort, shown_images(cases, ()) | named, found.warnings)


def _rules(request: EvaluateRequest) -> ScoreRules:
    try:
        preset = lesion_preset(request.lesions)
    except ValueError as error:
        raise InputError(f"--lesions: {error}") from None
    rules = {
        "metrics": request.metrics or DEFAULT_METRICS,
        "tolerance_mm": request.tolerance_mm,
        "tolerances_mm": request.tolerances_mm,
        "lesions": preset.rules,
        "label_lesions": dict(preset.by_label),
    }
    return parse_record(ScoreRules, rules, source="--metrics", error=InputError)


def _score(request: EvaluateRequest, basis: _Basis, paired: Paired) -> Outcome:
    found = score_all(paired.pairs, basis.scoring, jobs=request.jobs, failed=paired.refused, cohort=basis.cohort)
    report = found.report.changed(warnings=(*basis.warnings, *found.report.warnings))
    return found._replace(report=report)


def _comparison(
    request: EvaluateRequest, basis: _Basis, report: MetricsReport, rival: _Rival | None
) -> Comparison | InputError | None:
    """Compare with other scores; return why not where what failed left nothing in common, as scores are to be written first."""
    # Where everything failed there is nothing to compare, and the failures are told instead.
    if request.against is None or rival is None or not (report.cases and rival.report.cases):
        return None
    names = _names(request, request.against)
    try:
        return compared(dict(zip(names, (report, rival.report), strict=True)), basis.cohort, taken=rival.taken)
    except InputError as error:
        return error


def _names(request: EvaluateRequest, against: Path) -> tuple[str, str]:
    first, second = names_of((request.predictions[0], against))
    return first, second
