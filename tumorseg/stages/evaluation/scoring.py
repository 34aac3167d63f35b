"""Score pairs of prediction and reference, in processes of their own."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from tumorseg.errors import InputError, TumorsegError, with_advice
from tumorseg.ops.summaries import metrics_report
from tumorseg.reports.tables import cases_text
from tumorseg.schema.metrics import CaseMetrics, Intervals, MetricsReport, Missing
from tumorseg.schema.quantities import GB
from tumorseg.stages.evaluation.case_scoring import Scored, ScoreTask, Scoring, score_case
from tumorseg.stages.opening.each_case import Steps, each_case
from tumorseg.stages.opening.loaded import failed_cases
from tumorseg.stages.opening.reading import file_bytes
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


class Cohort(NamedTuple):
    """What is known of the cases, and how their scores are summarised."""

    attributes: Mapping[str, Mapping[str, str]] = {}
    """Case to column to value, such as `group` and `site`; of cases that are not scored too."""
    intervals: Intervals = Intervals()
    """How confidence intervals are computed."""
    subgroups: tuple[str, ...] = ()
    """Columns by whose values cases are summarised apart."""


class Outcome(NamedTuple):
    """What came of scoring pairs."""

    report: MetricsReport
    failures: tuple[Failure, ...]
    """Of cases that could not be scored, those without a prediction among them where that is refused."""
    num_cases: int
    """All cases, scored or not."""
    missing: Missing = "refuse"
    """What became of cases whose prediction is missing."""


def score_all(
    pairs: Mapping[str, Pair],
    scoring: Scoring,
    *,
    jobs: int | None = None,
    failed: Sequence[Failure] = (),
    cohort: Cohort = Cohort(),  # noqa: B008 (immutable)
) -> Outcome:
    """Score pairs of prediction and reference by case_id; nothing is written yet, and what failed is returned.

    Args:
        pairs: their files.
        scoring: how they are read and scored.
        jobs: processes; as many as the machine holds if None.
        failed: cases whose prediction or reference cannot be used; they may be among the pairs.
        cohort: what is known of the cases, and how scores are summarised.
    """
    # A prediction that was refused is told as failed, and not as missing too.
    known = {failure.case_id for failure in failed}
    missing = sorted(case_id for case_id, (prediction, _) in pairs.items() if not prediction and case_id not in known)
    tasks = [ScoreTask(case_id, *files, scoring) for case_id, files in sorted(pairs.items())]
    if scoring.missing != "worst":
        tasks = [task for task in tasks if task.prediction]
    scored, failures = _score(tasks, jobs)
    failures += failed
    every = {*pairs, *known}
    report = _summarize(scored, scoring, cohort).changed(
        failed=tuple(sorted({failure.case_id for failure in failures})),
        missing=tuple(missing),
        is_complete=every <= scored.keys(),
    )
    if scoring.missing == "refuse":
        failures += (Failure(case_id, "found no prediction") for case_id in missing)
    return Outcome(report, tuple(failures), len(every), scoring.missing)


def _summarize(scored: Mapping[str, Scored], scoring: Scoring, cohort: Cohort) -> MetricsReport:
    metrics: list[CaseMetrics] = []
    for case_id in sorted(scored):
        metrics += scored[case_id].metrics
    try:
        report = _report(metrics, scoring, cohort)
    except InputError as error:
        # Columns were checked for all cases, so that those that have them failed; what was scored is summarised all the same.
        plain = cohort._replace(intervals=cohort.intervals.changed(cluster=None), subgroups=())
        report = _report(metrics, scoring, plain)
        report = report.changed(
            warnings=(*report.warnings, f"without clusters and subgroups: {error.reason.partition(';')[0]}")
        )
    resampled = sorted(case_id for case_id, one in scored.items() if one.is_resampled)
    if not resampled:
        return report
    count = f"{len(resampled)} of {len(scored)} predictions"
    warning = f"{count} lay on another grid than their reference and were resampled onto it by nearest neighbour: {cases_text(resampled)}"
    return report.changed(warnings=(*report.warnings, warning))


def _report(metrics: Sequence[CaseMetrics], scoring: Scoring, cohort: Cohort) -> MetricsReport:
    return metrics_report(
        metrics,
        rules=scoring.rules,
        intervals=cohort.intervals,
        attributes=_of_cases(cohort.attributes, {case.case_id for case in metrics}),
        subgroup_columns=cohort.subgroups,
    )


def _of_cases(attributes: Mapping[str, Mapping[str, str]], case_ids: Collection[str]) -> dict[str, dict[str, str]]:
    """Return what is known of some cases."""
    return {case_id: dict(known) for case_id, known in sorted(attributes.items()) if case_id in case_ids and known}


def check_outcome(outcome: Outcome, output: Path) -> None:
    """Raise what failed, once the scores of the others are written.

    Raises:
        TumorsegError: a line for each case.
    """
    if not outcome.failures:
        return
    report = outcome.report
    marked = "" if report.is_complete else ", marked as incomplete"
    advice = f"; {PREDICT_TOO}" if report.missing and outcome.missing == "refuse" else ""
    error: TumorsegError = failed_cases(list(outcome.failures), outcome.num_cases, "evaluation")
    raise with_advice(error, f"the scores are written to {output}{marked}{advice}")


def _score(tasks: Sequence[ScoreTask], jobs: int | None) -> tuple[dict[str, Scored], list[Failure]]:
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
    return scored, failures


def _size(task: ScoreTask) -> int:
    return sum(map(file_bytes, (*task.prediction, *task.reference)))
