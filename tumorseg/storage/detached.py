"""The data files that a MetaImage or NRRD header names: a case's bytes are theirs too.

References:
    MetaIO's documentation: `ElementDataFile` is LOCAL, a name, LIST with names to follow, or a pattern with its numbers.
    The NRRD format, `data file`: a name, LIST with names to follow, or a pattern with its numbers.
"""

from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path

from tumorseg.errors import InputError

ENDINGS = (".mhd", ".mha", ".nrrd")
"""Of files whose header may name others."""
KEYS = ("elementdatafile", "data file", "datafile")
MOST_HEADER_BYTES = 1 << 20


def data_files(path: str) -> list[str]:
    """Return the files beside a header that hold its voxels; none where it holds them itself or cannot be read.

    Raises:
        InputError: the header names a file outside its own folder.
    """
    if not path.lower().endswith(ENDINGS):
        return []
    names = list(_names(path))
    for name in names:
        if not name or Path(name).is_absolute() or ".." in Path(name).parts or "\\" in name:
            raise InputError(f"{path}: found the data file {name!r}, expected one beside the header; move it there")
    return [str(Path(path).parent / name) for name in names]


def _names(path: str) -> Iterator[str]:
    lines = _header_lines(path)
    for line in lines:
        key, _, value = line.replace(":", "=", 1).partition("=")
        if key.strip().lower() not in KEYS:
            continue
        words = value.split()
        if words[:1] in ([], ["LOCAL"], ["Local"], ["local"]):
            return
        if words[0].upper() == "LIST":
            yield from takewhile(bool, (line.strip() for line in lines))
        elif "%" in words[0] and len(words) >= 3:
            step = int(words[3]) if len(words) > 3 else 1
            yield from (words[0] % number for number in range(int(words[1]), int(words[2]) + 1, step))
        else:
            yield value.strip()
        return


def _header_lines(path: str) -> Iterator[str]:
    """Yield the lines of a header's text; an empty one ends that of NRRD."""
    try:
        with Path(path).open("rb") as file:
            start = file.read(MOST_HEADER_BYTES)
    except OSError:
        return
    is_nrrd = path.lower().endswith(".nrrd")
    for line in start.split(b"\n"):
        text = line.decode("latin-1").strip()
        if is_nrrd and not text:
            return
        yield text
