"""The data files that a MetaImage or NRRD header names: a case's bytes are theirs too.

References:
    MetaIO's documentation: `ElementDataFile` is LOCAL, a name, LIST with names to follow, or a pattern with its numbers.
    The NRRD format, `data file`: a name, LIST with names to follow, or a pattern with its numbers.
"""

import re
from collections.abc import Iterator, Sequence
from itertools import islice, takewhile
from pathlib import Path

from tumorseg.errors import InputError
from tumorseg.storage.formats.header_text import header_lines

ENDINGS = (".mhd", ".mha", ".nrrd")
"""Of files whose header may name others."""
KEYS = ("elementdatafile", "data file", "datafile")
NRRD = "NRRD"
LOCAL = "local"
NUMBERED = re.compile(r"[^%]*%0?\d{0,2}[di][^%]*")
"""A pattern of file names with one number in it."""
# A slip in a pattern's last number must not fill memory with names.
MOST_FILES = 10_000


def data_files(path: str) -> list[str]:
    """Return the files beside a header that hold its voxels; none where it holds them itself or cannot be read.

    Raises:
        InputError: the header names a file outside its own folder, or numbers files in no sensible way.
    """
    if not path.lower().endswith(ENDINGS):
        return []
    try:
        names = list(_names(path))
    except OSError:
        return []
    for name in names:
        if not name or Path(name).is_absolute() or ".." in Path(name).parts or "\\" in name:
            raise InputError(
                f"found the data file {name[:80]!r}, expected one beside the header; move it there", file=path
            )
    return [str(Path(path).parent / name) for name in names]


def _names(path: str) -> Iterator[str]:
    lines = _header_lines(path)
    for line in lines:
        # NRRD separates by a colon, MetaImage by either sign.
        key, _, value = line.replace(":", "=", 1).partition("=")
        if key.strip().lower() not in KEYS:
            continue
        words = value.split()
        if not words or words[0].lower() == LOCAL:
            return
        if words[0].upper() == "LIST":
            yield from _listed(path, lines)
        elif "%" in words[0] and len(words) >= 3:
            yield from _numbered(path, words)
        else:
            yield value.strip()
        return


def _listed(path: str, lines: Iterator[str]) -> list[str]:
    """Return the names that follow, up to the end of the header."""
    names = list(islice(takewhile(bool, lines), MOST_FILES + 1))
    # Of none the header's own file would be taken for the data.
    if not 0 < len(names) <= MOST_FILES:
        found = "no data file" if not names else f"more than {MOST_FILES} data files"
        raise InputError(f"found {found} in its LIST, expected a name a line; mend the header", file=path)
    return names


def _numbered(path: str, words: Sequence[str]) -> list[str]:
    """Return the names that a pattern, its first and last number and the step between them stand for."""
    try:
        # The step may be left out; what makes no sense gives no numbers, thus no files, and is refused below.
        numbers = [int(word) for word in words[1:4]]
    except ValueError:
        numbers = []
    step = numbers[2] if len(numbers) > 2 else 1
    count = (numbers[1] - numbers[0]) // step + 1 if numbers and step else 0
    if not NUMBERED.fullmatch(words[0]) or not 0 < count <= MOST_FILES:
        raise InputError(
            f"found the data files {' '.join(words)[:80]!r}, expected a name such as slice%03d.raw, its first and last "
            "number, and the step; mend the header",
            file=path,
        )
    return [words[0] % (numbers[0] + step * number) for number in range(count)]


def _header_lines(path: str) -> Iterator[str]:
    """Yield the lines of a header's text; an empty one ends that of NRRD."""
    is_nrrd = False
    for number, (line, _) in enumerate(header_lines(path)):
        is_nrrd = is_nrrd or (number == 0 and line.startswith(NRRD))
        if is_nrrd and not line.strip():
            return
        yield line.strip()
