"""What every layout needs of the file system: files that exist, stay inside their folder, and errors that list them all."""

import logging
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any, NamedTuple

from tumorseg.errors import InputError
from tumorseg.ops.labels import count_values
from tumorseg.schema.base import parse_record
from tumorseg.schema.dataset import Case, ChannelKind, Dataset, repeated_values
from tumorseg.storage.images import (
    ENDINGS,
    FLAT_ENDINGS,
    knows_names_only,
    read_label_names,
    read_segmentation,
    strip_ending,
)
from tumorseg.storage.json_files import read_json
from tumorseg.workers.machine import num_cores

logger = logging.getLogger(__name__)

CHANNEL_SUFFIX = re.compile(r"^(.+)_(\d{4})$")
"""`<id>_<channel number>`, as nnU-Net writes it."""
MOST_VALUES = 1000
"""Different values in one file above which it is no label map but an image; its case fails when it is read."""
MOST_THREADS = 4
"""Label files that are read at once."""


class Listing(NamedTuple):
    """What a folder offers to predict on or to score: more cases than its dataset where test cases lie beside it."""

    channels: tuple[str, ...]
    """Names, in the order of each case's images."""
    cases: tuple[Case, ...]
    is_named: bool = True
    """Whether the channels' names are the dataset's own; else only their number counts."""
    kinds: tuple[ChannelKind | None, ...] = ()
    """Of the channels, where files say so."""


def folder_name(folder: Path) -> str:
    """Return the name that a user knows a folder by; `.` and `..` are resolved, links are not."""
    return Path(os.path.abspath(folder)).name  # noqa: PTH100 (Path.resolve would follow links)


def visible(entries: Iterable[Path]) -> list[Path]:
    """Return a folder's entries sorted by name, without hidden ones (macOS leaves `._name` beside every file)."""
    return sorted(entry for entry in entries if not entry.name.startswith("."))


def image_files(folder: Path) -> list[Path]:
    """Return the image files directly in a folder, sorted by name; none where there is no such folder.

    Pictures beside volumes are thumbnails or plots, and left out.
    """
    if not folder.is_dir():
        return []
    found = [entry for entry in visible(folder.iterdir()) if strip_ending(entry.name) is not None and entry.is_file()]
    return [path for path in found if not path.name.lower().endswith(FLAT_ENDINGS)] or found


def image_id(path: Path) -> str:
    """Return an image file's name without its ending."""
    return strip_ending(path.name) or path.name


def split_channel(stem: str) -> tuple[str, int] | None:
    """Return id and channel number of a name `<id>_0000`, or None."""
    match = CHANNEL_SUFFIX.match(stem)
    return (match[1], int(match[2])) if match else None


def discover_labels(cases: Iterable[Case]) -> dict[str, int]:
    """Return a name, `label_<value>`, for every value in the label files; one that cannot be read fails with its case.

    Every file is read, several at once. The names of DICOM labels, sorted, get values from 1 on.

    Raises:
        InputError: some labels are numbers, others names.
    """
    from tumorseg.storage import nifti  # noqa: F401 (it hides pydicom while it is imported, which no thread may see)

    pool = ThreadPoolExecutor(min(num_cores(), MOST_THREADS))
    try:
        found = set().union(*pool.map(_labels_in, cases))
    finally:
        pool.shutdown(cancel_futures=True)
    names = sorted(label for label in found if isinstance(label, str))
    values = sorted(label for label in found if isinstance(label, int) and label != 0)
    if names and values:
        raise InputError(
            f"found labels with names ({', '.join(names[:5])}; DICOM) and labels with values ({values[:5]}); expected "
            "the manifest to state which is which; add `labels`"
        )
    named = {name: value for value, name in enumerate(names, start=1)}
    return {"background": 0} | named | {f"label_{value}": value for value in values}


def _labels_in(case: Case) -> set[str | int]:
    """Return the names or values in a case's label files; none where they cannot be read."""
    if case.label is None:
        return set()
    try:
        if knows_names_only(case.label):
            return set(read_label_names(case.label_files))
        values: set[str | int] = set(count_values(read_segmentation(case.label).array)[0])
        return values if len(values) <= MOST_VALUES else set()
    except InputError:
        return set()


def find_image(folder: Path, stem: str) -> Path | None:
    """Return the image file of a name without ending, or None."""
    candidates = (folder / f"{stem}{ending}" for ending in ENDINGS)
    return next((path for path in candidates if path.is_file()), None)


def dataset_json(folder: Path) -> dict[str, Any]:
    """Return the content of a folder's dataset.json, empty where there is none.

    Raises:
        InputError: the file is not JSON, or not an object.
    """
    path = folder / "dataset.json"
    if not path.is_file():
        return {}
    content = read_json(path, InputError)
    if not isinstance(content, dict):
        raise InputError(f"{path}: found a JSON {type(content).__name__}, expected an object; mend the file")
    return content


