"""Files of a layout: they exist, stay inside their folder, and errors list all that is wrong."""

import itertools
import logging
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any, Literal, NamedTuple

from tumorseg.errors import InputError
from tumorseg.schema.base import parse_record
from tumorseg.schema.dataset import Case, ChannelKind, Dataset, name_fault, repeated_values
from tumorseg.schema.wording import shown
from tumorseg.sources.confinement import confined_file, is_fetched
from tumorseg.sources.leaving_out import note_refused
from tumorseg.storage.formats.slicer_segments import LABEL_ENDINGS
from tumorseg.storage.images import ENDINGS, FLAT_ENDINGS, strip_ending
from tumorseg.storage.json_files import read_json

logger = logging.getLogger(__name__)

CHANNEL_SUFFIX = re.compile(r"^(.+)_(\d{4})$")
"""`<id>_<channel number>`, as nnU-Net writes it."""
MOST_LETTERS = 150
"""Of an id that stands for one that cannot be a file's name."""


class Listing(NamedTuple):
    """Cases of a folder to predict on or to score: more than its dataset's where test cases lie beside them."""

    channels: tuple[str, ...]
    """Names, in the order of each case's images."""
    cases: tuple[Case, ...]
    is_named: bool = True
    """Whether the channels' names are the dataset's own; else only their number counts."""
    kinds: tuple[ChannelKind | None, ...] = ()
    """Of the channels, where files say so."""
    lone_labels: tuple[tuple[str, str], ...] = ()
    """Case id and file of the labels whose images are not there."""
    masks: tuple[str, ...] = ()
    """Files that lie among the images and are labels of them."""


def folder_name(folder: Path) -> str:
    """Return the name that a user knows a folder by; `.` and `..` are resolved, links are not."""
    return Path(os.path.abspath(folder)).name  # noqa: PTH100 (Path.resolve would follow links)


def visible(entries: Iterable[Path]) -> list[Path]:
    """Return a folder's entries sorted by name, without hidden ones (macOS leaves `._name` beside every file)."""
    return sorted(entry for entry in entries if not entry.name.startswith("."))


def image_files(folder: Path) -> list[Path]:
    """Return the image files directly in a folder, sorted by name; none where there is no such folder.

    Pictures beside volumes are thumbnails or plots, and left out. What only bears the name of an image, such as a link that leads
    nowhere, counts: its case is to fail, not to be missed.
    """
    if not folder.is_dir():
        return []
    found = [entry for entry in visible(folder.iterdir()) if strip_ending(entry.name) is not None and _is_image(entry)]
    # Without volumes the pictures are the images themselves.
    return [path for path in found if not path.name.lower().endswith(FLAT_ENDINGS)] or found


def _is_image(entry: Path) -> bool:
    """Tell files, broken links and folders from folders that are only called like an image and hold some."""
    if entry.is_dir():
        return not image_files(entry)
    return entry.is_file() or entry.is_symlink()


def image_id(path: Path) -> str:
    """Return an image file's name without its ending."""
    return strip_ending(path.name) or path.name


def split_channel(stem: str) -> tuple[str, int] | None:
    """Return id and channel number of a name `<id>_0000`, or None."""
    match = CHANNEL_SUFFIX.match(stem)
    return (match[1], int(match[2])) if match else None


def is_there(path: Path) -> bool:
    """Tell whether a file or folder exists; a text that can be no path, too long or with a null byte, names none."""
    return os.path.exists(path)  # noqa: PTH110 (Path.exists raises for such)


def find_image(folder: Path, stem: str) -> Path | None:
    """Return the image file of a name without ending, or None; formats of labels alone are passed over."""
    endings = [ending for ending in ENDINGS if ending not in LABEL_ENDINGS]
    return _find_file(folder, stem, endings)


def find_label(folder: Path, stem: str) -> Path | None:
    """Return the label file of a name without ending, or None."""
    return _find_file(folder, stem, ENDINGS)


def find_rivals(folder: Path, stem: str) -> str | None:
    """Return what is wrong where several files of a folder bear one name with different endings, or None."""
    paths = [folder / f"{stem}{ending}" for ending in ENDINGS]
    there = [str(path) for path in paths if path.is_file()]
    if len(there) < 2:
        return None
    return f"found {' and '.join(there)}, expected one; move the others away"


def _find_file(folder: Path, stem: str, endings: Iterable[str]) -> Path | None:
    for ending in endings:
        path = folder / f"{stem}{ending}"
        if path.is_file():
            return path
    return None


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
        raise InputError(f"found {shown(content)}, expected an object, {{…}}; mend the file", file=path)
    return content


Part = Literal["image", "label", "pairing"]
"""What of a case a problem is about: its images, its label, or that one of them is there without the other."""


class Problem(NamedTuple):
    """Something that is wrong with a dataset."""

    reason: str
    """What was found, without the case and the file."""
    case_id: str | None = None
    """Of the case that it is about, or that a file would belong to; None for the dataset as a whole."""
    part: Part | None = None
    """What of it; None for all."""
    is_remark: bool = False
    """Whether the dataset can be read in spite of it."""
    file: str | None = None
    """A file that lies where the layout has no place for it."""

    @property
    def text(self) -> str:
        """Return one line for where the case is named already."""
        return self.reason if self.file is None else f"{self.file}: {self.reason}"

    @property
    def cases(self) -> tuple[str, ...]:
        """Return the id of the case that it is about; a file that has no place belongs to none."""
        return () if self.file is not None or self.case_id is None else (self.case_id,)

    @property
    def line(self) -> str:
        """Return one line, which begins with the case or with the file."""
        prefix = "".join(f"case {case_id}: " for case_id in self.cases)
        return f"{prefix}{self.text}"


