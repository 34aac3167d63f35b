"""Findings of `data check` in a dataset, and of `plan validate` in a plan."""

from collections.abc import Sequence
from typing import Literal

from tumorseg.errors import TumorsegError, escaped, quoted
from tumorseg.schema.base import Record
from tumorseg.schema.dataset import DatasetDescription

Severity = Literal["error", "warning", "note"]

SEVERITIES: dict[str, Severity] = {
    # Of a dataset.
    "unreadable_dataset": "error",
    "dataset_entry": "error",
    "missing_file": "error",
    "unreadable_file": "error",
    "bad_affine": "error",
    "channel_count": "error",
    "check_failed": "error",
    "missing_label_file": "error",
    "channel_elsewhere": "error",
    "label_shape": "error",
    "label_grid": "error",
    "not_finite": "error",
    "constant_image": "error",
    "repeated_channel": "error",
    "label_is_image": "error",
    "non_integer_label": "error",
    "unknown_label": "error",
    "doubtful_labels": "error",
    "absent_label": "error",
    "duplicate_across_folds": "error",
    "duplicate_labels_differ": "error",
    "shared_channel": "error",
    "unlabelled": "warning",
    "channel_grid": "warning",
    "label_header": "warning",
    "cropped_label": "warning",
    "forms_disagree": "warning",
    "constant_channel": "warning",
    "empty_label": "warning",
    "many_labels": "warning",
    "duplicate_image": "warning",
    "duplicate_label": "warning",
    "near_duplicate": "warning",
    "intensity_outlier": "warning",
    "intensity_unit": "warning",
    "spacing_outlier": "warning",
    "orientation_outlier": "warning",
    "sides_swapped": "warning",
    "sides_reversed": "warning",
    "reading": "warning",
    "label_type": "note",
    "no_air": "note",
    "intensity_groups": "note",
    "spacing_groups": "note",
    "label_not_in_case": "note",
    "rare_label": "note",
    "tiny_components": "note",
    "left_handed": "note",
    "reoriented": "note",
    "oblique": "note",
    "ungrouped_cases": "note",
    # Of a plan.
    "plan_document": "error",
    "plan_contradiction": "error",
    "over_budget": "error",
    "batch_too_small": "error",
    "empty_range": "error",
    "bad_folds": "error",
    "missing_extension": "error",
    "dataset_not_found": "error",
    "other_dataset": "error",
    "changed_content": "error",
    "unknown_case": "error",
    "work_in_dataset": "error",
    "group_on_both_sides": "warning",
    "untrainable_cascade": "warning",
    "mirrors_sides": "warning",
    "unseen_views": "warning",
    "stale_reason": "warning",
    "stale_prediction": "warning",
    "unknown_content": "warning",
    "never_held_out": "note",
}
"""Every kind of finding and how grave it is: an error stops the work or makes it wrong, a warning wants a look, a note is to know."""
RANKS: dict[Severity, int] = {"error": 0, "warning": 1, "note": 2}
"""The order in which findings are shown."""
FIXABLE = ("label_header", "forms_disagree", "label_type")
"""Kinds that `--fix` mends in NIfTI files."""


class Finding(Record):
    """One problem, or one thing to know."""

    severity: Severity
    """As the kind's, unless the user confirmed it."""
    kind: str
    """A name of `SEVERITIES`."""
    case_ids: tuple[str, ...] = ()
    """The cases that it is about; empty for the dataset as a whole."""
    message: str
    """One line: what was found, what was expected, what to do."""
    file: str | None = None
    """The file to look at."""


def finding(kind: str, message: str, *, cases: tuple[str, ...] = (), file: str | None = None) -> Finding:
    """Return a finding, its texts on one line and printable."""
    return Finding(
        severity=SEVERITIES[kind],
        kind=kind,
        case_ids=cases,
        message=quoted(" ".join(message.split())),
        file=None if file is None else escaped(file),
    )


def finding_of(error: TumorsegError, kind: str, *, cases: tuple[str, ...] = (), file: str | None = None) -> Finding:
    """Return the finding that an error becomes; its message does not repeat the case and the file of the finding."""
    message = error.text(case_id=cases[0] if cases else None, file=file)
    return finding(kind, message, cases=cases, file=file)


def order_of(found: Finding) -> tuple[int, str, tuple[str, ...], str, str]:
    """Return what findings are sorted by: the gravest first, then by kind and case."""
    return RANKS[found.severity], found.kind, found.case_ids, found.file or "", found.message


def count_findings(findings: Sequence[Finding]) -> dict[Severity, int]:
    """Return the number of findings of each severity, the gravest first."""
    # From all severities, so that those without findings have their 0.
    counts = dict.fromkeys(RANKS, 0)
    for found in findings:
        counts[found.severity] += 1
    return counts


class CheckReport(Record):
    """The result of `data check`."""

    source: str
    """What `-d` said."""
    dataset: DatasetDescription | None
    """What was checked; null where it could not be opened."""
    num_cases: int
    """Cases that were looked at."""
    counts: dict[Severity, int]
    """Number of findings of each severity."""
    findings: tuple[Finding, ...]
    """The gravest first."""
    facts: dict[str, tuple[tuple[str, str], ...]]
    """Heading to (name, value) pairs: what the dataset looks like as a whole."""

    @property
    def has_errors(self) -> bool:
        """Whether something has to be mended."""
        return self.counts["error"] > 0


class PlanReport(Record):
    """The result of `plan validate`."""

    plan: str
    """The file."""
    dataset: str | None
    """Name of the dataset on disk; null where there was none to look at, or it was not asked for."""
    num_cases: int
    """Its cases."""
    counts: dict[Severity, int]
    """Number of findings of each severity."""
    findings: tuple[Finding, ...]
    """The gravest first."""

    @property
    def has_errors(self) -> bool:
        """Whether the plan must not be used as it is."""
        return self.counts["error"] > 0
