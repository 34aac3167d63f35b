"""Compare the scores of models that were written before: two of them case by case, or several by their ranks."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from pydantic import Field

from tumorseg.errors import InputError
from tumorseg.ops.significance.comparing import compare
from tumorseg.ops.significance.ranking import rank
from tumorseg.ops.summaries import metrics_report
from tumorseg.reports.results.page import Page, ResultsInput, results_page
from tumorseg.reports.results.summaries import summary_section
from tumorseg.schema.comparisons import Comparison, ComparisonRules, Ranking
from tumorseg.schema.metrics import CaseMetrics, MetricsReport
from tumorseg.schema.score_rules import ScoreRules
from tumorseg.stages.evaluation.beforehand import in_users_words
from tumorseg.stages.evaluation.cohorts import SummaryOptions, cohort_of
from tumorseg.stages.evaluation.results import (
    Results,
    check_apart,
    check_replaceable,
    held,
    is_scores_file,
    write_results,
)
from tumorseg.stages.evaluation.scoring import Cohort
from tumorseg.stages.evaluation.tables_in import Scores, read_scores, scores_file
from tumorseg.storage.layout import ScoresFolder

logger = logging.getLogger(__name__)

LESION_RULES = "lesions"
"""How the key of a definition begins that says by which rules lesions were matched."""
FROM_TABLE = "Read from a table, which does not say how they were measured"


class CompareRequest(SummaryOptions):
    """Options of `compare`."""

    tables: tuple[Path, ...] = Field(min_length=1)
    """Scores of a model each: metrics.json, the folder of one, or a CSV file with the columns `case_id`, `label` and metrics."""
    against: Path | None = None
    """Scores of the model that the first, and only, one is compared with."""
    output: Path | None = None
    """Folder for what is found, or one file for the summarised scores of a single model; nothing is written if None."""


class Compared(NamedTuple):
    """Scores of models, and what tells them apart."""

    reports: dict[str, MetricsReport]
    """By name of the model, in the order given."""
    comparison: Comparison | None = None
    """Of the first against the second, if that was asked for."""
    ranking: Ranking | None = None
    """Of all, where there are several."""


def compare_scores(request: CompareRequest) -> Compared:
    """Summarise scores that were written before, compare two models, or rank several; no image is needed.

    Raises:
        InputError: a table is malformed, an option does not fit, or no score is in common.
        StorageError: the results cannot be written.
    """
    if request.against is not None and len(request.tables) > 1:
        raise InputError(
            f"--against compares two models, and --from names {len(request.tables)}; give one, or --from alone to rank all"
        )
    paths = (*request.tables, *((request.against,) if request.against else ()))
    if request.output is not None:
        check_replaceable(request.output)
        check_apart(request.output, [*map(scores_file, paths), *([request.table] if request.table else [])])
        if is_scores_file(request.output) and len(paths) > 1:
            raise InputError("is one file, and a comparison has several; give -o a folder", file=request.output)
    found = _compare(request, paths)
    if request.output is not None:
        with held(request.output):
            write_results(_results(found), request.output)
    return found


def _compare(request: CompareRequest, paths: Sequence[Path]) -> Compared:
    scores = dict(zip(names_of(paths), map(read_scores, paths), strict=True))
    cohort = _cohort(request, list(scores.values()))
    reports = {name: summarized(one, cohort, request.metrics) for name, one in scores.items()}
    taken = [f"{name}: {line}" for name, one in scores.items() for line in one.warnings]
    if request.against is not None:
        return Compared(reports, comparison=compared(reports, cohort, taken=taken))
    if len(reports) == 1:
        return Compared(reports)
    # What was asked for by name is ranked by, not the default metrics among it alone.
    chosen = [name for name in request.metrics if all(name in report.metrics for report in reports.values())]
    with in_users_words():
        ranking = rank(reports, rules=comparison_rules(cohort), metrics=chosen)
    told = (*ranking.warnings, *_defined_otherwise(reports), *taken)
    return Compared(reports, ranking=ranking.changed(warnings=told))


def _cohort(request: CompareRequest, scores: Sequence[Scores]) -> Cohort:
    attributes: dict[str, dict[str, str]] = {}
    case_ids: dict[str, None] = {}
    for one in scores:
        case_ids |= dict.fromkeys(case.case_id for case in one.cases)
        for case_id, known in one.attributes.items():
            # What an earlier table says of a case counts.
            attributes[case_id] = {**known, **attributes.get(case_id, {})}
    return cohort_of(request, attributes, case_ids)


def compared(reports: Mapping[str, MetricsReport], cohort: Cohort, *, taken: Sequence[str] = ()) -> Comparison:
    """Compare two models over the cases that both have.

    Args:
        reports: by name, two of them.
        cohort: how intervals are computed, and by which columns cases are compared apart.
        taken: what had to be taken for granted where scores were read from tables.

    Raises:
        InputError: they have no score in common.
    """
    first, second = reports
    with in_users_words():
        found = compare(reports[first], reports[second], names=(first, second), rules=comparison_rules(cohort))
    return found.changed(warnings=(*found.warnings, *_defined_otherwise(reports), *taken))


def comparison_rules(cohort: Cohort) -> ComparisonRules:
    """Return the rules of comparisons that go with a summary's."""
    return ComparisonRules(intervals=cohort.intervals, subgroup_columns=cohort.subgroups)


