"""DICOM files as files: which of a folder are DICOM, and how they are opened.

pydicom is imported only when a DICOM file is met.

References:
    DICOM PS3.10, section 7.1 (the preamble), and PS3.4, annex B.5 (the classes of stored objects).
"""

import logging
import os
import warnings
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

from tumorseg.errors import InputError
from tumorseg.schema.dataset import Case, ImageFile
from tumorseg.storage.damage import of_pydicom
from tumorseg.storage.dicom.deflated import HeldBackReader, read_deflated
from tumorseg.storage.formats.detached import data_files
from tumorseg.storage.formats.library_logs import warnings_lock
from tumorseg.storage.formats.signatures import check_is_file
from tumorseg.storage.formats.stored import damaged

KIND = "DICOM"
_lock = warnings_lock  # pydicom, logging and warnings are told process-wide what to let pass
_STORAGE = "1.2.840.10008.5.1.4.1.1."
IMAGE_CLASSES = {_STORAGE + end for end in ("2", "2.1", "2.2", "4", "4.1", "4.4", "128", "128.1", "130")}
"""CT, MR and PET: one file per slice, enhanced (all slices in a file), and converted to enhanced."""
SEGMENTATION_CLASSES = {_STORAGE + end for end in ("66.4", "66.7")}
"""Segmentation and label map."""
CONTOUR_CLASS = _STORAGE + "481.3"
"""RTSTRUCT."""
LABEL_CLASSES = SEGMENTATION_CLASSES | {CONTOUR_CLASS}
DIRECTORY_CLASS = "1.2.840.10008.1.3.10"
"""DICOMDIR."""
MAGIC = b"DICM"
BARE_STARTS = (b"\x08\x00", b"\x02\x00")
"""How old files begin that have neither preamble nor magic: with an element of group 8, or 2."""
BARE_ENDINGS = (".dcm", ".dicom", ".ima")
"""What such a file must be called to be taken for DICOM."""
DIRECTORY_NAME = "dicomdir"
"""What the table of contents of a disc is called, whatever the case of letters."""
MOST_LOOKED_INTO = 16
"""Files of one folder that are opened at first to tell whether it holds DICOM."""
MOST_FOLDERS = 2048
"""Folders that are looked at for it, those further up first: more than the viewer of a disc has."""
MOST_OPENED = 4096
"""Files that are opened for it in all."""
OTHER_ENDINGS = (
    ".txt", ".md", ".csv", ".tsv", ".json", ".xml", ".yaml", ".html", ".htm", ".css", ".js", ".pdf", ".rtf", ".zip", ".gz", ".tar", ".7z",
    ".cab", ".py", ".exe", ".dll", ".msi", ".inf", ".ini", ".cfg", ".bat", ".cmd", ".sh", ".jar", ".class", ".so", ".dylib", ".chm", ".hlp",
    ".ico", ".bmp", ".gif", ".svg", ".ttf", ".wav", ".mp4", ".avi", ".log", ".db", ".properties", ".lnk", ".url", ".manifest",
)  # fmt: skip
"""How files are called that are never opened for it: those of viewers and their installers, and what lies beside data."""


def is_dicom_file(path: Path) -> bool:
    """Tell whether a file is DICOM by its first bytes."""
    try:
        with path.open("rb") as file:
            start = file.read(132)
    except OSError:
        return False
    is_bare = start[:2] in BARE_STARTS and len(start) == 132 and path.name.lower().endswith(BARE_ENDINGS)
    return start[128:] == MAGIC or is_bare


def walk_files(folder: Path) -> Iterator[Path]:
    """Yield the visible files in and below a folder, in the order of their names. Links are followed, loops are not.

    Raises:
        InputError: a folder cannot be read.
    """
    if folder.is_dir():
        yield from _walk(str(folder), set())