def confined_file(folder: Path, stated: str) -> Path:
    """Return the file that a dataset.json names, if it lies in the dataset's folder, links followed.

    Whether it is there shows when its case is read, so that one missing file does not stop the other cases.

    Args:
        folder: the dataset; may itself be a link.
        stated: path relative to it.

    Raises:
        InputError: the path is empty or absolute, has `..`, or leads outside by a link.
    """
    path = Path(stated)
    if not stated or path.is_absolute() or ".." in path.parts or "\\" in stated or "\0" in stated:
        raise InputError(
            f"found the path {stated!r}, expected one inside {folder}; move the file there, or write a manifest"
        )
    if not _stays_inside(folder, folder / path):
        raise InputError(f"{stated!r} is a link that leaves {folder}; put the file itself there, or write a manifest")
    return folder / path


def _stays_inside(folder: Path, path: Path) -> bool:
    try:
        return path.resolve().is_relative_to(folder.resolve())
    except (OSError, RuntimeError):  # a loop of links
        return False


class Collected(NamedTuple):
    """What sources found wrong while `collecting`."""

    lines: list[str]
    """One problem each."""
    closed: set[str]
    """Ids of cases that name files which must not be opened."""


_collected: ContextVar[Collected | None] = ContextVar("collected", default=None)


@contextmanager
def collecting() -> Iterator[Collected]:
    """Let sources read what is sound of a dataset and yield what is not, instead of refusing the whole for one case."""
    token = _collected.set(Collected([], set()))
    try:
        yield _collected.get() or Collected([], set())
    finally:
        _collected.reset(token)


def note_or_warn(problem: str) -> None:
    """Tell of a fault that does not stop the dataset from being read: to who is `collecting`, else as a warning."""
    if (collected := _collected.get()) is not None:
        collected.lines.append(problem)
    else:
        logger.warning("%s", problem)


class Problems:
    """Collects what is wrong with a dataset, so that one error names everything."""

    def __init__(self, source: Path) -> None:
        self._source = source
        self._lines: list[str] = []

    def add(self, problem: object, *, closes: str | None = None) -> None:
        """Note one problem, an error or a sentence, and perhaps the id of a case whose files must not be opened."""
        self._lines.append(str(problem))
        if closes is not None and (collected := _collected.get()) is not None:
            collected.closed.add(closes)

    def confined_file(self, folder: Path, stated: str, *, case_id: str) -> str:
        """Return `confined_file`'s path as text; a failure is noted, and the path returned as stated."""
        try:
            return str(confined_file(folder, stated))
        except InputError as error:
            self.add(f"case {case_id}: {error}", closes=case_id)
            return stated

    def check(self) -> None:
        """Raise what was collected, one line a problem.

        Raises:
            InputError: there was a problem, and nobody is `collecting` them.
        """
        if (collected := _collected.get()) is not None:
            collected.lines.extend(self._lines)
            self._lines.clear()
            return
        if len(self._lines) == 1:
            raise InputError(f"{self._source}: {self._lines[0]}")
        if self._lines:
            listed = "".join(f"\n  {line}" for line in self._lines)
            raise InputError(f"{self._source}: {len(self._lines)} problems{listed}")


def build_dataset(source: Path, cases: Sequence[Case], **description: Any) -> Dataset:
    """Return a valid dataset, its cases sorted by id, so that it does not depend on the order of a listing.

    Raises:
        InputError: there is no case, or a field is wrong; the message starts with `source`.
    """
    if not cases:
        raise InputError(f"{source}: found no case, expected at least one; check that the images are in place")
    ordered = sorted(cases, key=lambda case: case.case_id)
    if (collected := _collected.get()) is not None:
        ordered = _without_repeated(ordered, collected)
    return parse_record(Dataset, {"cases": ordered, **description}, source=str(source), error=InputError)


def _without_repeated(cases: Sequence[Case], collected: Collected) -> list[Case]:
    """Return the first case of each id; the others are noted."""
    for case_id in repeated_values(case.case_id for case in cases):
        collected.lines.append(f"case {case_id}: found twice in the dataset, expected once; rename or remove one")
    return list({case.case_id: case for case in reversed(cases)}.values())[::-1]


def build_case(source: Path, **fields: Any) -> Case:
    """Return a valid case.

    Raises:
        InputError: a field is wrong, such as an id that cannot be a file name, and nobody is `collecting`.
    """
    try:
        return parse_record(Case, fields, source=str(source), error=InputError)
    except InputError as error:
        if (collected := _collected.get()) is None:
            raise
        given = str(fields.get("case_id", ""))
        named = {**fields, "case_id": re.sub(r"[^\w.-]+", "_", given).strip("._-") or "unnamed"}
        case = parse_record(Case, named, source=str(source), error=InputError)
        collected.lines.append(
            f"case {case.case_id}: found the id {given!r}, expected one that can be a file's name; {error}"
        )
        collected.closed.add(case.case_id)
        return case
