"""Opening a plan and the dataset that it was made for, as every verb after `plan` does."""

import logging
import os
from collections.abc import Collection, Generator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

from tumorseg.errors import InputError, PlanError, TumorsegError
from tumorseg.schema.base import Record, parse_record
from tumorseg.schema.dataset import Case, Dataset, DatasetDescription
from tumorseg.schema.plan import Configuration, Plan
from tumorseg.sources.leaving_out import leaving_out
from tumorseg.sources.regions import select_channels
from tumorseg.sources.registry import locate_dataset, open_dataset
from tumorseg.storage.hashing import FileState, HashCache, case_files, combine_hashes, dataset_hash, hash_files
from tumorseg.storage.json_files import read_record, write_record
from tumorseg.storage.layout import WorkFolder, work_folder
from tumorseg.tracking.progress import progress
from tumorseg.workers.machine import num_cores
from tumorseg.workers.outcomes import Failure, failure_lines

logger = logging.getLogger(__name__)

SAVE_EVERY_S = 30.0
"""How often hashes are kept while files are read; those that a killed run read since are read again."""


class Roots(Record):
    """The two folders that every verb knows."""

    data_root: Path = Path("data")
    """Where datasets are looked for."""
    work: Path = Path("runs")
    """Where everything derived is kept."""


class SourceNote(Record):
    """Place where `plan` read a dataset."""

    dataset: str
    """Absolute path of the folder or manifest."""
    data_root: str
    """Absolute; where `plan` looked."""
    allow_outside: bool = False
    """Whether `plan` was allowed to follow what leads out of the folder."""


def note_source(work: WorkFolder, dataset: str, data_root: Path, *, allow_outside: bool = False) -> None:
    """Remember where a dataset was read, for the verbs that come later."""
    found = locate_dataset(dataset, data_root)
    place = os.path.abspath(found or dataset)  # noqa: PTH100 (links stay)
    note = SourceNote(dataset=place, data_root=str(data_root.resolve()), allow_outside=allow_outside)
    before = read_record(SourceNote, work.source, error=InputError) if work.source.is_file() else note
    if before.dataset != place:
        logger.warning(
            "%s was read from %s before, and is read from %s now: later verbs look there, unless they are given -d; give datasets of one "
            "name a --work folder each",
            work.root.name,
            before.dataset,
            place,
        )
    write_record(work.source, note)


def read_plan(path: Path) -> Plan:
    """Read a plan; its name is the stem of its file, whatever it was called when it was made.

    Raises:
        PlanError: it is missing or malformed; the message names every offending field.
    """
    plan = read_record(Plan, path, error=PlanError)
    if plan.name == path.stem:
        return plan
    fields = {field: getattr(plan, field) for field in Plan.model_fields}
    return parse_record(Plan, {**fields, "name": path.stem}, source=str(path), error=PlanError)


def choose_configuration(plan: Plan, name: str | None) -> tuple[str, Configuration]:
    """Return the configuration that is asked for, or the plan's default.

    Raises:
        PlanError: the plan has no such configuration.
    """
    chosen = name or plan.default_configuration
    if chosen not in plan.configurations:
        raise PlanError(
            f"plan {plan.name} has no configuration {chosen!r}; it has {', '.join(sorted(plan.configurations))}"
        )
    return chosen, plan.configurations[chosen]


def open_planned_dataset(plan: Plan, roots: Roots, dataset: str | None = None) -> Dataset:
    """Find the dataset of a plan: where `-d` says, else where `plan` read it, else by its name below the data root.

    Raises:
        InputError: it is not there.
        PlanError: it is another dataset than the plan's.
    """
    found = find_planned_dataset(plan, roots, dataset)
    if problems := dataset_mismatches(plan, found):
        raise PlanError("; ".join(problems))
    planned = {name: getattr(plan.dataset, name) for name in DatasetDescription.model_fields}
    return found.changed(**planned)


def find_planned_dataset(plan: Plan, roots: Roots, dataset: str | None = None) -> Dataset:
    """Return the dataset that is there, with the plan's channels if it has them; it may be another one than the plan's.

    Cases that the plan does not use are passed over, whatever became of their files.

    Raises:
        InputError: there is none.
    """
    with leaving_out(plan.dataset.selection()):
        found = _open_noted(plan, roots) if dataset is None else _open_named(plan, roots, dataset)
    expected = [channel.name for channel in plan.dataset.channels]
    if set(expected) <= {channel.name for channel in found.channels}:
        found = select_channels(found, expected)
    return found


def _open_named(plan: Plan, roots: Roots, name: str) -> Dataset:
    """Open what `-d` says; where it is what `plan` read, as `plan` was allowed to."""
    note_path = work_folder(roots.work, plan.dataset.name).source
    note = read_record(SourceNote, note_path, error=InputError) if note_path.is_file() else None
    place = locate_dataset(name, roots.data_root)
    is_noted = note is not None and place is not None and place.resolve() == Path(note.dataset).resolve()
    allowed = note is not None and is_noted and note.allow_outside
    return open_dataset(name, roots.data_root, labels=plan.dataset.labels, allow_outside=allowed)


def _open_noted(plan: Plan, roots: Roots) -> Dataset:
    note_path = work_folder(roots.work, plan.dataset.name).source
    if not note_path.is_file():
        return open_dataset(plan.dataset.name, roots.data_root, labels=plan.dataset.labels)
    note = read_record(SourceNote, note_path, error=InputError)
    if locate_dataset(note.dataset, Path(note.data_root)) is None:
        logger.info("%s is no longer there; looking below %s", note.dataset, roots.data_root)
        return open_dataset(plan.dataset.name, roots.data_root, labels=plan.dataset.labels)
    return open_dataset(
        note.dataset, Path(note.data_root), labels=plan.dataset.labels, allow_outside=note.allow_outside
    )


