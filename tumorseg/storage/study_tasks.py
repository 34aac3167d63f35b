"""Tasks of a study as files: opened by the coordinator, claimed by renaming, answered line by line.

A name says all: `open/<stem>.<attempt>.json` waits, `claimed/<stem>.<attempt>@<worker>.json` is taken. Only the coordinator makes and
removes these files. A rename succeeds once, also on network drives, so that of two workers one gets the task.
"""

import re
from pathlib import Path
from typing import NamedTuple

from tumorseg.errors import PlanError
from tumorseg.schema.base import load_json, parse_record
from tumorseg.schema.tuning import Task
from tumorseg.storage.atomic import remove_file, storage_error, write_text
from tumorseg.storage.json_files import write_record
from tumorseg.storage.study_attempts import begun_attempts
from tumorseg.storage.study_folder import StudyFolder, names_in, require_version, text_of

# Lower case: some file systems do not tell `a` from `A`. Neither part holds what stands between them.
_STEM = re.compile(r"[a-z0-9][a-z0-9_-]*")
_FILE = re.compile(r"(?P<stem>[a-z0-9][a-z0-9_-]*)\.(?P<attempt>\d+)(@(?P<worker>[a-z0-9-]+))?\.json")


class TaskFile(NamedTuple):
    """A task that is open or claimed."""

    stem: str
    attempt: int
    worker: str
    """Who claimed it; empty while it is open."""
    path: Path


class Claim(NamedTuple):
    """A task that a worker has taken."""

    file: TaskFile
    task: Task

    def holds(self) -> bool:
        """Return whether it is still this worker's: the coordinator takes it back from one that was silent for too long."""
        return self.file.path.exists()


def open_task(folder: StudyFolder, task: Task, attempt: int) -> None:
    """Let workers take a task.

    Raises:
        ValueError: its stem is no name that every file system takes.
        StorageError: the folder cannot be written.
    """
    if not _STEM.fullmatch(task.stem):
        raise ValueError(f"{task.stem!r} must consist of a-z, 0-9, - and _")
    write_record(folder.open / f"{task.stem}.{attempt}.json", task)


def open_tasks(folder: StudyFolder) -> list[TaskFile]:
    """Return the tasks that wait, sorted; whoever asks for both kinds asks for these first, or may miss one that is just being claimed."""
    return _task_files(folder.open)


def claimed_tasks(folder: StudyFolder) -> list[TaskFile]:
    """Return the tasks that are taken, sorted."""
    return _task_files(folder.claimed)


def claim_task(folder: StudyFolder, worker: str, version: str) -> Claim | None:
    """Take the first task that waits.

    Args:
        folder: of the study.
        worker: name of this worker.
        version: of tumorseg that it runs.

    Returns:
        The task, or None if there is none left.

    Raises:
        PlanError: a coordinator of another version of tumorseg has opened it.
        StorageError: the folder cannot be written.
    """
    for file in open_tasks(folder):
        task = _read_task(file.path, version)
        if task is None:
            continue
        path = folder.claimed / f"{file.stem}.{file.attempt}@{worker}.json"
        if _is_renamed(file.path, path):
            return Claim(file._replace(worker=worker, path=path), task)
    return None


def settle_task(folder: StudyFolder, stem: str) -> None:
    """Take a task back for good, and what its trainings needed only to go on; a worker that is still at it leaves it.

    Raises:
        StorageError: the folder cannot be written.
    """
    write_text(folder.stop(stem), "")
    remove_task_files(folder, stem)
    for number in begun_attempts(folder, stem):
        fold = folder.attempt(stem, number).fold
        remove_file(fold.latest)
        remove_file(fold.best)


def remove_task_files(folder: StudyFolder, stem: str, *, below: int | None = None) -> None:
    """Take a task back.

    Args:
        folder: of the study.
        stem: of the task.
        below: only attempts before this one; all if None.

    Raises:
        StorageError: the folder cannot be written.
    """
    # Those that are claimed last: one that is claimed meanwhile is then among them.
    for tasks in (open_tasks, claimed_tasks):
        for file in tasks(folder):
            if file.stem == stem and (below is None or file.attempt < below):
                remove_file(file.path)


def _task_files(place: Path) -> list[TaskFile]:
    found = []
    for name in names_in(place):
        # Others are files that are being written.
        if match := _FILE.fullmatch(name):
            found.append(TaskFile(match["stem"], int(match["attempt"]), match["worker"] or "", place / name))
    return sorted(found)


def _read_task(path: Path, version: str) -> Task | None:
    """Return a task that waits; None if another worker has just taken it."""
    text = text_of(path)
    if text is None:
        return None
    try:
        document = load_json(text)
    except ValueError:
        raise PlanError(
            "is damaged: it is not JSON; remove the file, and start tumorseg tune again", file=path
        ) from None
    require_version(document, path, version)
    return parse_record(Task, document, source=str(path), error=PlanError)


def _is_renamed(source: Path, target: Path) -> bool:
    """Rename a file, unless another process was first."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        source.rename(target)
    except FileNotFoundError:
        # A network drive that repeats a request finds that it was done already.
        return target.exists()
    except OSError as failure:
        raise storage_error(target, failure) from failure
    return True
