"""See whether a plan is sound, and whether it still fits the dataset on disk."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tumorseg.errors import InputError, PlanError, TumorsegError
from tumorseg.planning.reading.soundness import COUNTED_PARTS, Parsed, check_plan, parse_plan, parsed_parts
from tumorseg.schema.base import Record, record_hash
from tumorseg.schema.dataset import Dataset, name_fault
from tumorseg.schema.findings import Finding, PlanReport, count_findings, finding, finding_of, order_of
from tumorseg.schema.fingerprint import Fingerprint
from tumorseg.schema.plan import Plan
from tumorseg.sources.folders import collecting
from tumorseg.stages.datasets.check import entry_finding
from tumorseg.stages.opening.loaded import (
    Roots,
    check_apart,
    dataset_mismatches,
    find_planned_dataset,
    hash_dataset,
    missing_cases,
    missing_files,
)
from tumorseg.storage.hashing import dataset_hash
from tumorseg.storage.json_files import read_json, read_record
from tumorseg.storage.layout import work_folder


class ValidatePlanRequest(Record):
    """Options of `plan validate`."""

    roots: Roots = Roots()
    """Data and work folder."""
    plan: Path
    """The plan's file."""
    dataset: str | None = None
    """Where the dataset is; where `plan` read it if None."""
    with_data: bool = True
    """Whether to look at the dataset on disk too."""


class _Found(NamedTuple):
    """The dataset on disk, as far as it is there, and what is wrong with it."""

    dataset: Dataset | None
    findings: list[Finding]
    is_whole: bool = False
    """Whether its files can be compared with those that were planned."""


def validate_plan(request: ValidatePlanRequest) -> PlanReport:
    """Look for everything that is wrong with a plan, all at once.

    Raises:
        PlanError: there is no such file.
    """
    if not request.plan.is_file():
        raise PlanError(f"{request.plan}: no such file; expected a plan; check the path")
    parsed = _parse(request.plan)
    found = _Found(None, [])
    if request.with_data and "dataset" in parsed.parts:
        found = _check_data(parsed, request)
    findings = sorted([*check_plan(parsed, _count_memory(parsed)), *found.findings], key=order_of)
    dataset, num_cases = None, 0
    if found.dataset is not None:
        dataset, num_cases = found.dataset.name, len(found.dataset.cases)
    return PlanReport(
        plan=str(request.plan),
        dataset=dataset,
        num_cases=num_cases,
        counts=count_findings(findings),
        findings=tuple(findings),
    )


def _parse(path: Path) -> Parsed:
    try:
        parsed = parse_plan(read_json(path, PlanError))
    except PlanError as error:
        return parsed_parts({}, finding_of(error, "plan_document", file=str(path)))
    # Not `changed`: parts of an unsound plan are missing, and the name may be unsound too.
    named = parsed._replace(plan=parsed.plan.model_copy(update={"name": path.stem}))
    if (fault := name_fault(path.stem)) is None:
        return named
    wrong = finding("plan_document", f"the name {fault}; rename the file", file=str(path))
    return named._replace(parts=parsed.parts - {"name"}, findings=(*parsed.findings, wrong))


def _count_memory(parsed: Parsed) -> dict[str, int]:
    """Return the bytes that each configuration needs, or nothing where something prevents it, which is reported."""
    if not parsed.parts.issuperset(COUNTED_PARTS):
        return {}
    from tumorseg.planning.memory.budgets import needed_bytes
    from tumorseg.planning.memory.counting import MemoryCounter
    from tumorseg.planning.memory.totals import count_configurations

    try:
        counts = count_configurations(parsed.plan, MemoryCounter())
    except PlanError:
        return {}
    return {name: needed_bytes(count) for name, count in counts.items()}


def _check_data(parsed: Parsed, request: ValidatePlanRequest) -> _Found:
    """Compare a plan with the dataset that is there."""
    plan = parsed.plan
    found = _find(plan, request)
    if found.dataset is None:
        return found
    findings = [*found.findings, *(finding("other_dataset", text) for text in dataset_mismatches(plan, found.dataset))]
    if parsed.parts.issuperset(("folds", "kept_from_training")):
        findings += _check_cases(plan, found.dataset)
    if found.is_whole:
        findings += _check_content(parsed, found.dataset, request.roots)
    return found._replace(findings=findings)


