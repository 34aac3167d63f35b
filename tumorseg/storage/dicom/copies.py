"""Planes of a DICOM series that are stored twice, and what sets others apart that lie in one place.

A copy of a file, whole or with another header around the same pixels of the same instance, adds nothing and counts once. Echoes, phases
and repeated acquisitions are volumes of their own.
"""

import filecmp
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tumorseg.errors import InputError
from tumorseg.storage.dicom.files import read_dataset, reading
from tumorseg.storage.dicom.frames import Frame
from tumorseg.storage.dicom.pixels import read_frames

MOST_LISTED = 5
"""Files that a message names at most."""
INSTANCE = "SOPInstanceUID"
SAME_PLACE_MM = 1e-3
"""Planes that are closer lie in one place."""


_Place = tuple[tuple[int, int], tuple[int, ...]]
"""Shape, and first pixel in units of `SAME_PLACE_MM`."""


class Distinct(NamedTuple):
    """The planes of a series, each once."""

    frames: list[Frame]
    copies: dict[str, str]
    """Files that are left out, and which they are copies of."""


def without_copies(frames: Sequence[Frame]) -> Distinct:
    """Return planes without those that are stored a second time; files are compared only where planes lie in one place.

    Raises:
        InputError: pixels that have to be compared are damaged.
    """
    kept: dict[_Place, list[Frame]] = {}
    copies: dict[str, str] = {}
    compared: dict[tuple[str, str], bool] = {}
    for frame in frames:
        there = kept.setdefault(_place_of(frame), [])
        original = next((one for one in there if _is_copy(frame, one, compared)), None)
        if original is None:
            there.append(frame)
        else:
            copies[frame.path] = original.path
    distinct: list[Frame] = []
    for members in kept.values():
        distinct += members
    return Distinct(distinct, copies)


def told_copies(copies: dict[str, str]) -> str:
    """Return a sentence that names files that are copies."""
    listed = ", ".join(f"{copy} (of {original})" for copy, original in list(copies.items())[:MOST_LISTED])
    more = f" and {len(copies) - MOST_LISTED} more" if len(copies) > MOST_LISTED else ""
    return f"found copies of other files of the series, which count once: {listed}{more}; remove them"


def one_place(where: str, frames: Sequence[Frame], num_same: int) -> InputError:
    """Return the error for planes of which several lie in one place.

    Args:
        where: the series.
        frames: the first two in one place.
        num_same: planes in the place of another.
    """
    first, second = frames
    if _is_other_copy(first, second):
        others = " and the others like it" if num_same > 1 else ""
        return InputError(
            f"found {num_same} planes in the place of another, expected one plane a place; {second.path} is a copy of {first.path} "
            f"under another {INSTANCE}; remove it{others}",
            file=where,
        )
    facts, other = dict(first.facts), dict(second.facts)
    differing = _differing(first, second)
    said = ", ".join(f"{name} {facts[name]} and {other[name]}" for name in differing[:MOST_LISTED])
    names = f"frames {first.number + 1} and {second.number + 1} of {first.path}"
    if first.path != second.path:
        names = f"{first.path} and {second.path}"
    return InputError(
        f"found {num_same} planes in the place of another, expected one plane a place; {names} differ in "
        f"{said or 'nothing that their headers say of echo, phase or acquisition'}; are there several phases, echoes or repetitions? give each a "
        "folder of its own",
        file=where,
    )


def _place_of(frame: Frame) -> _Place:
    # Copies state the very same numbers, so that no pair of them is parted by rounding.
    return frame.shape, tuple(int(step) for step in np.rint(frame.origin / SAME_PLACE_MM))


def _differing(first: Frame, second: Frame) -> list[str]:
    """Return which elements that set planes apart say different things."""
    other = dict(second.facts)
    return [name for name, value in first.facts if other.get(name, value) != value and name != INSTANCE]


def _is_other_copy(first: Frame, second: Frame) -> bool:
    """Tell whether planes of two files hold the same values in one place, whatever instance the files state."""
    is_there = first.number == second.number and np.abs(first.origin - second.origin).max() < SAME_PLACE_MM
    if first.path == second.path or not is_there:
        return False
    is_alike = first.scaling == second.scaling and not _differing(first, second)
    return is_alike and np.array_equal(_pixels(first.path), _pixels(second.path))


def _is_copy(frame: Frame, original: Frame, compared: dict[tuple[str, str], bool]) -> bool:
    if frame.path == original.path or frame.number != original.number:
        return False
    pair = (frame.path, original.path)
    # Remembered by file, since files of many frames would be compared once for each of them.
    if pair not in compared:
        compared[pair] = filecmp.cmp(*pair, shallow=False) or _is_same_instance(frame, original)
    return compared[pair]


def _is_same_instance(frame: Frame, original: Frame) -> bool:
    """Tell whether two files state one instance and hold the same values."""
    named = [dict(one.facts).get(INSTANCE) for one in (frame, original)]
    if named[0] is None or named[0] != named[1] or frame.scaling != original.scaling:
        return False
    return np.array_equal(_pixels(frame.path), _pixels(original.path))


def _pixels(path: str) -> NDArray[Any]:
    with reading(path):
        return read_frames(read_dataset(path), path)
