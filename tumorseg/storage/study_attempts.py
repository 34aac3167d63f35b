"""Attempts at a task of a study: what a worker answers, line by line, each attempt in a folder of its own."""

import os
from io import FileIO
from pathlib import Path

from tumorseg.errors import StorageError
from tumorseg.schema.base import parse_record
from tumorseg.schema.tuning import Ended, Score, Task
from tumorseg.storage.atomic import storage_error, write_bytes
from tumorseg.storage.json_files import read_record, write_record
from tumorseg.storage.study_folder import AttemptFolder, StudyFolder, names_in


def begun_attempts(folder: StudyFolder, stem: str) -> list[int]:
    """Return the numbers of the attempts at a task that a worker has begun, ascending."""
    return sorted(int(name) for name in names_in(folder.task(stem)) if name.isdigit())


def begin_attempt(folder: StudyFolder, task: Task, number: int) -> tuple[Score, ...]:
    """Make the folder of an attempt, which begins with the lines of those before it.

    With them each file of values is whole, and what a worker wrote that had been given up for lost is either in it or counts nothing.

    Returns:
        The scores of the rungs that earlier attempts have reached.

    Raises:
        StorageError: the folder cannot be written, or a line is damaged.
    """
    found: dict[int, Score] = {}
    for earlier in begun_attempts(folder, task.stem):
        if earlier < number:
            scores, _ = read_scores(folder.attempt(task.stem, earlier).values, 0)
            found.update((score.iteration, score) for score in scores)
    known = []
    for rung in task.rungs:
        # Those before a gap only: the coordinator takes rungs in their order.
        if rung not in found:
            break
        known.append(found[rung])
    write_bytes(folder.attempt(task.stem, number).values, b"".join(map(_line, known)))
    return tuple(known)


def previous_attempt(folder: StudyFolder, stem: str, number: int) -> Path | None:
    """Return the folder of the newest attempt before one that has a checkpoint; None if there is none."""
    for earlier in reversed(begun_attempts(folder, stem)):
        attempt = folder.attempt(stem, earlier)
        # One whose worker died before it trained has nothing to go on from, others before it may have.
        if earlier < number and attempt.fold.latest.is_file():
            return attempt.root
    return None


def checkpoint_time(attempt: AttemptFolder) -> int:
    """Return when the checkpoint of an attempt was written, in ns of its file system; 0 without any."""
    try:
        return attempt.fold.latest.stat().st_mtime_ns
    except OSError:
        return 0


def append_score(path: Path, score: Score) -> None:
    """Add a line to a file of values; it is on the disk when this returns.

    Raises:
        StorageError: the disk is full, or cannot be written.
    """
    try:
        with path.open("ab", buffering=0) as file:
            _write(file, _line(score))
            os.fsync(file.fileno())
    except OSError as failure:
        raise storage_error(path, failure) from failure


def read_scores(path: Path, start: int) -> tuple[list[Score], int]:
    """Return the scores that a file of values has gained; a line that is not finished is left for later.

    Args:
        path: the file; need not be there.
        start: after the bytes that were read before.

    Returns:
        The scores, and where to start the next time.

    Raises:
        StorageError: the file cannot be read, or a line is damaged.
    """
    try:
        with path.open("rb") as file:
            file.seek(start)
            found = file.read()
    except FileNotFoundError:
        return [], start
    except OSError as failure:
        raise StorageError(f"cannot be read ({failure.strerror}); check the drive", file=path) from failure
    whole = found[: found.rfind(b"\n") + 1]
    source = str(path)
    scores = [parse_record(Score, line, source=source, error=StorageError) for line in whole.splitlines()]
    return scores, start + len(whole)


def write_ended(attempt: AttemptFolder, ended: Ended) -> None:
    """Say how a worker has left a task.

    Raises:
        StorageError: the folder cannot be written.
    """
    write_record(attempt.ended, ended)


def read_ended(attempt: AttemptFolder) -> Ended | None:
    """Return how a worker has left a task; None if it has not.

    Raises:
        StorageError: the file is damaged.
    """
    return read_record(Ended, attempt.ended, error=StorageError) if attempt.ended.is_file() else None


def _write(file: FileIO, line: bytes) -> None:
    """Write a whole line: a disk that fills up takes a part of it, and refuses the rest."""
    written = 0
    while written < len(line):
        written += file.write(line[written:])


def _line(score: Score) -> bytes:
    return f"{score.model_dump_json()}\n".encode()
