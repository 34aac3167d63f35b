"""Whether the folders of a run can hold it."""

from collections.abc import Iterator
from typing import NamedTuple

from tumorseg.schema.health import Check
from tumorseg.schema.quantities import GB, bytes_text

LEAST_FREE, USUAL_FREE = GB, 10 * GB
"""Below the one, no checkpoint may fit; below the other, a case store."""
LEAST_ENTRIES = 10_000
"""Files that a file system can still hold."""
MOST_SKEW_S = 60.0
"""Between the clock of a file server and this machine's."""


class FolderFacts(NamedTuple):
    """What was found of a folder that is written to."""

    path: str
    """As given; it need not be there yet."""
    failure: str = ""
    """Why nothing can be written there."""
    free_bytes: int | None = None
    """On its disk."""
    free_entries: int | None = None
    """Files that can still be made; None where the file system does not tell."""
    has_locks: bool = True
    """Whether one process sees that another holds a file."""
    has_atomic_rename: bool = True
    """Whether a file can take the place of another."""
    is_case_sensitive: bool = True
    """Whether `a` and `A` are two files."""
    skew_s: float = 0.0
    """How far its clock is ahead of this machine's."""


def check_data_root(path: str, *, is_there: bool, is_readable: bool) -> Check:
    """Return whether datasets can be read by name."""
    if not is_there:
        found, advice = f"{path} is not there", "give --data-root, unless -d names datasets by their path"
        return Check(name="data root", grade="note", found=found, advice=advice)
    if not is_readable:
        advice = "ask for the right to read it"
        return Check(name="data root", grade="blocker", found=f"{path} cannot be read", advice=advice)
    return Check(name="data root", grade="ok", found=path)


def check_work_folder(facts: FolderFacts) -> Iterator[Check]:
    """Yield whether a run can write what it keeps."""
    name = "work folder"
    if facts.failure:
        advice = "ask for the right to write there, or give another --work"
        yield Check(name=name, grade="blocker", found=f"{facts.path}: {facts.failure}", advice=advice)
        return
    if not facts.has_atomic_rename:
        found = f"{facts.path}: a file cannot take the place of another, so that a kill may leave half a file"
        yield Check(name=name, grade="blocker", found=found, advice="give a --work on another file system")
    if not facts.has_locks:
        found = f"{facts.path}: the file system knows no locks"
        yield Check(
            name=name,
            grade="warning",
            found=found,
            advice="never start a command twice at once, or give another --work",
        )
    if not facts.is_case_sensitive:
        advice = "give no two plans or cases names that differ in capitals alone"
        yield Check(name=name, grade="note", found=f"{facts.path}: capitals make no other name", advice=advice)
    if abs(facts.skew_s) > MOST_SKEW_S:
        found = f"{facts.path}: its clock is {facts.skew_s:+.0f} s from this machine's"
        yield Check(
            name=name, grade="note", found=found, advice="set the clocks; ages of files are told by the folder's own"
        )
    yield _check_room(facts)


def _check_room(facts: FolderFacts) -> Check:
    if facts.free_bytes is None:
        return Check(name="disk", grade="note", found=f"{facts.path}: the system does not tell how much is free")
    found = f"{bytes_text(facts.free_bytes)} free for {facts.path}"
    advice = "free disk space, or give a --work on another disk"
    if facts.free_bytes < LEAST_FREE:
        return Check(name="disk", grade="blocker", found=found, advice=advice)
    if facts.free_entries is not None and facts.free_entries < LEAST_ENTRIES:
        found = f"{found}, but only {facts.free_entries} more files"
        return Check(name="disk", grade="warning", found=found, advice=advice)
    if facts.free_bytes < USUAL_FREE:
        return Check(name="disk", grade="warning", found=found, advice=advice)
    return Check(name="disk", grade="ok", found=found)


def check_tracking(uri: str, failure: str) -> Check:
    """Return whether trainings can be mirrored to the database.

    Args:
        uri: where it is.
        failure: why it cannot be written; empty if it can.
    """
    if failure:
        advice = (
            "give --no-mlflow, or --mlflow URI; a training goes on without it, and tumorseg track sends what it missed"
        )
        return Check(name="mlflow", grade="warning", found=f"{uri}: {failure}", advice=advice)
    return Check(name="mlflow", grade="ok", found=uri)