def _defined_otherwise(reports: Mapping[str, MetricsReport]) -> list[str]:
    """Return a line for each metric that models were scored by in other ways, as far as their documents say."""
    lines = []
    (first, one), *others = reports.items()
    for name, other in others:
        # Documents of other programs state nothing; where both state something, they have to agree.
        stated = one.definitions.keys() & other.definitions.keys()
        rules = [key for key in sorted(stated) if key.partition(":")[0] == LESION_RULES]
        for key in (*(metric for metric in one.metrics if metric in other.metrics and metric in stated), *rules):
            if one.definitions[key] != other.definitions[key]:
                lines.append(
                    f"{key} is defined otherwise for {first} than for {name}; score both with one version and the same options"
                )
    return lines


def summarized(scores: Scores, cohort: Cohort, metrics: Sequence[str] = ()) -> MetricsReport:
    """Return the document of scores that were written before, summarised anew.

    Args:
        scores: of one model.
        cohort: how they are summarised.
        metrics: which; all that are there if empty.

    Raises:
        InputError: some are not there, or a column of the cohort is in no case.
    """
    chosen = tuple(name for name in metrics or scores.metrics if name in scores.metrics)
    if not chosen:
        raise InputError(
            f"--metrics: the scores have none of {', '.join(metrics)}; they have {', '.join(scores.metrics)}; choose among them"
        )
    if len(chosen) < len(metrics):
        logger.warning("the scores have no %s", ", ".join(name for name in metrics if name not in chosen))
    before = scores.report
    known = {} if before is None or before.tolerance_mm is None else {"tolerance_mm": before.tolerance_mm}
    case_ids = {case.case_id for case in scores.cases}
    with in_users_words():
        report = metrics_report(
            [_with(case, chosen) for case in scores.cases],
            rules=ScoreRules(metrics=chosen, tolerances_mm=before.tolerances_mm if before else {}, **known),
            intervals=cohort.intervals,
            attributes={case_id: found for case_id, found in cohort.attributes.items() if case_id in case_ids},
            subgroup_columns=cohort.subgroups,
        )
    return report.changed(
        definitions=_definitions(before, report),
        tolerance_mm=None if before is None else before.tolerance_mm,
        failed=scores.failed,
        missing=scores.missing,
        warnings=(*report.warnings, *scores.warnings),
        is_complete=before.is_complete if before else case_ids >= {*scores.failed, *scores.missing},
    )


def _with(case: CaseMetrics, metrics: Sequence[str]) -> CaseMetrics:
    if tuple(case.scores) == tuple(metrics):
        return case
    return case.changed(scores={name: case.scores.get(name) for name in metrics})


def _definitions(before: MetricsReport | None, report: MetricsReport) -> dict[str, str]:
    """Return what figures mean: scores as they were measured, summaries as they are made now."""
    ours = {
        name: text for name, text in report.definitions.items() if name == "summary" or name.startswith("subgroups")
    }
    return {"scores": FROM_TABLE} | ours if before is None else before.definitions | ours


def _results(found: Compared) -> Results:
    (name, report), *others = found.reports.items()
    if found.ranking is not None:
        return Results(None, ranking=found.ranking, page=_ranking_page(found))
    title = name if not others else f"{name} against {others[0][0]}"
    content = ResultsInput(title, "Scores of tables", metrics=report, comparison=found.comparison)
    return Results(report, comparison=found.comparison, page=results_page(content))


def _ranking_page(found: Compared) -> Page:
    sections = [summary_section(report)._replace(heading=name) for name, report in found.reports.items()]
    content = ResultsInput("Ranking", f"{len(found.reports)} models", ranking=found.ranking, sections=sections)
    return results_page(content)


def names_of(paths: Sequence[Path]) -> tuple[str, ...]:
    """Return a name for the scores or predictions at each path: the end of the path, as long as it takes to tell them apart."""
    parts = []
    for path in paths:
        whole = path.absolute()
        is_table = not whole.is_dir() and whole.suffix.lower() in (".json", ".csv")
        named = whole.with_suffix("") if is_table else whole
        parts.append(named.parent.parts if is_table and named.name == ScoresFolder(path).metrics.stem else named.parts)
    for length in range(1, max(map(len, parts)) + 1):
        names = tuple("/".join(part[-length:]) for part in parts)
        if len(set(names)) == len(names):
            return names
    # One and the same place was given twice.
    return tuple(f"{number}: {part[-1]}" for number, part in enumerate(parts, start=1))
