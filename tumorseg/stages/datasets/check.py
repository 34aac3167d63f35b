"""Look for everything that is wrong with a dataset, before hours are spent on it."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tumorseg.errors import InputError
from tumorseg.schema.base import Record
from tumorseg.schema.dataset import Case, Dataset
from tumorseg.schema.findings import CheckReport, Finding, count_findings, finding, finding_of, order_of
from tumorseg.sources.folders import Problem, collecting
from tumorseg.sources.registry import locate_dataset
from tumorseg.stages.datasets.checking.case import CaseFacts, CheckedCase, CheckTask, check_case
from tumorseg.stages.datasets.checking.cohort import check_cohort
from tumorseg.stages.datasets.checking.facts import dataset_facts
from tumorseg.stages.datasets.checking.fix import check_fix_target, write_fixed
from tumorseg.stages.opening.each_case import Steps, each_case
from tumorseg.stages.opening.loaded import Roots
from tumorseg.stages.opening.reading import expected_bytes, largest_first
from tumorseg.stages.opening.stated import Stated, open_stated
from tumorseg.storage.atomic import HTML_ENDINGS, require_file_name
from tumorseg.storage.hashing import case_files


class CheckRequest(Record):
    """Options of `data check`."""

    roots: Roots = Roots()
    """Data and work folder."""
    dataset: str
    """Name, folder or manifest."""
    html: Path | None = None
    """Where to write a page too."""
    fix: Path | None = None
    """A new folder for a copy in which is mended what needs no guess."""
    jobs: int | None = None
    """Processes at most; one per core if None, and never more than memory holds."""
    stated: Stated = Stated()
    """What is stated of the dataset."""


class Checked(NamedTuple):
    """Result of `data check`."""

    report: CheckReport
    fixed: dict[str, tuple[str, ...]]
    """What was mended, by file."""


class _Opened(NamedTuple):
    """A dataset, as far as its source could read it."""

    dataset: Dataset | None
    cases: tuple[Case, ...]
    """Those whose files may be opened."""
    findings: list[Finding]


def check(request: CheckRequest) -> Checked:
    """Check every file of a dataset and every case against the others.

    Raises:
        InputError: there is no such dataset, `html` is no HTML file, or `fix` cannot be made.
        StorageError: the page or the mended copy cannot be written.
    """
    opened = _open(request)
    place = locate_dataset(request.dataset, request.roots.data_root) if opened.dataset else None
    _check_targets(request, opened, place)
    facts, findings = _check_cases(opened, request.jobs)
    if opened.dataset is not None:
        findings += check_cohort(opened.dataset, facts, confirm_labels=request.stated.confirm_labels)
    report = _report(request, opened, facts, findings)
    if request.html is not None:
        _write_page(request.html, report, opened.cases, request.jobs)
    fixed = {}
    if request.fix is not None and place is not None:
        fixed = write_fixed(request.fix, place, opened.cases, report.findings)
    return Checked(report, fixed)


def _open(request: CheckRequest) -> _Opened:
    """Open a dataset; what its source refuses becomes a finding."""
    with collecting() as collected:
        try:
            is_there = locate_dataset(request.dataset, request.roots.data_root) is not None
        except InputError:  # a dataset.json that is not JSON is there
            is_there = True
        findings, dataset = [], None
        try:
            dataset = open_stated(request.dataset, request.roots, request.stated)
        except InputError as error:
            if not is_there:
                raise
            findings = [finding_of(error, "unreadable_dataset")]
    findings += map(entry_finding, collected.problems)
    if dataset is None:
        return _Opened(None, (), findings)
    if not any(case.label for case in dataset.cases):
        findings.append(finding("unlabelled", "no case has a label; this dataset can be predicted on, not trained on"))
    # Where images are not one per channel, nothing says which is which; a closed case has files that must stay unread.
    whole = [case for case in dataset.cases if len(case.images) == len(dataset.channels)]
    cases = tuple(case for case in whole if case.case_id not in collected.closed)
    return _Opened(dataset, cases, findings)


def entry_finding(problem: Problem) -> Finding:
    """Return the finding that a problem of a source becomes."""
    return finding("dataset_entry", problem.text, cases=problem.cases)


def _check_targets(request: CheckRequest, opened: _Opened, place: Path | None) -> None:
    """Refuse early what cannot be written, before hours are spent.

    Raises:
        InputError: the page is no HTML file or a folder, or the copy cannot be made.
        StorageError: the page's folder cannot be written.
    """
    if request.html is not None:
        require_file_name("--html", request.html, HTML_ENDINGS)
    if request.fix is not None:
        if place is None:
            raise InputError(
                f"--fix {request.fix}: {'; '.join(one.message for one in opened.findings)}; mend this first"
            )
        files: list[str] = []
        for case in opened.cases:
            files += case_files(case)
        check_fix_target(request.fix, place, files)


def _check_cases(opened: _Opened, jobs: int | None) -> tuple[list[CaseFacts], list[Finding]]:
    """Check each case by itself; return what is to be compared, in the dataset's order, and the findings."""
    if opened.dataset is None:
        return [], []
    facts: dict[str, CaseFacts] = {}
    findings: list[Finding] = []
    if any(case.label for case in opened.dataset.cases):
        findings += _without_label(opened.cases)

    def take(case_id: str, checked: CheckedCase) -> None:
        findings.extend(checked.findings)
        if checked.facts is not None:
            facts[case_id] = checked.facts

    num_cases, expected = len(opened.cases), expected_bytes(opened.cases)
    steps = Steps("check", num_cases)
    failures = each_case(
        check_case, _tasks(opened), take, num_cases=num_cases, expected_bytes=expected, jobs=jobs, steps=steps
    )
    findings += (finding("check_failed", failure.message, cases=(failure.case_id,)) for failure in failures)
    return [facts[case.case_id] for case in opened.cases if case.case_id in facts], findings


def _tasks(opened: _Opened) -> Iterator[tuple[str, CheckTask]]:
    if opened.dataset is not None:
        description = opened.dataset.description()
        for case in largest_first(opened.cases):
            yield case.case_id, CheckTask(case, description)


def _without_label(cases: tuple[Case, ...]) -> Iterator[Finding]:
    for case in cases:
        if case.label is None:
            message = "there is no label file, expected one as for other cases; restore it, or leave the case out"
            yield finding("missing_label_file", message, cases=(case.case_id,))


def _report(request: CheckRequest, opened: _Opened, facts: list[CaseFacts], findings: list[Finding]) -> CheckReport:
    ordered = sorted([*opened.findings, *findings], key=order_of)
    counts, dataset = count_findings(ordered), opened.dataset
    if dataset is None:
        return CheckReport(
            source=request.dataset, dataset=None, num_cases=0, counts=counts, findings=tuple(ordered), facts={}
        )
    return CheckReport(
        source=request.dataset,
        dataset=dataset.description(),
        num_cases=len(dataset.cases),
        counts=counts,
        findings=tuple(ordered),
        facts=dataset_facts(dataset, facts),
    )


def _write_page(path: Path, report: CheckReport, cases: tuple[Case, ...], jobs: int | None) -> None:
    from tumorseg.reports.check_page import check_html
    from tumorseg.stages.datasets.checking.thumbnails import draw_flagged
    from tumorseg.storage.atomic import write_text

    write_text(path, check_html(report, draw_flagged(report, cases, jobs)))