def dataset_mismatches(plan: Plan, found: Dataset) -> list[str]:
    """Return what shows that a dataset is another one than the plan's: channels, label values."""
    problems = []
    expected = [channel.name for channel in plan.dataset.channels]
    actual = [channel.name for channel in found.channels]
    if actual != expected:
        problems.append(
            f"plan {plan.name} is for channels {expected}, dataset {found.name} has {actual}; plan this dataset anew"
        )
    values, planned = set(found.labels.values()), set(plan.dataset.labels.values())
    # The background is 0 whether a dataset names it or not.
    if values | {0} != planned | {0}:
        problems.append(
            f"plan {plan.name} is for label values {sorted(planned)}, dataset {found.name} has {sorted(values)}; "
            "plan this dataset anew"
        )
    return problems


def check_apart(dataset: Dataset, roots: Roots) -> None:
    """Refuse to keep derived files inside the dataset's own folder.

    Raises:
        InputError: the dataset's images lie below its work folder.
    """
    work = work_folder(roots.work, dataset.name).root.resolve()
    if dataset.cases and Path(dataset.cases[0].images[0].path).resolve().is_relative_to(work):
        raise InputError(
            f"--work {roots.work} would put derived files into the dataset's own folder {work}; give another",
            kind="work_in_dataset",
        )


def check_content(plan: Plan, dataset: Dataset, roots: Roots) -> dict[str, str]:
    """Return the hash of every case by case_id, reading only files that changed since they were last hashed.

    Raises:
        PlanError: the dataset's content is not what was planned.
        InputError: files are missing; all are counted.
    """
    check_apart(dataset, roots)
    gone: list[str] = []
    for case in dataset.cases:
        gone += missing_files(case)
    if gone:
        raise InputError(
            f"{dataset.name}: {len(gone)} files of the planned dataset are missing: {', '.join(gone[:5])}; restore them"
        )
    hashes = hash_dataset(dataset, roots)
    expected, actual = plan.dataset.content_hash, dataset_hash(hashes)
    if expected is not None and actual != expected:
        raise PlanError(
            f"plan {plan.name} was made for {plan.dataset.name} with content {expected}, the dataset found has {actual}: "
            f"{_what_changed(plan, hashes)}; plan it anew, or point -d at the dataset that was planned"
        )
    if missing := missing_cases(plan, hashes):
        raise PlanError(f"plan {plan.name} names cases that {dataset.name} does not have: {', '.join(missing[:5])}")
    return hashes


def _what_changed(plan: Plan, hashes: Mapping[str, str]) -> str:
    named = _named_cases(plan)
    planned = {case_id: found for case_id, found in hashes.items() if case_id in named}
    if dataset_hash(planned) != plan.dataset.content_hash:
        return "files were changed, added or removed"
    others = sorted(hashes.keys() - named)
    return f"cases that the plan does not know are there ({', '.join(others[:5])}); remove them, or give plan --exclude"


def missing_cases(plan: Plan, known: Collection[str]) -> list[str]:
    """Return the cases that a plan's folds and lists name and that are not there, sorted."""
    return sorted(_named_cases(plan) - set(known))


def _named_cases(plan: Plan) -> set[str]:
    return set().union(*plan.folds, *plan.kept_from_training, plan.dataset.listed or ())


def missing_files(case: Case) -> list[str]:
    """Return the files of a case that are not there."""
    return [path for path in case_files(case) if not Path(path).is_file()]


def hash_dataset(dataset: Dataset, roots: Roots) -> dict[str, str]:
    """Return the hash of every case by case_id, reading only files that changed since they were last hashed.

    Raises:
        InputError: a file is missing or cannot be read.
    """
    return _hash_cases(dataset.cases, HashCache(work_folder(roots.work, dataset.name).hashes))


def _hash_cases(cases: Sequence[Case], cache: HashCache) -> dict[str, str]:
    """Return the hash of every case, reading the files of those that are not in the cache, several at once."""
    known = {case.case_id: cache.case_hash(case) for case in cases}
    unknown = [case for case in cases if known[case.case_id] is None]
    if unknown:
        with progress("hash", len(unknown)) as advance, closing(_read_ahead(unknown)) as states_of_cases:
            for case, states in zip(unknown, states_of_cases, strict=True):
                cache.remember(states)
                cache.save_now_and_then(SAVE_EVERY_S)
                hashes = {path: state.digest for path, state in states.items()}
                known[case.case_id] = combine_hashes(case, hashes)
                advance()
        cache.save()
    return {case_id: found for case_id, found in known.items() if found}


def _read_ahead(cases: Sequence[Case]) -> Generator[dict[str, FileState]]:
    """Yield the file states of each case in turn; threads read on meanwhile, and stop when the iterator is closed."""
    # Not in `with`, which would read all that is left before an error of one case is heard.
    pool = ThreadPoolExecutor(num_cores())
    try:
        yield from pool.map(lambda case: hash_files(case_files(case)), cases)
    finally:
        pool.shutdown(cancel_futures=True)


def failed_cases(failures: list[Failure], num_cases: int, what: str) -> TumorsegError:
    """Return the error that ends a stage of which some cases failed: one line for each."""
    reason = f"{what}: {len(failures)} of {num_cases} cases failed, the others are finished:"
    return TumorsegError(reason, lines=failure_lines(failures))