class Collected(NamedTuple):
    """Problems that sources found while `collecting`."""

    problems: list[Problem]
    closed: set[str]
    """Ids of cases that name files which must not be opened."""
    renamed: dict[str, str]
    """Id of a case whose own cannot be a file's name, to that one."""


# A context rather than an argument: readers need not know whether one error is to be raised, or all are to be told.
_collected: ContextVar[Collected | None] = ContextVar("collected", default=None)


@contextmanager
def collecting() -> Iterator[Collected]:
    """Let sources read what is sound of a dataset and yield what is not, instead of refusing the whole for one case."""
    collected = Collected([], set(), {})
    token = _collected.set(collected)
    try:
        yield collected
    finally:
        _collected.reset(token)


def note_or_warn(reason: str, *, case_id: str | None = None) -> None:
    """Tell of a fault that does not stop the dataset from being read: to who is `collecting`, else as a warning."""
    problem, collected = Problem(reason, case_id, is_remark=True), _collected.get()
    if collected is not None:
        collected.problems.append(problem)
    else:
        logger.warning("%s", problem.line)


class Problems:
    """Collects what is wrong with a dataset, so that one error names everything."""

    def __init__(self, source: Path, *, allow_outside: bool = False) -> None:
        self._source = source
        # What was downloaded is nobody's own word, so that no leave covers it.
        self._allow_outside = allow_outside and not is_fetched(source)
        self._found: list[Problem] = []

    def add(
        self,
        reason: str,
        *,
        case_id: str | None = None,
        part: Part | None = None,
        file: Path | None = None,
        is_closed: bool = False,
    ) -> None:
        """Note one problem.

        Args:
            reason: what is wrong, without the case and the file.
            case_id: of the case that it is about, where it is about one.
            part: what of it.
            file: one that lies where the layout has no place for it.
            is_closed: whether the case's files must not be opened.
        """
        self._found.append(Problem(reason, case_id, part, file=None if file is None else str(file)))
        if case_id is None:
            return
        note_refused(case_id)
        collected = _collected.get()
        if is_closed and collected is not None:
            collected.closed.add(case_id)

    def confined_file(self, folder: Path, stated: str, *, case_id: str, part: Part = "image") -> str:
        """Return `confined_file`'s path as text; a failure is noted, and the path returned as stated."""
        try:
            return str(confined_file(folder, stated, allow_outside=self._allow_outside))
        except InputError as error:
            self.add(str(error), case_id=case_id, part=part, is_closed=True)
            return stated

    @property
    def are_there(self) -> bool:
        """Return whether something was noted."""
        return bool(self._found)

    def check(self) -> None:
        """Raise what was collected, one line a problem.

        Raises:
            InputError: there was a problem, and nobody is `collecting` them.
        """
        if (collected := _collected.get()) is not None:
            collected.problems.extend(self._found)
            # Handed over: a second check must not tell them again.
            self._found.clear()
        elif len(self._found) == 1:
            raise InputError(self._found[0].line, file=self._source)
        elif self._found:
            lines = [f"  {problem.line}" for problem in self._found]
            raise InputError(f"{len(lines)} problems", file=self._source, lines=lines)


def build_dataset(source: Path, cases: Sequence[Case], **description: Any) -> Dataset:
    """Return a valid dataset, its cases sorted by id, so that it does not depend on the order of a listing.

    Raises:
        InputError: there is no case, or a field is wrong; the message starts with `source`.
    """
    if not cases:
        raise InputError("found no case, expected at least one; check that the images are in place", file=source)
    ordered = sorted(cases, key=lambda case: case.case_id)
    # Two cases of one id would make the record invalid, and hide all that is right with the others.
    if (collected := _collected.get()) is not None:
        ordered = _without_repeated(ordered, collected)
    return parse_record(Dataset, {"cases": ordered, **description}, source=str(source), error=InputError)


def _without_repeated(cases: Sequence[Case], collected: Collected) -> list[Case]:
    """Return the first case of each id; the others are noted."""
    for case_id in repeated_values(case.case_id for case in cases):
        collected.problems.append(Problem("found twice in the dataset, expected once; rename or remove one", case_id))
    # Of equal keys a dict keeps the last value, so that it is filled from the end.
    return list({case.case_id: case for case in reversed(cases)}.values())[::-1]


def build_case(source: Path, **fields: Any) -> Case:
    """Return a valid case. To who is `collecting`, one whose id cannot be a file's name is given another id, and closed.

    Raises:
        InputError: a field is wrong, and nobody is `collecting`.
    """
    given = str(fields.get("case_id", ""))
    if (fault := name_fault(given)) is not None:
        # The id of a table is written in it; any other is the name of a file or folder.
        remedy = "mend it" if source.suffix.lower() in (".csv", ".json") else "rename the file"
        note_refused(given)
        fields["case_id"] = _other_id(source, given, f"the name {fault}; {remedy}")
    return parse_record(Case, fields, source=str(source), error=InputError)


def _other_id(source: Path, given: str, problem: str) -> str:
    """Return an id for a case whose own cannot be a file's name: one that no file is likely to have."""
    if (collected := _collected.get()) is None:
        raise InputError(f"case {shown(given)}: {problem}", file=source)
    stem = re.sub(r"[^\w.-]+", "_", given, flags=re.ASCII).strip("._-")[:MOST_LETTERS] or "unnamed"
    # `~` is in none of the names that the line above makes, and hardly in those that people give.
    names = (f"{stem}~{number}" for number in itertools.count(1))
    case_id = next(name for name in names if name not in collected.renamed)
    collected.renamed[case_id] = given
    collected.problems.append(Problem(f"found {shown(given)}: {problem}", case_id))
    collected.closed.add(case_id)
    return case_id
