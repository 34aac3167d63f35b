"""Labels that only their side tells apart: mirrored across it, they would become each other."""

import re
from collections import defaultdict
from collections.abc import Iterable
from typing import NamedTuple

SIDES = (
    ("left", "right"),
    ("lt", "rt"),
    ("l", "r"),
    ("lh", "rh"),
    ("sin", "dex"),
    ("sinister", "dexter"),
    ("sinistra", "dextra"),
    ("links", "rechts"),
    ("gauche", "droite"),
)
"""Words for the two sides."""
GLUED = (("left", "right"), ("l", "r"))
"""Words that are told within another one too: `leftkidney`, `KIDNEYR`, `LUL`. A wrong guess costs only mirroring."""
LEAST_REST = 2
"""Letters that must be left beside them: `LV` and `RV` are different organs, not sides of one."""


class _Reading(NamedTuple):
    """A name taken apart at one of its words for a side."""

    pair: int
    is_right: bool
    rest: str
    """The other words' letters, in alphabetical order of the words."""


def mirror_pairs(names: Iterable[str]) -> tuple[tuple[str, str], ...]:
    """Return the (left, right) pairs among names, such as `kidney_left` and `right kidney`."""
    found: dict[tuple[int, str], tuple[list[str], list[str]]] = defaultdict(lambda: ([], []))
    for name in dict.fromkeys(names):
        for reading in set(_readings(name)):
            found[reading.pair, reading.rest][reading.is_right].append(name)
    return tuple(sorted({(left, right) for lefts, rights in found.values() for left in lefts for right in rights}))


def _readings(name: str) -> Iterable[_Reading]:
    words = _words(name)
    for pair, sides in enumerate(SIDES):
        for is_right, side in enumerate(sides):
            if side in words:
                yield _Reading(pair, bool(is_right), "".join(sorted(word for word in words if word != side)))
    for pair, sides in enumerate(GLUED):
        for is_right, side in enumerate(sides):
            for position, word in enumerate(words):
                others = [*words[:position], *words[position + 1 :]]
                for rest in {word.removeprefix(side), word.removesuffix(side)} - {word}:
                    if len(rest) >= LEAST_REST:
                        yield _Reading(-1 if pair else 0, bool(is_right), "".join(sorted([*others, rest])))


def _words(name: str) -> list[str]:
    """Split at punctuation and at capitals: `LeftKidney`, `LKidney`, `kidney_L1` and `l-kidney` all show their side."""
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])|(?<=[A-Za-z])(?=\d)", " ", name)
    return [word for word in re.split(r"[^a-z0-9]+", spaced.casefold()) if word]