def _walk(folder: str, seen: set[tuple[int, int]]) -> Iterator[Path]:
    for entry in _entries(folder, seen):
        if _is_folder(entry):
            yield from _walk(entry.path, seen)
        elif _is_file(entry) or _was_file(entry):
            yield Path(entry.path)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _is_file(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_file()
    except OSError:
        return False


def _was_file(entry: os.DirEntry[str]) -> bool:
    """Tell whether an entry that is neither file nor folder is a link that leads nowhere, and named like a slice: it must be missed."""
    return entry.is_symlink() and entry.name.lower().endswith(BARE_ENDINGS)


def _entries(folder: str, seen: set[tuple[int, int]]) -> list[os.DirEntry[str]]:
    """Return the visible entries of a folder in the order of their names; none where it was seen before."""
    try:
        state = os.stat(folder)  # noqa: PTH116 (texts, by the thousand)
        if (state.st_dev, state.st_ino) in seen:
            return []
        seen.add((state.st_dev, state.st_ino))
        with os.scandir(folder) as found:
            visible = [entry for entry in found if not entry.name.startswith(".")]
        return sorted(visible, key=lambda entry: entry.name)
    except OSError as error:
        raise InputError(f"cannot be read ({error.strerror}); allow it, or move the folder away", file=folder) from None


def parts_of(file: ImageFile) -> list[str]:
    """Return the files that an image is made of: itself and those that it names, the named ones in its folder, or all in its folder."""
    folder = Path(file.path)
    if file.parts:
        return [str(folder / part) for part in file.parts]
    return [str(path) for path in walk_files(folder)] or [file.path, *data_files(file.path)]


def label_parts_of(case: Case) -> list[str]:
    """Return the files of a case's reference; a folder stands for all files in it."""
    parts: list[str] = []
    for path in case.label_files:
        parts += parts_of(ImageFile(path=path))
    return parts


@contextmanager
def reading(path: str) -> Iterator[None]:
    """Read DICOM in this block: values that break the standard pass, what cannot be read is an error that names the file.

    Raises:
        InputError: pydicom gave up.
    """
    try:
        with lenient():
            # pydicom only warns of a file that was cut off, and would hand over what is left of it.
            warnings.filterwarnings("error", "End of file reached")
            yield
    # An InputError is a ValueError, and would be wrapped in another below.
    except InputError:
        raise
    except of_pydicom() as error:
        raise damaged(path, KIND, error) from None


@contextmanager
def lenient() -> Iterator[None]:
    """Let values that break the standard pass in this block, without a word, as they come from scanners and are kept."""
    from pydicom.config import disable_value_validation

    _lock.acquire()
    log = logging.getLogger("pydicom")
    level = log.level
    log.setLevel(logging.CRITICAL)
    try:
        with disable_value_validation(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(level)
        _lock.release()


def read_dataset(path: str, *, has_pixels: bool = True, tags: Sequence[str] | None = None) -> Any:
    """Return a file as a pydicom Dataset whose transfer syntax is known. To be called in `reading`.

    Raises:
        InputError: the file is missing or no DICOM.
    """
    import pydicom

    check_is_file(path)
    if not is_dicom_file(Path(path)):
        raise InputError("is no DICOM file; expected one; remove it, or convert it", file=path)
    wanted = None if tags is None else list(tags)
    # `force` because old files have no preamble; the first bytes were looked at above.
    with HeldBackReader(path) as file:
        dataset = pydicom.dcmread(file, stop_before_pixels=not has_pixels, specific_tags=wanted, force=True)
        packed = file.packed
    if packed is not None:
        dataset = read_deflated(path, dataset, packed, has_pixels=has_pixels, tags=tags)
    if "TransferSyntaxUID" not in dataset.file_meta:
        if "SOPClassUID" not in dataset:
            raise damaged(path, KIND, "the header ends early")
        # The standard's default, in which files were written before they had to say so.
        dataset.file_meta.TransferSyntaxUID = pydicom.uid.ImplicitVRLittleEndian
    return dataset


def holds_dicom(folder: Path, other_endings: Iterable[str]) -> bool:
    """Tell whether DICOM lies in or below a folder, looking into a few files of each, then into the others.

    On a patient's disc the viewer may have hundreds of files that come first by name.

    Args:
        folder: where to look.
        other_endings: names of further files that need not be opened.
    """
    endings = (*other_endings, *OTHER_ENDINGS)
    num_opened, others = 0, list[Path]()
    for files in islice(_walk_by_level(folder), MOST_FOLDERS):
        likely = sorted((path for path in files if not path.name.lower().endswith(endings)), key=_unlikelihood)
        others += likely[MOST_LOOKED_INTO:]
        num_opened += min(len(likely), MOST_LOOKED_INTO)
        if any(is_dicom_file(path) for path in likely[:MOST_LOOKED_INTO]):
            return True
        if num_opened >= MOST_OPENED:
            return False
    return any(is_dicom_file(path) for path in others[: MOST_OPENED - num_opened])


def _unlikelihood(path: Path) -> tuple[int, str]:
    """Return by what files are sorted that may be DICOM: a disc's directory first, then by endings of DICOM, none, or of numbers."""
    name = path.name.lower()
    if name == DIRECTORY_NAME or name.endswith(BARE_ENDINGS):
        return (name != DIRECTORY_NAME, name)
    return (2 if not path.suffix or path.suffix[1:].isdecimal() else 3, name)


def _walk_by_level(folder: Path) -> Iterator[list[Path]]:
    """Yield the visible files of a folder, then those of each folder in it, and so on. Links are followed, loops are not."""
    seen: set[tuple[int, int]] = set()
    waiting = deque([str(folder)])
    while waiting:
        entries = _entries(waiting.popleft(), seen)
        waiting.extend(entry.path for entry in entries if _is_folder(entry))
        yield [Path(entry.path) for entry in entries if _is_file(entry)]


def common_folder(paths: Sequence[str]) -> str:
    """Return the folder that holds files, itself or in folders of its own."""
    return os.path.commonpath([os.path.dirname(path) for path in paths])  # noqa: PTH120 (texts, by the thousand)
