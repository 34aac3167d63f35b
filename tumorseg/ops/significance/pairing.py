"""Which scores several reports have in common."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from tumorseg.errors import InputError
from tumorseg.ops.significance.few import name_some
from tumorseg.schema.metric_names import METRICS
from tumorseg.schema.metrics import CaseMetrics, MetricsReport

_SAME_VOLUME = 1e-4
"""Share of a volume by which two files may round it differently."""


class Shared(NamedTuple):
    """The scores that several reports share: of the same label of the same case."""

    labels: tuple[str, ...]
    metrics: tuple[str, ...]
    cases: tuple[tuple[CaseMetrics, ...], ...]
    """For each report its scores, alike in case and label, sorted by case."""
    attributes: dict[str, dict[str, str]]
    """Case to what any report knows of it; of two values the first report's."""
    left_out: tuple[tuple[str, ...], ...]
    """For each report the cases that it has and another has not."""
    warnings: tuple[str, ...]

    @property
    def case_ids(self) -> list[str]:
        """Return the cases that all reports have."""
        return list(dict.fromkeys(case.case_id for case in self.cases[0]))

    @property
    def num_cases(self) -> int:
        """Return their number."""
        return len(self.case_ids)

    def only(self, cases: Sequence[CaseMetrics]) -> "Shared":
        """Return what concerns some of the scores of the first report."""
        kept = {(case.case_id, case.label) for case in cases}
        tables = []
        for table in self.cases:
            tables.append(tuple(case for case in table if (case.case_id, case.label) in kept))
        return self._replace(cases=tuple(tables))


def shared_scores(reports: Mapping[str, MetricsReport]) -> Shared:
    """Return what reports have in common.

    Args:
        reports: by the name of their model, at least two.

    Raises:
        InputError: a report scores a label of a case twice, or there is no case, label or metric in common.
    """
    tables = [_by_case(name, report) for name, report in reports.items()]
    keys = [key for key in tables[0] if all(key in table for table in tables[1:])]
    if not keys:
        raise InputError(_nothing_shared(reports))
    labels = tuple(dict.fromkeys(label for _, label in keys))
    metrics, warnings = _metrics(reports, labels)
    ordered = sorted(keys, key=lambda key: (key[0], labels.index(key[1])))
    cases = tuple(tuple(table[key] for key in ordered) for table in tables)
    ids = {case_id for case_id, _ in keys}
    attributes: dict[str, dict[str, str]] = {}
    for report in reports.values():
        for case_id in ids & report.attributes.keys():
            attributes[case_id] = report.attributes[case_id] | attributes.get(case_id, {})
    left_out = tuple(tuple(sorted({case_id for case_id, _ in table} - ids)) for table in tables)
    apart = {name: len(found) for name, found in zip(reports, left_out, strict=True) if found}
    warnings += [*_cases_apart(apart), *_labels_apart(tables, labels), *_other_references(cases)]
    return Shared(labels, metrics, cases, attributes, left_out, tuple(warnings))


def _by_case(name: str, report: MetricsReport) -> dict[tuple[str, str], CaseMetrics]:
    table: dict[tuple[str, str], CaseMetrics] = {}
    for case in report.cases:
        key = case.case_id, case.label
        if key in table:
            raise InputError(
                f"{name} scores {case.label} twice; expected one score per case and label", case_id=case.case_id
            )
        table[key] = case
    return table


def _nothing_shared(reports: Mapping[str, MetricsReport]) -> str:
    """Return why there is no score in common."""
    found = []
    for name, report in reports.items():
        labels = dict.fromkeys(case.label for case in report.cases)
        first = f", such as {report.cases[0].case_id}" if report.cases else ""
        found.append(
            f"{name} has {len({case.case_id for case in report.cases})} cases{first}, of {', '.join(labels) or 'no label'}"
        )
    return f"no label of a case is scored in all: {'; '.join(found)}; expected the same case_ids and labels"


def _metrics(reports: Mapping[str, MetricsReport], labels: Sequence[str]) -> tuple[tuple[str, ...], list[str]]:
    """Return the metrics that all measured alike, and which are left out as they were not."""
    measured = [set(report.metrics) for report in reports.values()]
    common = [name for name in METRICS if all(name in names for names in measured)]
    if not common:
        found = "; ".join(f"{name} has {', '.join(report.metrics)}" for name, report in reports.items())
        raise InputError(f"no metric is measured in all: {found}")
    used = [name for name in common if METRICS[name].has_tolerance]
    # Tables of other programs do not say theirs, which is told where it matters.
    unknown = [name for name, report in reports.items() if report.tolerance_mm is None]
    tolerances = {_tolerances(report, labels) for name, report in reports.items() if name not in unknown}
    if not used or len(tolerances) < 2:
        told = [f"tolerance not known of {', '.join(unknown)}: {', '.join(used)}"] if used and unknown else []
        return tuple(common), told
    kept = tuple(name for name in common if name not in used)
    if not kept:
        raise InputError(
            f"{', '.join(used)} were measured at different tolerances, and nothing else in all; score again at one"
        )
    return kept, [f"measured at different tolerances, and so left out: {', '.join(used)}"]


def _tolerances(report: MetricsReport, labels: Sequence[str]) -> tuple[float | None, ...]:
    return tuple(report.tolerances_mm.get(label, report.tolerance_mm) for label in labels)


def _cases_apart(counts: Mapping[str, int]) -> list[str]:
    """Return a line on how many cases of each model another lacks."""
    named = ", ".join(f"{count} of {name}" for name, count in counts.items())
    return [f"cases that are not in all, and so left out: {named}"] if named else []


def _labels_apart(tables: Sequence[Mapping[tuple[str, str], CaseMetrics]], labels: Sequence[str]) -> list[str]:
    """Return a line on labels that not all reports have."""
    every = dict.fromkeys(label for table in tables for _, label in table)
    apart = [label for label in every if label not in labels]
    return [f"labels that are not in all, and so left out: {', '.join(apart)}"] if apart else []


def _other_references(cases: Sequence[Sequence[CaseMetrics]]) -> list[str]:
    """Return a line on cases whose reference is not of the same volume in all reports."""
    apart = []
    for scores in zip(*cases, strict=True):
        # Tables of other programs may not say them.
        volumes = [score.reference_volume_ml for score in scores if score.reference_volume_ml is not None]
        if volumes and max(volumes) - min(volumes) > _SAME_VOLUME * max(volumes):
            apart.append(f"{scores[0].case_id} {scores[0].label}")
    if not apart:
        return []
    return [f"references differ in volume, as if these were scored against others: {name_some(apart)}"]