def _find(plan: Plan, request: ValidatePlanRequest) -> _Found:
    with collecting() as collected:
        try:
            dataset = find_planned_dataset(plan, request.roots, request.dataset)
        except InputError as error:
            findings = [finding("dataset_not_found", problem.line) for problem in collected.problems]
            return _Found(None, [*findings, finding_of(error, "dataset_not_found")])
    findings = [entry_finding(problem) for problem in collected.problems]
    for case in dataset.cases:
        if case.case_id not in collected.closed:
            for path in missing_files(case):
                message = "no such file; the planned dataset names it; restore it"
                findings.append(finding("missing_file", message, cases=(case.case_id,), file=path))
    channels = [channel.name for channel in dataset.channels]
    is_whole = not findings and channels == [channel.name for channel in plan.dataset.channels]
    return _Found(dataset, findings, is_whole)


def _check_cases(plan: Plan, dataset: Dataset) -> Iterator[Finding]:
    """Yield folds that do not fit the cases that are there."""
    groups = {case.case_id: case.group for case in dataset.cases}
    if unknown := missing_cases(plan, groups):
        message = f"folds name {len(unknown)} cases that {dataset.name} does not have; restore them, or plan anew"
        yield finding("unknown_case", message, cases=tuple(unknown))
    for number, fold in enumerate(plan.folds):
        held_out = {groups.get(case_id) for case_id in fold} - {None}
        others = plan.not_trained_on(number)
        torn = [case_id for case_id, group in groups.items() if group in held_out and case_id not in others]
        if torn:
            names = ", ".join(sorted({str(groups[case_id]) for case_id in torn})[:5])
            message = f"folds.{number}: trains on cases of groups that it holds out ({names}); scores will be too good"
            yield finding("group_on_both_sides", message, cases=tuple(torn))


def _check_content(parsed: Parsed, dataset: Dataset, roots: Roots) -> Iterator[Finding]:
    """Yield whether files are not those that were planned; all that changed since they were last hashed are read."""
    plan = parsed.plan
    expected = plan.dataset.content_hash
    # Hashes are kept by the plan's name, whatever the dataset on disk is called.
    planned = dataset.changed(name=plan.dataset.name)
    try:
        check_apart(planned, roots)
        hashes = hash_dataset(planned, roots)
    except TumorsegError as error:
        yield finding_of(error, error.kind or "unreadable_file")
        return
    if expected is None:
        message = "dataset.content_hash: is null, as the plan was made without the images; whether they are those measured is not known"
        yield finding("unknown_content", message)
    elif dataset_hash(hashes) != expected:
        yield _changed(parsed, hashes, roots)


def _changed(parsed: Parsed, hashes: dict[str, str], roots: Roots) -> Finding:
    """Return that the content changed; which cases did is known where the plan's fingerprint is still kept."""
    plan = parsed.plan
    measured = _measured_hashes(parsed, roots)
    what, cases = "files were changed, added or removed", tuple[str, ...]()
    if measured:
        gone, new = sorted(measured.keys() - hashes.keys()), sorted(hashes.keys() - measured.keys())
        changed = sorted(case_id for case_id in measured.keys() & hashes.keys() if measured[case_id] != hashes[case_id])
        told = []
        for ids, how in ((changed, "changed"), (new, "added"), (gone, "removed")):
            if ids:
                told.append(f"{len(ids)} {'case' if len(ids) == 1 else 'cases'} {how}")
        what = ", ".join(told) or what
        cases = (*changed, *new, *gone)
    message = (
        f"the plan was made for content {plan.dataset.content_hash}, the dataset found has {dataset_hash(hashes)}: {what}; "
        "plan it anew, or point -d at the dataset that was planned"
    )
    return finding("changed_content", message, cases=cases)


def _measured_hashes(parsed: Parsed, roots: Roots) -> dict[str, str]:
    """Return the hash of every case when the plan was made, or nothing where its fingerprint is not kept any more."""
    path = work_folder(roots.work, parsed.plan.dataset.name).fingerprint
    if "fingerprint" not in parsed.parts or not path.is_file():
        return {}
    try:
        measured = read_record(Fingerprint, path)
    except InputError:
        return {}
    if record_hash(measured) != parsed.plan.fingerprint.hash:
        return {}
    return {case.case_id: case.content_hash for case in measured.cases if case.content_hash}
