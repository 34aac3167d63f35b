"""The text at the head of NRRD and MetaImage files, and the numbers and units in it."""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

from tumorseg.errors import InputError

# Voxels without a line end must not be read whole in search of one.
MOST_HEADER_BYTES = 1 << 24
LARGEST = 2**62
"""Integer that a header may hold; positions in files, too, have 64 bits."""
FARTHEST = 1e30
"""Number that is taken for a finite one: what is computed of such is finite as well."""
MILLIMETRES = {
    "": 1.0,
    "?": 1.0,
    "???": 1.0,
    "none": 1.0,
    "mm": 1.0,
    "millimeter": 1.0,
    "millimetre": 1.0,
    "nm": 1e-6,
    "nanometer": 1e-6,
    "nanometre": 1e-6,
    "um": 1e-3,
    "µm": 1e-3,
    "μm": 1e-3,
    "micron": 1e-3,
    "micrometer": 1e-3,
    "micrometre": 1e-3,
    "cm": 10.0,
    "centimeter": 10.0,
    "centimetre": 10.0,
    "dm": 100.0,
    "m": 1000.0,
    "meter": 1000.0,
    "metre": 1000.0,
}
"""Units of length by name, without a plural's s; what is said to be unknown is mm, as everywhere. µ has two code points."""


def header_lines(path: str) -> Iterator[tuple[str, int]]:
    """Yield lines of text from the start of a file, each with the position behind it.

    Raises:
        OSError: the file cannot be read.
    """
    with Path(path).open("rb") as file:
        while (line := file.readline(MOST_HEADER_BYTES)) and file.tell() <= MOST_HEADER_BYTES:
            yield decode(line.rstrip(b"\r\n")), file.tell()


def decode(line: bytes) -> str:
    """Return text of either of the two usual encodings."""
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError:
        return line.decode("latin-1")


def integers(path: str, key: str, text: str, count: int | None = None) -> list[int]:
    """Return the integers of a header's field.

    Raises:
        InputError: they are none, or not so many.
    """
    try:
        # no more of them than show that they are too many
        found = [int(word) for word in text.split(maxsplit=-1 if count is None else count)]
    except ValueError:
        found = []
    if not found or count not in (None, len(found)) or max(map(abs, found)) > LARGEST:
        raise InputError(
            f"found {key} {text[:60]!r}, expected {count or 'one or more'} integers; mend the header", file=path
        )
    return found


def numbers(path: str, key: str, text: str, count: int, *, may_be_nan: bool = False) -> list[float]:
    """Return the finite numbers of a header's field.

    Args:
        path: of the file.
        key: of the field, for messages.
        text: its value.
        count: of the numbers.
        may_be_nan: whether NaN stands for what is not stated.

    Raises:
        InputError: they are none, or not so many, or not finite.
    """
    try:
        found = [float(word) for word in text.replace(",", " ").split(maxsplit=count)]
    except ValueError:
        found = []
    if len(found) != count:
        raise InputError(f"found {key} {text[:60]!r}, expected {count} numbers; mend the header", file=path)
    if not all(abs(number) <= FARTHEST or (may_be_nan and math.isnan(number)) for number in found):
        fault = f"found {key} {text[:60]!r}, expected {count} finite numbers; mend the header"
        raise InputError(fault, file=path, kind="bad_affine")
    return found


def millimetres(path: str, key: str, units: Sequence[str]) -> list[float]:
    """Return what units of length are in mm.

    Raises:
        InputError: a unit is none of length.
    """
    found = []
    for unit in units:
        name = unit.strip()
        plain = name.casefold()
        is_word = len(plain) > 3
        factor = MILLIMETRES.get(plain.removesuffix("s") if is_word else plain)
        # Mm is no millimetre; words may be in capitals; casefold() turns the micro sign into the Greek letter
        if factor is None or not (is_word or name in (plain, "MM", "µm")):
            raise InputError(
                f"found {key} {name[:40]!r}, expected a unit of length, such as mm or um; mend the header", file=path
            )
        found.append(factor)
    return found
