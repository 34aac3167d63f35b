"""What can be told to fail before anything is scored: columns that no case has, scores that have nothing in common."""

from collections.abc import Collection, Iterator
from contextlib import contextmanager

from tumorseg.errors import InputError
from tumorseg.ops.significance.pairing import shared_scores
from tumorseg.ops.significance.scores import check_cluster_column
from tumorseg.ops.subgroups import SIZE as VOLUME
from tumorseg.ops.subgroups import split_by
from tumorseg.schema.metrics import CaseMetrics, MetricsReport
from tumorseg.stages.evaluation.case_scoring import Scoring
from tumorseg.stages.evaluation.cohorts import SIZE
from tumorseg.stages.evaluation.scoring import Cohort
from tumorseg.stages.evaluation.tables_in import Scores


@contextmanager
def in_users_words() -> Iterator[None]:
    """Call the size of structures in messages as the user does.

    Raises:
        InputError: that is raised inside.
    """
    try:
        yield
    except InputError as error:
        raise InputError(error.reason.replace(VOLUME, SIZE), case_id=error.case_id, file=error.file) from None


def expected_report(case_ids: Collection[str], scoring: Scoring, cohort: Cohort) -> MetricsReport:
    """Return the document of scores that are not there yet: each is undefined, of a structure that is there.

    Args:
        case_ids: that will be scored.
        scoring: by what.
        cohort: what is known of them.
    """
    cases: list[CaseMetrics] = []
    scores = dict.fromkeys(scoring.rules.metrics)
    # Any volume above 0 does: it only has to be known.
    volumes = {"prediction_volume_ml": 1.0, "reference_volume_ml": 1.0}
    for case_id in sorted(case_ids):
        for label in scoring.targets.scored_names:
            cases.append(CaseMetrics(case_id=case_id, label=label, scores=dict(scores), **volumes))
    return MetricsReport(
        definitions={},
        metrics=scoring.rules.metrics,
        tolerance_mm=scoring.rules.tolerance_mm,
        tolerances_mm=scoring.rules.tolerances_mm,
        cases=tuple(cases),
        attributes={case_id: dict(known) for case_id, known in cohort.attributes.items()},
        summary={},
    )


def check_columns(expected: MetricsReport, cohort: Cohort) -> None:
    """Check that the columns of clusters and subgroups fit the cases.

    Raises:
        InputError: one is in no case, has too many values, or has no such edges.
    """
    with in_users_words():
        check_cluster_column(_ids(expected.cases), expected.attributes, cohort.intervals.cluster)
        split_by(expected.cases, expected.attributes, cohort.subgroups)


def check_comparable(expected: MetricsReport, written: Scores, *, names: tuple[str, str], cohort: Cohort) -> None:
    """Check that scores to come can be compared with others.

    Args:
        expected: scores to come.
        written: scores that are there.
        names: of the two models.
        cohort: by which columns they are compared.

    Raises:
        InputError: they have no case, label or metric in common, or a column does not fit those that they have.
    """
    # Not summarised yet, as that takes columns for granted.
    other = written.report or expected.changed(tolerance_mm=None, metrics=written.metrics, cases=written.cases)
    with in_users_words():
        shared = shared_scores(dict(zip(names, (expected, other), strict=True)))
    check_columns(expected.changed(cases=shared.cases[0], attributes=shared.attributes), cohort)


def _ids(cases: Collection[CaseMetrics]) -> list[str]:
    return list(dict.fromkeys(case.case_id for case in cases))
