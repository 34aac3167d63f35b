"""The folder of a study that refines a plan: the name of every file, and what says which study it is.

All that its coordinator and its workers, perhaps on other machines, have to say to each other lies here; `study_tasks`,
`study_attempts` and `study_workers` write it.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tumorseg.errors import PlanError, StorageError
from tumorseg.schema.base import parse_record
from tumorseg.schema.tuning import STUDY_VERSION, Study
from tumorseg.storage.atomic import remove_file, write_text
from tumorseg.storage.json_files import read_json, write_record
from tumorseg.storage.layout import FoldFolder

if TYPE_CHECKING:
    # The records of a plan take longer to import than everything else here.
    from tumorseg.schema.plan import Plan


@dataclass(frozen=True)
class AttemptFolder:
    """`<study>/tasks/<stem>/<attempt>`: what one worker has made of a task; no other ever writes there."""

    root: Path
    """The attempt's folder."""

    @property
    def values(self) -> Path:
        """Scores, a line for each rung that the task has reached, those of earlier attempts included."""
        return self.root / "values.jsonl"

    @property
    def ended(self) -> Path:
        """How the worker left the task; written last."""
        return self.root / "ended.json"

    @property
    def fold(self) -> FoldFolder:
        """The training."""
        return FoldFolder(self.root / "fold")


@dataclass(frozen=True)
class StudyFolder:
    """`<work>/<dataset>/studies/<name>`."""

    root: Path
    """The study's folder."""

    @property
    def study(self) -> Path:
        """What the study is; makes the folder one of a study."""
        return self.root / "study.json"

    @property
    def plan(self) -> Path:
        """The plan that is refined."""
        return self.root / "plan.json"

    @property
    def journal(self) -> Path:
        """Optuna's notes of the trials, unless they are in a database."""
        return self.root / "journal.log"

    @property
    def open(self) -> Path:
        """Tasks that wait for a worker."""
        return self.root / "open"

    @property
    def claimed(self) -> Path:
        """Tasks that a worker has taken."""
        return self.root / "claimed"

    @property
    def workers(self) -> Path:
        """A counter for each worker that lives, and what those on the coordinator's machine had to say."""
        return self.root / "workers"

    @property
    def tasks(self) -> Path:
        """Attempts at all tasks."""
        return self.root / "tasks"

    @property
    def closed(self) -> Path:
        """There once the study is over."""
        return self.root / "closed"

    @property
    def result(self) -> Path:
        """What the study found."""
        return self.root / "tuning.json"

    @property
    def report(self) -> Path:
        """The same as a page to be read."""
        return self.root / "report.html"

    @property
    def trials(self) -> Path:
        """The trials so far, for those who watch."""
        return self.root / "trials.json"

    @property
    def state(self) -> Path:
        """What the coordinator has to know again: time, and how far the honest end is."""
        return self.root / "state.json"

    @property
    def environment(self) -> Path:
        """Versions, machine and git state with which the study was begun."""
        return self.root / "environment.json"

    @property
    def tracking(self) -> Path:
        """What the process that mirrors the study to MLflow had to say."""
        return self.root / "tracking.log"

    def beat(self, worker: str) -> Path:
        """Return the counter of a worker; a worker's name has no dot, other files there have."""
        return self.workers / worker

    def log(self, number: int) -> Path:
        """Return what the coordinator's own workers of a number, one after the other, had to say."""
        return self.workers / f"local-{number}.log"

    def task(self, stem: str) -> Path:
        """Return the folder of all attempts at a task."""
        return self.tasks / stem

    def stop(self, stem: str) -> Path:
        """Return the flag that tells a worker to leave a task."""
        return self.task(stem) / "stop"

    def attempt(self, stem: str, number: int) -> AttemptFolder:
        """Return the folder of one attempt at a task."""
        return AttemptFolder(self.task(stem) / str(number))

    def is_there(self) -> bool:
        """Return whether the folder holds a study."""
        return self.study.is_file()

    def is_closed(self) -> bool:
        """Return whether the study is over, so that workers leave."""
        return self.closed.exists()


def begin_study(folder: StudyFolder, study: Study, plan: "Plan") -> None:
    """Write what a study is.

    Raises:
        StorageError: the folder cannot be written.
    """
    write_record(folder.plan, plan)
    # Last: it makes the folder a study.
    write_record(folder.study, study)


def read_study(folder: StudyFolder, version: str) -> Study:
    """Return what a study is.

    Args:
        folder: of the study.
        version: of tumorseg that runs now.

    Raises:
        PlanError: the folder holds none, or one of another version of tumorseg, or its file is damaged.
    """
    if not folder.is_there():
        raise PlanError(
            f"is no study's folder: expected {folder.study.name} in it, which tumorseg tune -p PLAN writes; check the path",
            file=folder.root,
        )
    document = read_json(folder.study, PlanError)
    require_version(document, folder.study, version)
    return parse_record(Study, document, source=str(folder.study), error=PlanError)


def require_version(document: Any, path: Path, version: str) -> None:
    """See that a study or a task was written by this version of tumorseg: another one may train and score otherwise.

    Args:
        document: what the file holds.
        path: the file, for the message.
        version: of tumorseg that runs now.

    Raises:
        PlanError: it was not.
    """
    fields = document if isinstance(document, dict) else {}
    found = (fields.get("tumorseg_version"), fields.get("version"))
    if found != (version, STUDY_VERSION):
        raise PlanError(
            f"was written by tumorseg {found[0]} (study files of version {found[1]}), and this is tumorseg {version} (version "
            f"{STUDY_VERSION}); use that one, or begin another study with --study NAME",
            file=path,
        )


def close_study(folder: StudyFolder) -> None:
    """Tell the workers that the study is over.

    Raises:
        StorageError: the folder cannot be written.
    """
    write_text(folder.closed, "")


def reopen_study(folder: StudyFolder) -> None:
    """Let workers wait for tasks again.

    Raises:
        StorageError: the folder cannot be written.
    """
    remove_file(folder.closed)


def names_in(folder: Path) -> list[str]:
    """Return the names in a folder of a study that need not be there.

    Raises:
        StorageError: it cannot be listed.
    """
    try:
        return os.listdir(folder)  # noqa: PTH208 (names alone)
    except FileNotFoundError:
        return []
    except OSError as failure:
        raise StorageError(f"cannot be listed ({failure.strerror}); check the drive", file=folder) from failure


def text_of(path: Path) -> str | None:
    """Return what a file holds, or None if another process has just removed it.

    Raises:
        StorageError: it cannot be read, or is not UTF-8.
    """
    try:
        return path.read_text("utf-8")
    except FileNotFoundError:
        return None
    except UnicodeDecodeError as failure:
        raise StorageError(
            f"found bytes that are not UTF-8 at position {failure.start}; remove the file", file=path
        ) from None
    except OSError as failure:
        raise StorageError(f"cannot be read ({failure.strerror}); check the drive", file=path) from failure
