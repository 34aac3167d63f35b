"""Labels that only their side tells apart: mirrored across it, they would become each other."""

import re
from collections import defaultdict
from collections.abc import Iterable
from typing import NamedTuple

SIDES = (("left", "right"), ("lt", "rt"), ("l", "r"), ("lh", "rh"), ("sin", "dex"), ("sinister", "dexter"))
"""Words for the two sides."""
GLUED = ("left", "right")
"""Words long enough to be told within another one: `leftkidney`, `KIDNEYRIGHT`."""


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
    for position, word in enumerate(words):
        others = [*words[:position], *words[position + 1 :]]
        for pair, sides in enumerate(SIDES):
            if word in sides:
                yield _Reading(pair, word == sides[1], "".join(sorted(others)))
        for side in GLUED:
            for rest in {word.removeprefix(side), word.removesuffix(side)} - {word, ""}:
                yield _Reading(0, side == "right", "".join(sorted([*others, rest])))


def _words(name: str) -> list[str]:
    """Split at punctuation and at capitals: `LeftKidney`, `LKidney`, `kidney_L` and `l-kidney` all show their side."""
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", " ", name)
    return [word for word in re.split(r"[^a-z0-9]+", spaced.casefold()) if word]
